"""Fills a store with a stated population through the commit script, family by family."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from msgspec import Struct

from bandits.hybrid import packed_size
from bandits.ranking import ranking_policy, seal
from headwater.population import (
    BEGIN_MS,
    Population,
    catalogue,
    decisions,
    draw,
    item_id,
    opened,
    user_id,
    visitors,
)
from headwater.sizing import Plan, session_rows
from online_models.trends import Trends
from state.commit import Change, claim_unit, commit
from state.events import encode
from state.feed import Interaction, ShardFeed, encode_feed
from state.keys import (
    bandit_key,
    decision_key,
    item_unit,
    items_key,
    learnt_key,
    open_key,
    sessions_key,
    subject_key,
    subject_unit,
    trends_key,
    unit_prefix,
)
from state.opened import encode_open
from state.packing import pack_vector
from state.partition import shard_of
from state.retention import DAY_MS
from state.sessions import encode_session
from state.settings import Settings
from state.subject import encode_subject
from state.tokens import make_decision_id
from stream.kept import encode_kept, keep

DISTINCT = 20_000
"""Visitors made one by one; further users get copies of their records under keys of their own."""
DISTINCT_DECISIONS = 5_000
PER_COMMIT = 1_000
_TTL_MS = 30 * DAY_MS
Entry = tuple[int, str, bytes]
"""Shard, name and value."""


class Filling(Struct):
    """Who fills which store with whom, and how much a plan expects of what depends on time."""

    redis: Any
    settings: Settings
    population: Population
    plan: Plan

    def prefix(self, shard: int) -> str:
        """Return a subject shard's prefix."""
        return unit_prefix(self.settings.namespace, subject_unit(shard))


async def fill(filling: Filling) -> AsyncIterator[tuple[str, int]]:
    """Fill one family after another; yields each one's name and number of entries once it is written."""
    numbers = range(min(DISTINCT, filling.population.users))
    bodies = [
        (encode_subject(one.record), [encode_session(row) for row in session_rows(one)])
        for one in visitors(filling.population, filling.settings, numbers)
    ]
    yield "subject", await _values(filling, _subjects(filling, [raw for raw, _ in bodies]), subject_key)
    yield "sessions", await _hash(filling, _sessions(filling, bodies), sessions_key)
    del bodies
    yield "trends", await _hash(filling, _trends(filling), trends_key)
    pairs = list(_learnt(filling))
    yield "bandit", await _hash(filling, _blocks(filling, pairs), bandit_key)
    yield "learnt", await _hash(filling, _days(pairs), learnt_key)
    yield "items", await _items(filling)
    yield "decision", await _values(filling, _decisions(filling), decision_key)
    yield "open", await _hash(filling, _open(filling), open_key) // 2
    yield "feed", await _feed(filling)


def _subjects(filling: Filling, bodies: list[bytes]) -> Iterator[Entry]:
    for number in range(filling.population.users):
        user = user_id(number)
        yield shard_of(user, filling.settings.shards), user, bodies[number % len(bodies)]


def _sessions(filling: Filling, bodies: list[tuple[bytes, list[bytes]]]) -> Iterator[Entry]:
    rows = [raw for _, sessions in bodies for raw in sessions]
    rng = np.random.default_rng([filling.population.seed, 4])
    count = min(filling.population.sessions, filling.settings.max_sessions)
    for number, name in enumerate(rng.integers(-(2**63), 2**63 - 1, count).tolist()):
        yield number % filling.settings.shards, str(name), rows[number % len(rows)]


def _trends(filling: Filling) -> Iterator[Entry]:
    people, half_lives = filling.population, filling.settings.trend_half_lives_s
    counted = [Trends(half_lives) for _ in range(filling.settings.shards)]
    pairs = _pairs(filling, round(people.users * people.interactions), 5)
    for shard, item in pairs:
        counted[shard].add(item, BEGIN_MS + item, 1.0)
        yield shard, item_id(item), pack_vector(counted[shard].row_state(item).ravel())


def _pairs(filling: Filling, draws: int, stream: int) -> list[tuple[int, int]]:
    rng = np.random.default_rng([filling.population.seed, stream])
    items = draw(rng, filling.population.items, draws)
    shards = rng.integers(filling.settings.shards, size=draws)
    found = np.unique(shards * filling.population.items + items)
    return [divmod(int(pair), filling.population.items) for pair in found]


