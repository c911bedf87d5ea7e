"""What a feed follower asks beside the feeds: in the background, so that a silent node holds up nothing.

A single store is asked by one call after the other, as it gains nothing from many connections; of a cluster,
units are asked apart from each other.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

import structlog

from serving.store import UNREACHABLE
from state.cluster import ClusterClient
from state.keys import bandit_key, meta_key

log = structlog.get_logger(__name__)
REFRESH_BLOCKS_S = 0.1
CHECK_S = 1.0
T = TypeVar("T")
Put = Callable[[int, dict[str, bytes | None]], None]


class BlockRefresher:
    """Reads the bandit blocks that feeds said had changed, a few times a second.

    Parameters
    ----------
    redis
        Client of the store.
    prefixes
        Shard -> its key prefix.
    put
        Takes a shard's blocks; None stands for one that is no longer there.
    """

    def __init__(self, redis: Any, prefixes: Mapping[int, str], put: Put) -> None:
        self._redis, self._prefixes, self._put = redis, prefixes, put
        self._apart = isinstance(redis, ClusterClient)
        self._dirty: dict[int, set[str]] = defaultdict(set)
        self._reading: dict[int, asyncio.Task[None]] = {}
        self._begun_at = 0.0

    def note(self, shard: int, names: Iterable[str]) -> None:
        """Remember changed blocks of a shard."""
        self._dirty[shard].update(names)

    def tick(self) -> None:
        """Begin to read what has changed, if it is time."""
        now = time.monotonic()
        if not self._dirty or now - self._begun_at <= REFRESH_BLOCKS_S:
            return
        self._begun_at = now
        for shard in [shard for shard, task in self._reading.items() if task.done()]:
            self._reading.pop(shard).result()
        for lot in _lots(self._dirty.keys() - self._reading.keys(), self._apart):
            reading = asyncio.create_task(self._read({shard: self._dirty.pop(shard) for shard in lot}))
            self._reading.update(dict.fromkeys(lot, reading))

    async def _read(self, lot: Mapping[int, set[str]]) -> None:
        for shard, names in lot.items():
            fields = sorted(names)
            try:
                raws = await self._redis.hmget(bandit_key(self._prefixes[shard]), fields)
            except UNREACHABLE:
                self._dirty[shard] |= names
                continue
            self._put(shard, dict(zip(fields, raws, strict=True)))

    async def stop(self) -> None:
        """Forget what has changed and give up what is being read."""
        await _end(self._reading.values())
        self._reading.clear()
        self._dirty.clear()


class StepBackWatch:
    """Notices a unit whose store stands behind what was applied, as after a failover to an older copy.

    Parameters
    ----------
    redis
        Client of the store.
    """

    def __init__(self, redis: Any) -> None:
        self._redis, self._apart = redis, isinstance(redis, ClusterClient)
        self._asking: dict[str, asyncio.Task[bool]] = {}
        self._begun_at = time.monotonic()

    def has_stepped_back(self, applied: Mapping[str, int]) -> bool:
        """Say what is known by now of units, given the last commit applied of each (by key prefix)."""
        if any(task.done() and task.result() for task in self._asking.values()):
            return True
        now = time.monotonic()
        if now - self._begun_at > CHECK_S:
            self._begun_at = now
            self._asking = {prefix: task for prefix, task in self._asking.items() if not task.done()}
            for lot in _lots(applied.keys() - self._asking.keys(), self._apart):
                asking = asyncio.create_task(self._any_behind({prefix: applied[prefix] for prefix in lot}))
                self._asking.update(dict.fromkeys(lot, asking))
        return False

    async def _any_behind(self, lot: Mapping[str, int]) -> bool:
        for prefix, applied in lot.items():
            try:
                stored = int(await self._redis.hget(meta_key(prefix), "commit") or 0)
            except UNREACHABLE:
                continue
            if stored < applied:
                log.warning("store went back: loading anew", unit=prefix, stored=stored, applied=applied)
                return True
        return False

    async def stop(self) -> None:
        """Give up what is being asked."""
        await _end(self._asking.values())
        self._asking.clear()


def _lots(units: Collection[T], apart: bool) -> list[list[T]]:
    """Return which units are asked one after the other."""
    if apart:
        return [[unit] for unit in units]
    return [list(units)] if units else []


async def _end(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    ending = set(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
