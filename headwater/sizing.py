"""How much memory a store needs for a population, family by family; nothing is read or written.

Record lengths come from the codecs themselves, costs from the store's layout (`state/store_memory.py`).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bandits.hybrid import packed_size
from bandits.ranking import ranking_policy
from headwater.family import Family, hash_family
from headwater.population import (
    BEGIN_MS,
    Population,
    Visitor,
    catalogue,
    decisions,
    item_id,
    opened,
    popularity,
    visitors,
)
from headwater.surface_sizes import SurfaceSizes
from online_models.heads import FOLLOWING, HeadModels, Labels
from online_models.ranking import prior_model, ranking_registry
from state.events import Outcome, OutcomeSlot, encode
from state.exploring import Progress, encode_folded
from state.feed import Interaction, ShardFeed, encode_feed
from state.keys import decision_key, subject_key, subject_unit, unit_prefix
from state.opened import encode_open
from state.outbox import Message, encode_message
from state.packing import pack_arrays
from state.retention import DAY_MS, FEED_CAP, MAX_UNSENT
from state.sessions import SessionRow, encode_session
from state.settings import Settings
from state.store_memory import StoreLayout, entries_cost, strings_cost
from state.subject import SEAL_BYTES, encode_subject
from stream.kept import encode_kept, keep

SAMPLE = 4_000
CATEGORIES = 200
"""Of a catalogue, as hashed crosses meet them."""
SEALED = 8
DAY_S = 86_400
PEAK = 3.0
"""How much busier the busiest hour is than the mean."""
SHARD_ROWS = 800.0
"""Rows a second a shard folds at its peak: a quarter of what a worker can (docs/benchmarks.md)."""
SHARD_BYTES = 256e6
"""Shared state a shard's owner loads when it claims it."""
NEW_SHARE = 0.1
"""Of the catalogue, what came within the 60 days that the ledger of new items remembers."""
COMMITS_A_SECOND = 20.0
"""Commits of a busy shard: one takes what has arrived while the last was under way."""


class Plan(Struct, frozen=True):
    """What a population needs: families, in all, and how to cut it."""

    families: list[Family]
    shards: int
    commits_a_second: float
    rows_a_second: float

    @property
    def total(self) -> float:
        """Bytes in all."""
        return sum(family.total for family in self.families)

    def family(self, name: str) -> Family:
        """Return one family."""
        return next(family for family in self.families if family.name == name)


class Sample(Struct):
    """Lengths of a sample of records, encoded by their own codecs; names are key or field lengths."""

    subject: tuple[list[int], list[int]]
    session: tuple[list[int], list[int]]
    item: list[int]
    decision: list[int]
    opened: list[int]
    kept: list[int]
    outcome: int
    feed: int
    model: int


def plan(population: Population, settings: Settings, layout: StoreLayout) -> Plan:
    """Return what a population needs under some settings in a store of one layout."""
    sample = take_sample(population, settings)
    sizes = _Sizes(population, settings, layout, sample)
    families = [make() for make in sizes.makers()]
    rows = PEAK * population.decisions_per_day * 3 / DAY_S
    return Plan(families, suggested_shards(families, rows, settings), _commits(rows, settings.shards), rows)


def suggested_shards(families: Sequence[Family], rows_a_second: float, settings: Settings) -> int:
    """Return how many shards keep peaks and claims short: a power of two, at least two a worker's core."""
    loaded = {"trends", "sessions", "bandit", "learnt", "open", "counters"}
    state = sum(family.total for family in families if family.name in loaded)
    wished = max(rows_a_second / SHARD_ROWS, state / SHARD_BYTES, 2 * settings.lanes)
    return 1 << math.ceil(math.log2(max(1.0, wished)))


def _commits(rows_a_second: float, shards: int) -> float:
    return min(rows_a_second, COMMITS_A_SECOND * shards)


