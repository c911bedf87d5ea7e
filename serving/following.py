"""How a server reads units and follows their feeds: a single store in one call, a cluster unit by unit."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import structlog

from serving.store import UNREACHABLE
from state.cluster import is_cluster
from state.keys import feed_key, meta_key
from state.settings import Settings

log = structlog.get_logger(__name__)
BLOCK_MS = 100
COUNT = 500
_AWAY_S = 0.2
_META = ("epoch", "commit")
_READ = """
local found = {redis.call('HMGET', KEYS[1], 'epoch', 'commit')}
for at = 2, #KEYS do found[at] = redis.call('HGETALL', KEYS[at]) end
return found
"""
Entries = list[tuple[bytes, dict[bytes, bytes]]]


class ReadTo:
    """Until when a feed is known to be read and applied: what came by then is in the state, surely.

    An answer tells of the moment the store gave it, and whoever waits learns only later when that was: not
    before it was asked, nor, of one that says nothing came, before the store had waited. And what it brought
    counts once it is applied, which it is when the next one is asked.
    """

    def __init__(self) -> None:
        self._known = self._asked = self._answered = 0.0

    def ask(self, now: float) -> None:
        """Note that the feed is asked, and so that everything before is applied."""
        self._known, self._asked = max(self._known, self._answered), now

    def answer(self, count: int) -> None:
        """Note how many entries came; as many as asked for may not be all there are."""
        if count < COUNT:
            self._answered = self._asked + (0.0 if count else BLOCK_MS / 1000)

    def set(self, at: float) -> None:
        """Note that everything up to a time was loaded anew."""
        self._known = self._answered = at

    @property
    def known(self) -> float:
        """The time, on the clock of `ask`; 0 for never."""
        return self._known


class StoreReads(Protocol):
    """What a feed follower asks of the store."""

    async def unit(self, prefix: str, keys: Sequence[str]) -> list[Any]:
        """Return epoch and commit of a unit, and its hashes, all of one moment."""

    async def entries(self, cursors: Mapping[str, int]) -> dict[str, Entries]:
        """Return feed entries of units (by key prefix) after these commits; none after a while of silence."""

    def read_at(self) -> float:
        """Return when every feed was known to be read to its end, as the monotonic clock says."""

    async def stop(self) -> None:
        """Give up what is being waited for."""


class SingleStoreReads:
    """Reads of one store: a unit in one transaction, all feeds in one blocking call.

    Parameters
    ----------
    redis
        A client that may wait for answers.
    """

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self._read_to = ReadTo()

    async def unit(self, prefix: str, keys: Sequence[str]) -> list[Any]:
        """Return epoch and commit of a unit, and its hashes, all of one moment."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hmget(meta_key(prefix), *_META)
            for key in keys:
                pipe.hgetall(key)
            return list(await pipe.execute())

    async def entries(self, cursors: Mapping[str, int]) -> dict[str, Entries]:
        """Return feed entries of units after these commits; none after a while of silence."""
        streams = {feed_key(prefix): f"{commit}-0" for prefix, commit in cursors.items()}
        self._read_to.ask(time.monotonic())
        answer = await self._redis.xread(streams, count=COUNT, block=BLOCK_MS)
        named = {feed_key(prefix).encode(): prefix for prefix in cursors}
        found = {named[stream]: entries for stream, entries in _by_stream(answer)}
        self._read_to.answer(max(map(len, found.values()), default=0))
        return found

    def read_at(self) -> float:
        """Return when every feed was known to be read to its end, as the monotonic clock says."""
        return self._read_to.known

    async def stop(self) -> None:
        """Give up nothing: nothing is waited for between calls."""


class ClusterReads:
    """Reads of a cluster, where keys of two units cannot share a command: a waiting call for each feed.

    A unit whose node is away is tried again and again while the others go on.

    Parameters
    ----------
    redis
        A client that may wait for answers.
    """

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self._waiting: dict[str, asyncio.Task[Entries]] = {}
        self._read_to: dict[str, ReadTo] = {}
        self._away: set[str] = set()

    async def unit(self, prefix: str, keys: Sequence[str]) -> list[Any]:
        """Return epoch and commit of a unit, and its hashes, all of one moment."""
        asked_at = time.monotonic()
        meta, *hashes = await self._redis.eval(_READ, 1 + len(keys), meta_key(prefix), *keys)
        self._read_to.setdefault(prefix, ReadTo()).set(asked_at)
        return [meta, *(dict(zip(flat[::2], flat[1::2], strict=True)) for flat in hashes)]

    async def entries(self, cursors: Mapping[str, int]) -> dict[str, Entries]:
        """Return feed entries of units after these commits; none after a while of silence."""
        for prefix, commit in cursors.items():
            if prefix not in self._waiting:
                self._read_to.setdefault(prefix, ReadTo()).ask(time.monotonic())
                self._waiting[prefix] = asyncio.create_task(self._read_on(prefix, commit))
        waiting = self._waiting.values()
        await asyncio.wait(waiting, timeout=BLOCK_MS / 1000, return_when=asyncio.FIRST_COMPLETED)
        done = [prefix for prefix in cursors if self._waiting[prefix].done()]
        return {prefix: found for prefix in done if (found := self._take(prefix))}

    async def _read_on(self, prefix: str, commit: int) -> Entries:
        if prefix in self._away:
            await asyncio.sleep(_AWAY_S)
            self._read_to[prefix].ask(time.monotonic())
        answer = await self._redis.xread({feed_key(prefix): f"{commit}-0"}, count=COUNT, block=BLOCK_MS)
        return [entry for _, entries in _by_stream(answer) for entry in entries]

    def _take(self, prefix: str) -> Entries:
        try:
            found = self._waiting.pop(prefix).result()
        except UNREACHABLE as error:
            if prefix not in self._away:
                log.warning("unit unreachable", unit=prefix, why=str(error))
            self._away.add(prefix)
            return []
        self._away.discard(prefix)
        self._read_to[prefix].answer(len(found))
        return found

    def read_at(self) -> float:
        """Return when every feed was known to be read to its end, as the monotonic clock says."""
        return min((one.known for one in self._read_to.values()), default=0.0)

    async def stop(self) -> None:
        """Give up what is being waited for."""
        given_up, self._waiting = list(self._waiting.values()), {}
        for task in given_up:
            task.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)


def store_reads(settings: Settings, redis: Any) -> StoreReads:
    """Return the reads that fit the store of the settings."""
    return ClusterReads(redis) if is_cluster(settings.redis) else SingleStoreReads(redis)


def _by_stream(answer: Any) -> Iterable[tuple[bytes, Entries]]:
    """Return an answer of XREAD as pairs, whichever protocol version the client speaks."""
    for stream, entries in answer.items() if isinstance(answer, dict) else answer or []:
        flat: list[Any] = []
        for entry in entries:
            nested = isinstance(entry, list) and entry and isinstance(entry[0], list | tuple)
            flat += entry if nested else [entry]
        yield stream, [(entry_id, fields) for entry_id, fields in flat]