def _learnt(filling: Filling) -> list[tuple[int, int]]:
    people = filling.population
    days = filling.settings.block_life_s / 86_400
    return _pairs(filling, round(people.decisions_per_day * days * people.slots), 6)


def _blocks(filling: Filling, pairs: Iterable[tuple[int, int]]) -> Iterator[Entry]:
    rng, size = np.random.default_rng([filling.population.seed, 7]), packed_size(ranking_policy().context_dim)
    for shard, item in pairs:
        yield shard, f"i:{item_id(item)}", seal(pack_vector(rng.random(size)))


def _days(pairs: Iterable[tuple[int, int]]) -> Iterator[Entry]:
    day = str(BEGIN_MS // DAY_MS).encode()
    for shard, item in pairs:
        yield shard, item_id(item), day


def _decisions(filling: Filling) -> Iterator[Entry]:
    count = filling.plan.family("decision").count
    made = decisions(filling.population, range(min(DISTINCT_DECISIONS, count)))
    bodies = [(shard_of(one.subject, filling.settings.shards), encode(one)) for one in made]
    for number in range(count):
        shard, raw = bodies[number % len(bodies)]
        yield shard, make_decision_id(BEGIN_MS, shard, number), raw


def _open(filling: Filling) -> Iterator[Entry]:
    count = filling.plan.family("open").count
    for number, decision in enumerate(decisions(filling.population, range(10**6, 10**6 + count))):
        shard = number % filling.settings.shards
        yield shard, f"a:{decision.event_id}", encode_open(opened(decision))
        yield shard, f"d:{decision.event_id}", encode_kept(keep(decision))


async def _items(filling: Filling) -> int:
    prefix = unit_prefix(filling.settings.namespace, item_unit(0))
    claim = await claim_unit(filling.redis, prefix)
    items = catalogue(filling.population, range(filling.population.items))
    while part := {item.item_id: encode(item) for item in islice(items, PER_COMMIT)}:
        await commit(filling.redis, prefix, claim.epoch, Change(fields={items_key(prefix): part}))
    return filling.population.items


async def _feed(filling: Filling) -> int:
    """Commit change feed entries: steps in them, nothing else."""
    people, shards = filling.population, filling.settings.shards
    steps = max(1, people.rows_per_commit // 3)
    each = filling.plan.family("feed").count // shards
    picks = draw(np.random.default_rng([people.seed, 8]), people.items, steps).tolist()
    items = [item_id(item) for item in picks]
    await asyncio.gather(*(_feed_shard(filling, shard, each, items) for shard in range(shards)))
    return each * shards


async def _feed_shard(filling: Filling, shard: int, count: int, items: list[str]) -> None:
    prefix = filling.prefix(shard)
    claim = await claim_unit(filling.redis, prefix)
    for number in range(count):
        steps = [Interaction(2**62 + number * n, item, BEGIN_MS, 1.0) for n, item in enumerate(items)]
        entry = ShardFeed(steps, items, bandit_shared=True, watermark=BEGIN_MS + number)
        await commit(filling.redis, prefix, claim.epoch, Change(feed=encode_feed(entry)))


async def _values(filling: Filling, entries: Iterator[Entry], key: Callable[[str, str], str]) -> int:
    def change(shard: int, part: dict[str, bytes]) -> Change:
        prefix = filling.prefix(shard)
        return Change(values={key(prefix, name): (raw, _TTL_MS) for name, raw in part.items()})

    return await _write(filling, entries, change)


async def _hash(filling: Filling, entries: Iterator[Entry], key: Callable[[str], str]) -> int:
    def change(shard: int, part: dict[str, bytes]) -> Change:
        return Change(fields={key(filling.prefix(shard)): part})

    return await _write(filling, entries, change)


async def _write(
    filling: Filling, entries: Iterator[Entry], change: Callable[[int, dict[str, bytes]], Change]
) -> int:
    """Commit entries in parts, each under its shard; returns how many there were."""
    epochs = {
        shard: (await claim_unit(filling.redis, filling.prefix(shard))).epoch
        for shard in range(filling.settings.shards)
    }
    count = 0
    while part := list(islice(entries, PER_COMMIT * len(epochs))):
        count += len(part)
        by_shard: dict[int, dict[str, bytes]] = {shard: {} for shard in epochs}
        for shard, name, raw in part:
            by_shard[shard][name] = raw
        await asyncio.gather(
            *(
                commit(filling.redis, filling.prefix(shard), epochs[shard], change(shard, values))
                for shard, values in by_shard.items()
            )
        )
    return count