def take_sample(population: Population, settings: Settings) -> Sample:
    """Return the lengths of a few thousand records of a population."""
    some = list(visitors(population, settings, range(min(SAMPLE, max(1, population.users)))))
    logged = list(decisions(population, range(200)))
    prefix = unit_prefix(settings.namespace, subject_unit(0))
    sessions = [encode_session(row) for one in some for row in session_rows(one)]
    kept = [keep(decision) for decision in logged]
    return Sample(
        subject=(
            [len(subject_key(prefix, one.subject)) for one in some],
            [len(encode_subject(one.record)) for one in some],
        ),
        session=([20], [len(raw) for raw in sessions]),
        item=[len(encode(item)) for item in catalogue(population, range(min(500, max(1, population.items))))],
        decision=[len(encode(decision)) for decision in logged],
        opened=[len(encode_open(opened(decision))) for decision in logged],
        kept=[len(encode_kept(one)) for one in kept],
        outcome=_outcome_length(population),
        feed=_feed_length(population),
        model=model_length(),
    )


def session_rows(visitor: Visitor) -> list[SessionRow]:
    """Return a visitor's sessions as a shard stores them."""
    rows: dict[int, SessionRow] = {}
    for step in visitor.steps:
        row = rows.setdefault(step.session, SessionRow())
        row.items.append(step.item_id)
        row.at_ms.append(step.at_ms)
    return list(rows.values())


def model_length() -> int:
    """Return the length of a surface's models, all heads, that have learnt."""
    registry, rng = ranking_registry(), np.random.default_rng(6)
    heads, rows = HeadModels(prior_model(registry)), rng.random((20_000, len(registry)))
    rows[:, registry.codes] = rng.integers(1, CATEGORIES, (len(rows), len(registry.codes)))
    clicks = (rng.random(len(rows)) < 0.1).astype(np.float64)
    following = {head: (rng.random(len(rows)) < 0.2).astype(np.float64) for head in FOLLOWING}
    heads.learn(rows, Labels(clicks, following))
    arrays, document = heads.snapshot()
    return len(pack_arrays(arrays, document))


def _outcome_length(population: Population) -> int:
    decision = next(iter(decisions(population, range(1))))
    slots = [OutcomeSlot(s.item_id, n, 0.0, s.propensity) for n, s in enumerate(decision.slots)]
    outcome = Outcome(
        event_id=decision.event_id, occurred_at=BEGIN_MS, subject=decision.subject, surface=decision.surface,
        lane=0, shown_at=BEGIN_MS, slots=slots, features=decision.features, logits=decision.logits,
        versions=decision.versions, rung=decision.rung,
    )  # fmt: skip
    return len(encode_message(Message(1_000_000, "outcomes", b"home#0", encode(outcome), 0)))


