"""Watches a namespace being folded, and compares what was counted with what was published."""

import asyncio
import time
from typing import Any

from msgspec import Struct, field

from benchmarks._mix import KINDS, Truth
from state.keys import counters_key, lane_unit, meta_key, subject_unit, unit_prefix
from state.settings import Settings

POLL_S = 0.02


class Counted(Struct):
    """Counters summed over shards and over lanes, and the next offset by (kind, shard)."""

    shards: dict[str, int] = field(default_factory=dict)
    lanes: dict[str, int] = field(default_factory=dict)
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)

    @property
    def source(self) -> int:
        """Source events folded."""
        return sum(self.shards.get(kind, 0) for kind in KINDS)

    def is_complete(self, truth: Truth) -> bool:
        """Return whether every event is folded, every window closed and every outcome learnt."""
        decided = truth.events["decisions"]
        closed = self.shards.get("closed.outcome", 0) >= decided and self.lanes.get("outcomes", 0) >= decided
        return closed and self.source >= truth.total


class Watched(Struct):
    """Clock times of a run: first events seen folded (and how many), all folded, all complete."""

    before: int = 0
    first_s: float = 0.0
    folded_s: float = 0.0
    complete_s: float = 0.0


async def read_counts(redis: Any, settings: Settings) -> Counted:
    """Return a namespace's counts in one round trip."""
    shards = [unit_prefix(settings.namespace, subject_unit(n)) for n in range(settings.shards)]
    lanes = [unit_prefix(settings.namespace, lane_unit(n)) for n in range(settings.lanes)]
    async with redis.pipeline(transaction=False) as pipe:
        for prefix in [*shards, *lanes]:
            pipe.hgetall(counters_key(prefix))
        for prefix in shards:
            pipe.hgetall(meta_key(prefix))
        answers = await pipe.execute()
    counted = Counted(_summed(answers[: len(shards)]), _summed(answers[len(shards) : -len(shards)]))
    for shard, meta in enumerate(answers[-len(shards) :]):
        stored = {name[2:].decode(): int(at) for name, at in meta.items() if name.startswith(b"o:")}
        counted.offsets.update({(kind, shard): at for kind, at in stored.items()})
    return counted


def _summed(hashes: list[dict[bytes, bytes]]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for stored in hashes:
        for name, value in stored.items():
            totals[name.decode()] = totals.get(name.decode(), 0) + int(value)
    return totals


async def watch(redis: Any, settings: Settings, truth: Truth, timeout_s: float) -> Watched:
    """Look every 20 ms until a run is complete or the time is up."""
    seen, deadline = Watched(), time.perf_counter() + timeout_s
    while not seen.complete_s and time.perf_counter() < deadline:
        counted, now = await read_counts(redis, settings), time.perf_counter()
        if counted.source and not seen.first_s:
            seen.before, seen.first_s = counted.source, now
        if counted.source >= truth.total and not seen.folded_s:
            seen.folded_s = now
        if counted.is_complete(truth):
            seen.complete_s = now
        await asyncio.sleep(POLL_S)
    return seen


def verdict(counted: Counted, truth: Truth, published: dict[tuple[str, int], int]) -> dict[str, int]:
    """Return what was lost, counted twice, refused, late or is still unread: all 0 where all is well."""
    decided = truth.events["decisions"]
    wished = truth.events | {"closed.outcome": decided, "shown": truth.events["impressions"]}
    pairs = [(wish, counted.shards.get(name, 0)) for name, wish in wished.items()]
    pairs.append((decided, counted.lanes.get("outcomes", 0)))
    rewarded = sum(n for name, n in counted.shards.items() if name.startswith("rewarded."))
    pairs.append((len(truth.rewarded), rewarded))
    odd = ("refused", "forwarded", "forged_tokens", "closed.orphan", "closed.unseen")
    return {
        "lost": sum(max(0, wish - found) for wish, found in pairs),
        "doubled": sum(max(0, found - wish) for wish, found in pairs),
        "late": sum(counted.shards.get(f"{kind}.late", 0) for kind in KINDS),
        "odd": sum(counted.shards.get(name, 0) for name in odd),
        "lag": sum(max(0, end - counted.offsets.get(tp, 0)) for tp, end in published.items()),
    }
