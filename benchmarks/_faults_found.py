"""What was folded, read back from the store and from the topics, and compared with the truth."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from aiokafka.structs import ConsumerRecord
from msgspec import Struct, field

from benchmarks._faults_truth import Check, Truth, compare, compare_each
from headwater.demo.counts import Folded
from online_models.trends import Trends
from state.clients import redis_client
from state.events import SUBJECT_KINDS, DeadLetter, Outcome
from state.keys import meta_key, subject_key, subject_unit, trends_key, unit_prefix
from state.outbox import NUMBER_HEADER, SOURCE_HEADER
from state.packing import unpack_vector
from state.partition import shard_of
from state.settings import Settings
from state.subject import SubjectRecord, decode_subject
from stream.units import unit_of
from tests.integration.rig import Rig, read_topic

SOURCES = (*SUBJECT_KINDS, "items", "control", "outcomes")
PUBLISHED = ("decisions", "impressions", "clicks", "feedback")
READ_PATIENCE_S = 120.0
CHUNK = 500
SAMPLED_ITEMS = 60
WEIGHT_UNIT = 1_000
EQUAL = 1e-6
Place = tuple[str, int, int]


class _Named(Struct):
    event_id: str = ""


class Log(Struct):
    """What the source topics hold: event ids and how often, bad records, and where each partition ends."""

    ids: Counter[str] = field(default_factory=Counter)
    bad: set[Place] = field(default_factory=set)
    ends: dict[tuple[str, int], int] = field(default_factory=dict)

    def add(self, kind: str, record: ConsumerRecord, truth: Truth) -> None:
        """Take in one record."""
        tp = (kind, record.partition)
        self.ends[tp] = max(self.ends.get(tp, 0), record.offset + 1)
        name = _event_id(record.value)
        if truth.ids.get(name) == kind:  # an outcome has the id of its decision
            self.ids[name] += 1
        elif SOURCE_HEADER not in dict(record.headers):
            self.bad.add((*tp, record.offset))

    def copies(self, truth: Truth) -> Counter[str]:
        """Return topic kind -> records that repeat an event."""
        return Counter({f"{kind}.copies": 0 for kind in PUBLISHED}) + Counter(
            f"{truth.ids[name]}.copies" for name, times in self.ids.items() for _ in range(times - 1)
        )


def _event_id(raw: bytes | None) -> str:
    try:
        return msgspec.json.decode(raw or b"", type=_Named).event_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


async def read_log(rig: Rig, truth: Truth) -> Log:
    """Read every source topic from its beginning to its end, which is where its units stand or after it."""
    log, partitions = Log(), source_partitions(rig.settings)
    async with redis_client(rig.settings, timeout_s=10.0) as redis:
        stored = await stored_offsets(redis, rig.settings, partitions)
    for kind in SOURCES:
        told = sum(1 for of in truth.ids.values() if of == kind)
        folded = sum(at for (of, _), at in stored.items() if of == kind)
        records, _ = await read_topic(rig.settings, kind, _at_least(max(told, folded)), READ_PATIENCE_S)
        for record in records:
            log.add(kind, record, truth)
    return log


def source_partitions(settings: Settings) -> list[tuple[str, int]]:
    """Return every topic-partition a worker reads."""
    counts = dict.fromkeys(SUBJECT_KINDS, settings.shards)
    counts |= {"items": settings.item_shards, "control": 1, "outcomes": settings.lanes}
    return [(kind, partition) for kind, count in counts.items() for partition in range(count)]


def _at_least(wished: int) -> Callable[[Sequence[Any]], bool]:
    return lambda records: len(records) >= wished


def derived(records: Iterable[ConsumerRecord]) -> list[ConsumerRecord]:
    """Return derived messages as consumers take them: each source's numbers only rise within a partition."""
    highest: dict[tuple[bytes, int], int] = {}
    kept = []
    for record in sorted(records, key=lambda one: (one.partition, one.offset)):
        marks = dict(record.headers)
        if SOURCE_HEADER not in marks:
            continue
        source, number = (marks[SOURCE_HEADER], record.partition), int(marks[NUMBER_HEADER])
        if number > highest.get(source, 0):
            highest[source] = number
            kept.append(record)
    return kept