def _feed_length(population: Population) -> int:
    """Of a commit's rows a third are interactions; a learnt item is named for each."""
    count = max(1, population.rows_per_commit // 3)
    steps = [Interaction(-(2**62) + n, item_id(n), BEGIN_MS, 1.0) for n in range(count)]
    entry = ShardFeed(steps, [item_id(n) for n in range(count)], bandit_shared=True, watermark=BEGIN_MS)
    return len(encode_feed(entry))


def expected_pairs(items: int, draws: float, shards: int) -> int:
    """Return how many (item, shard) pairs are met by draws by popularity, spread evenly over the shards."""
    if not items or draws <= 0:
        return 0
    chance: NDArray[np.float64] = popularity(items)
    return round(shards * float(-np.expm1(-chance * draws / shards).sum()))


class _Sizes:
    """One method a family; hashes are cut evenly over their units."""

    def __init__(
        self, population: Population, settings: Settings, layout: StoreLayout, sample: Sample
    ) -> None:
        self._people, self._settings, self._layout, self._sample = population, settings, layout, sample
        per_day = population.decisions_per_day
        self._decisions = round(per_day * settings.decision_ttl_s / DAY_S)
        self._held = max(1, population.users + self._decisions)
        self._prefix = unit_prefix(settings.namespace, subject_unit(0))
        self._item_name = len(item_id(0))

    def makers(self) -> list[Callable[[], Family]]:
        """Return what makes each family."""
        return [
            self._subject, self._decision, self._session, self._open, self._trends, self._bandit,
            self._learnt, self._items, self._newcomers,
            *SurfaceSizes(self._people, self._settings, self._layout, self._sample.model).makers(),
            self._feed, self._outbox, self._counters,
        ]  # fmt: skip

    def _subject(self) -> Family:
        keys, values = self._sample.subject
        count = self._people.users
        return Family("subject", count, strings_cost(self._layout, keys, values, count, self._held))

    def _decision(self) -> Family:
        key = len(decision_key(self._prefix, next(iter(decisions(self._people, range(1)))).event_id))
        count, values = self._decisions, self._sample.decision
        return Family("decision", count, strings_cost(self._layout, key, values, count, self._held))

    def _hash(self, name: str, names: list[int], values: list[int], count: int, units: int = 0) -> Family:
        return hash_family(self._layout, name, (names, values), count, units or self._settings.shards)

    def _session(self) -> Family:
        count = min(self._people.sessions, self._settings.max_sessions)
        return self._hash("sessions", *self._sample.session, count)

    def _open(self) -> Family:
        settings = self._settings
        open_s = (settings.window_ms + settings.lateness_ms) / 1000
        count = round(PEAK * self._people.decisions_per_day * open_s / DAY_S)
        name = 2 + len(next(iter(decisions(self._people, range(1)))).event_id)
        total = [
            self._hash("open", [name], values, count).total
            for values in (self._sample.opened, self._sample.kept)
        ]
        return Family("open", count, sum(total))

    def _trends(self) -> Family:
        draws = self._people.users * self._people.interactions
        count = expected_pairs(self._people.items, draws, self._settings.shards)
        length = SEALED + 8 * (1 + 2 * len(self._settings.half_lives_s))
        return self._hash("trends", [self._item_name], [length], count)

    def _learnt_items(self) -> int:
        life_days = self._settings.block_life_s / DAY_S
        draws = self._people.decisions_per_day * life_days * self._people.slots
        return expected_pairs(self._people.items, draws, self._settings.shards)

    def _bandit(self) -> Family:
        length = SEALED + SEAL_BYTES + 8 * packed_size(ranking_policy().context_dim)
        return self._hash("bandit", [2 + self._item_name], [length], self._learnt_items())

    def _learnt(self) -> Family:
        day = len(str(BEGIN_MS // DAY_MS))
        return self._hash("learnt", [self._item_name], [day], self._learnt_items())

    def _items(self) -> Family:
        units = self._settings.item_shards
        return self._hash("items", [self._item_name], self._sample.item, self._people.items, units)

    def _newcomers(self) -> Family:
        """Return the ledger of a catalogue of which a tenth has come in the time the ledger remembers."""
        met = self._people.items * NEW_SHARE * self._people.surfaces * self._settings.shards
        count = round(met) if self._people.decisions_per_day else 0
        length = len(encode_folded(Progress(0, 10, 5, 1.5, BEGIN_MS, BEGIN_MS)))
        return self._hash("newcomers", [8 + self._item_name], [length], count)

    def _feed(self) -> Family:
        units = self._settings.shards
        commits = self._people.decisions_per_day * 3 * self._settings.raw_retention_s / DAY_S
        count = min(FEED_CAP, round(commits / max(1, self._people.rows_per_commit) / units))
        return Family("feed", units * count, units * entries_cost(self._layout, [self._sample.feed], count))

    def _outbox(self) -> Family:
        """Return what a minute without Kafka leaves at the peak; a full one stops its folder."""
        rate = PEAK * self._people.decisions_per_day / DAY_S
        count = min(MAX_UNSENT * self._settings.shards, round(60 * rate))
        return Family("outbox", count, entries_cost(self._layout, [self._sample.outcome], count))

    def _counters(self) -> Family:
        return self._hash("counters", [20], [8], 40 * self._settings.shards)
