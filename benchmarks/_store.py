"""Writes a synthetic shop into the store as the folders would have left it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from msgspec import Struct, field

from bandits.hybrid import ShardLearner, SlotBatch
from bandits.ranking import ranking_policy, seal
from benchmarks._synthetic import Shop, item_id, user_id
from online_models.heads import HeadModels, Labels
from online_models.ranking import prior_model, ranking_registry
from online_models.trends import Trends
from state.clients import redis_client
from state.commit import Change, claim_unit, commit
from state.events import encode
from state.keys import (
    bandit_key,
    item_unit,
    items_key,
    lane_unit,
    models_key,
    sessions_key,
    subject_key,
    subject_unit,
    trends_key,
    unit_prefix,
)
from state.packing import FloatArray, pack_arrays, pack_vector
from state.partition import shard_of
from state.sessions import SessionRow, encode_session, session_hash
from state.settings import Settings
from state.subject import SubjectRecord, encode_subject

ENTRIES_PER_COMMIT = 5_000
LEARNT_SLOTS = 4_000
SURFACE = "home"


class ShardState(Struct):
    """What one subject shard holds."""

    values: dict[str, bytes] = field(default_factory=dict)
    sessions: dict[str, bytes] = field(default_factory=dict)
    trends: dict[str, bytes] = field(default_factory=dict)
    bandit: dict[str, bytes] = field(default_factory=dict)


async def write_shop(settings: Settings, shop: Shop) -> None:
    """Write catalogue, visitors, sessions, trends, policy and click model."""
    redis = redis_client(settings, timeout_s=60.0)
    try:
        await _write_items(redis, settings, shop)
        for shard, held in subject_states(settings, shop).items():
            prefix = unit_prefix(settings.namespace, subject_unit(shard))
            hashes = {
                sessions_key(prefix): held.sessions,
                trends_key(prefix): held.trends,
                bandit_key(prefix): held.bandit,
            }
            values = {subject_key(prefix, subject): raw for subject, raw in held.values.items()}
            await _commit(redis, prefix, hashes, values)
        lane = unit_prefix(settings.namespace, lane_unit(0))
        await _commit(redis, lane, {models_key(lane): {SURFACE: learnt_model(shop.seed)}}, {})
    finally:
        await redis.aclose()


async def _write_items(redis: Any, settings: Settings, shop: Shop) -> None:
    shares: dict[int, dict[str, bytes]] = defaultdict(dict)
    for number, item in enumerate(shop.catalogue()):
        shares[number % settings.item_shards][item.item_id] = encode(item)
    for number, items in shares.items():
        prefix = unit_prefix(settings.namespace, item_unit(number))
        await _commit(redis, prefix, {items_key(prefix): items}, {})


async def _commit(
    redis: Any, prefix: str, hashes: Mapping[str, Mapping[str, bytes]], values: Mapping[str, bytes]
) -> None:
    claim = await claim_unit(redis, prefix)
    for part in _parts(values.items()):
        change = Change(values={key: (raw, 0) for key, raw in part})
        await commit(redis, prefix, claim.epoch, change)
    for key, fields in hashes.items():
        for part in _parts(fields.items()):
            await commit(redis, prefix, claim.epoch, Change(fields={key: dict(part)}))


def _parts(pairs: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    held = list(pairs)
    for start in range(0, len(held), ENTRIES_PER_COMMIT):
        yield held[start : start + ENTRIES_PER_COMMIT]


def subject_states(settings: Settings, shop: Shop) -> dict[int, ShardState]:
    """Return what the subject shards hold after the shop's sessions were folded."""
    shards = {number: ShardState() for number in range(settings.shards)}
    trends, rows = Trends(settings.trend_half_lives_s), dict[str, int]()
    tastes = list(_learn(np.random.default_rng([shop.seed, 4]), LEARNT_SLOTS, shop.items)[1].values())
    for number, (user, items, times) in enumerate(shop.visits()):
        held = shards[shard_of(user, settings.shards)]
        session = f"session-{user}"
        taste = (
            seal(tastes[number % len(tastes)].astype("<f8").tobytes()) if number % 2 else b""
        )  # half are new
        record = _record(session, items, times, taste)
        held.values[user] = encode_subject(record)
        held.sessions[str(session_hash(user, session))] = encode_session(SessionRow(items, times))
        for item, at in zip(items, times, strict=True):
            trends.add(rows.setdefault(item, len(rows)), at, 1.0)
    for item, row in rows.items():
        held = shards[row % settings.shards]  # counts add up over shards: one of them may hold them all
        held.trends[item] = pack_vector(trends.row_state(row).ravel())
    for number, held in shards.items():
        held.bandit = learnt_blocks(shop, number)
    return shards


def _record(session: str, items: list[str], times: list[int], block: bytes) -> SubjectRecord:
    record = SubjectRecord(session_id=session, session_start=times[0], last_at=times[-1], bandit=block)
    record.events, record.impressions, record.clicks = 2 * len(items), len(items), len(items)
    for item, at in zip(items, times, strict=True):
        record.mark_seen(item, at, 2_000)
        record.add_recent(item, at, 1.0)
        record.mark_applied(f"{session}-{at}", at)
    return record


def learnt_blocks(shop: Shop, shard: int) -> dict[str, bytes]:
    """Return policy blocks learnt from random slots of popular items."""
    learner, _ = _learn(np.random.default_rng([shop.seed, 5, shard]), LEARNT_SLOTS, shop.items)
    blocks = {f"i:{name}": seal(pack_vector(block)) for name, block in learner.items.items()}
    return {"shared": seal(pack_vector(learner.shared)), **blocks}


def _learn(rng: np.random.Generator, slots: int, items: int) -> tuple[ShardLearner, Mapping[str, FloatArray]]:
    policy = ranking_policy()
    learner = ShardLearner(policy)
    contexts, arms = rng.random((slots, policy.context_dim)), rng.random((slots, policy.item_dim))
    ids = [item_id(int(n)) for n in np.minimum(rng.zipf(1.3, slots) - 1, items - 1)]
    rewards = (rng.random(slots) < 0.1).astype(np.float64)
    users = [user_id(n % 100) for n in range(slots)]
    learnt = learner.learn(SlotBatch(contexts, arms, ids, users, rewards, np.full(slots, -2.0)), {})
    return learner, learnt.users


def learnt_model(seed: int) -> bytes:
    """Return a click model's snapshot that has learnt from random slots."""
    registry, rng = ranking_registry(), np.random.default_rng([seed, 6])
    heads = HeadModels(prior_model(registry))
    rows, clicks = rng.random((2_000, len(registry))), (rng.random(2_000) < 0.1).astype(np.float64)
    heads.learn(rows, Labels(clicks, {}))
    arrays, document = heads.snapshot()
    return pack_arrays(arrays, document | {"offset": 0})