async def check_outcomes(rig: Rig, truth: Truth) -> list[Check]:
    """Compare outcomes and rewards, decision by decision, as a consumer of the topic sees them."""
    expected, decode = truth.outcomes(), msgspec.json.Decoder(Outcome).decode

    def enough(records: Sequence[ConsumerRecord]) -> bool:
        return len({decode(one.value).event_id for one in derived(records)}) >= len(expected)

    records, _ = await read_topic(rig.settings, "outcomes", enough, READ_PATIENCE_S)
    outcomes = [decode(one.value) for one in derived(records)]
    rewards = {
        f"{outcome.event_id} {slot.item_id}": round(WEIGHT_UNIT * slot.reward)
        for outcome in outcomes
        for slot in outcome.slots
    }
    wished = {
        f"{decision_id} {item_id}": round(WEIGHT_UNIT * reward)
        for decision_id, earned in expected.items()
        for item_id, reward in earned.items()
    }
    found = Counter(outcome.event_id for outcome in outcomes)
    return [
        compare("outcomes read back", dict.fromkeys(expected, 1), found),
        compare("slots of outcomes", dict.fromkeys(wished, 1), dict.fromkeys(rewards, 1)),
        compare("rewards of outcomes, thousandths", wished, rewards),
    ]


async def check_dead_letters(rig: Rig, log: Log) -> list[Check]:
    """Compare dead letters with the bad records of the log, place by place."""
    decode = msgspec.json.Decoder(DeadLetter).decode

    def places(records: Sequence[ConsumerRecord]) -> list[Place]:
        letters = [decode(one.value) for one in derived(records)]
        return [(letter.topic, letter.partition, letter.offset) for letter in letters]

    def enough(records: Sequence[ConsumerRecord]) -> bool:
        return log.bad <= set(places(records))

    records, _ = await read_topic(rig.settings, "deadletters", enough, READ_PATIENCE_S)
    found = Counter("-".join(map(str, place)) for place in places(records))
    expected = {"-".join(map(str, place)): 1 for place in log.bad}
    return [compare("dead letters read back", expected, found)]


def check_counters(folded: Folded, truth: Truth, log: Log) -> list[Check]:
    """Compare every counter of the shards and of the lanes."""
    found = Counter(folded.subjects)
    dropped = {f"{k}.copies": found.pop(f"{k}.duplicate", 0) + found.pop(f"{k}.late", 0) for k in PUBLISHED}
    refused = sum(number for name, number in found.items() if name.startswith("refused"))
    own = Counter({name: n for name, n in found.items() if not name.startswith("refused")})
    assert refused == 2 * found["refused"], "every refusal is counted with its reason"
    checks = compare_each(truth.expected(), own, PUBLISHED)
    checks += [_swapped(check) for check in compare_each(log.copies(truth), dropped)]
    closed = truth.expected()["closed.outcome"]
    checks.append(compare("outcomes learnt", {"": closed}, {"": folded.learnt}))
    checks.append(compare("refused", {"": len(log.bad)}, {"": folded.refused}))
    return checks


def _swapped(check: Check) -> Check:
    """Read a count of dropped copies: one too few was folded twice, one too many is lost."""
    return Check(f"{check.name} dropped", check.expected, check.found, check.doubled, check.lost)


async def check_log(redis: Any, settings: Settings, truth: Truth, log: Log) -> list[Check]:
    """Compare the log with what was confirmed, and stored offsets with the ends of the log."""
    kept = {name: min(1, log.ids[name]) for name in truth.ids}
    stored = await stored_offsets(redis, settings, source_partitions(settings))
    return [
        compare("confirmed events in the log", dict.fromkeys(truth.ids, 1), kept),
        compare("records folded", _flat(log.ends), _flat(stored)),
    ]


async def stored_offsets(
    redis: Any, settings: Settings, ends: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], int]:
    """Return the next offset of each topic-partition as its unit's last commit left it."""
    found = {}
    for kind, partition in ends:
        prefix = unit_prefix(settings.namespace, unit_of(kind, partition))
        found[kind, partition] = int(await redis.hget(meta_key(prefix), f"o:{kind}") or 0)
    return found


async def standing(rig: Rig, log: Log) -> dict[str, dict[str, int]]:
    """Return the units with records left to read or decisions left open: what is left, and the watermark."""
    found = {}
    settings = rig.settings
    async with redis_client(settings, timeout_s=10.0) as redis:
        stored = await stored_offsets(redis, settings, log.ends)
        for unit in rig.units:
            meta = await redis.hgetall(meta_key(unit_prefix(settings.namespace, unit)))
            own = [tp for tp in log.ends if unit_of(*tp) == unit]
            left = {"lag": sum(log.ends[tp] - stored[tp] for tp in own), "open": int(meta.get(b"open", 0))}
            if any(left.values()):
                found[unit] = {
                    **left,
                    "watermark": int(meta.get(b"watermark", 0)),
                    "epoch": int(meta[b"epoch"]),
                }
    return found


def _flat(offsets: Mapping[tuple[str, int], int]) -> dict[str, int]:
    return {f"{kind}-{partition}": at for (kind, partition), at in offsets.items()}


async def check_visitors(redis: Any, settings: Settings, truth: Truth) -> list[Check]:
    """Compare the record of every visitor."""
    by_shard: dict[int, list[str]] = defaultdict(list)
    for name in sorted(truth.visitors):
        by_shard[shard_of(name, settings.shards)].append(name)
    records: dict[str, SubjectRecord] = {}
    for names in by_shard.values():
        for at in range(0, len(names), CHUNK):
            part = names[at : at + CHUNK]
            raws = await redis.mget([_record_key(settings, name) for name in part])
            records |= {name: decode_subject(raw) for name, raw in zip(part, raws, strict=True)}
    checks = [
        compare(
            f"visitors' {figure}",
            {name: getattr(visitor, figure) for name, visitor in truth.visitors.items()},
            {name: getattr(record, figure) for name, record in records.items()},
        )
        for figure in ("events", "impressions", "clicks")
    ]
    hidden = [Counter(f"{name} {item}" for name, one in held.items() for item in one.hidden)
              for held in (truth.visitors, records)]  # fmt: skip
    return [*checks, compare("visitors' hidden items", *hidden)]


def _record_key(settings: Settings, subject: str) -> str:
    shard = shard_of(subject, settings.shards)
    return subject_key(unit_prefix(settings.namespace, subject_unit(shard)), subject)


async def check_trends(redis: Any, settings: Settings, truth: Truth) -> list[Check]:
    """Compare the decayed interest in some items, each shard's part added up as servers do."""
    items = sorted(truth.interest)[:: max(1, len(truth.interest) // SAMPLED_ITEMS)][:SAMPLED_ITEMS]
    now, half_lives = time.time_ns() // 1_000_000, settings.trend_half_lives_s
    trends = Trends(half_lives)
    for shard in range(settings.shards):
        prefix = unit_prefix(settings.namespace, subject_unit(shard))
        raws = await redis.hmget(trends_key(prefix), items) if items else []
        for row, raw in enumerate(raws):
            if raw is not None:
                trends.put_row(shard, row, unpack_vector(raw).reshape(-1, 1 + 2 * len(half_lives)))
    scores = trends.scores(range(len(items)), now)
    wished, found = {}, {}
    for row, item in enumerate(items):
        for column, half_life_s in enumerate(half_lives):
            true, held = truth.trend(item, 1000 * half_life_s, now), float(scores[row, column])
            key = f"{item} {half_life_s}"
            wished[key] = round(WEIGHT_UNIT * true)
            found[key] = wished[key] if abs(held - true) <= EQUAL * true else round(WEIGHT_UNIT * held)
    return [compare("trends of a sample, thousandths", wished, found)]


async def check_all(rig: Rig, truth: Truth, log: Log) -> list[Check]:
    """Compare everything."""
    settings = rig.settings
    async with redis_client(settings, timeout_s=10.0) as redis:
        return [
            *await check_log(redis, settings, truth, log),
            *check_counters(await rig.folded(), truth, log),
            *await check_visitors(redis, settings, truth),
            *await check_trends(redis, settings, truth),
            *await check_outcomes(rig, truth),
            *await check_dead_letters(rig, log),
        ]
