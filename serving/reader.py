"""The one store read of a request, with a deadline, behind a circuit breaker."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from serving.after import After
from serving.breaker import Breaker
from serving.metrics import ServerMetrics
from serving.store import UNREACHABLE
from state.cluster import is_cluster
from state.keys import meta_key, offset_field, subject_key, subject_unit, unit_prefix
from state.packing import CorruptStateError
from state.partition import shard_of
from state.read_connection import ReadConnection
from state.settings import Settings
from state.subject import SubjectRecord, decode_subject

Mget = Callable[[Sequence[str]], Awaitable[Sequence[bytes | None]]]
_POLL_S, _LONGEST_POLL_S = 0.002, 0.02


class Batches:
    """Reads of single keys that came while a read was under way, asked together when it has ended.

    Parameters
    ----------
    mget
        Reads several keys.
    breaker
        Told how each round trip ended, however many waited for it.
    """

    def __init__(self, mget: Mget, breaker: Breaker) -> None:
        self._mget, self._breaker = mget, breaker
        self._asked: list[tuple[str, asyncio.Future[bytes | None]]] = []
        self._task: asyncio.Task[None] | None = None

    def get(self, key: str) -> asyncio.Future[bytes | None]:
        """Return what will be a key's value; reads of one turn of the loop share a round trip.

        It fails with the read it is part of, and with the one it waits for: nobody waits twice as long.
        """
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._asked.append((key, answer))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return answer

    async def _run(self) -> None:
        asked: list[tuple[str, asyncio.Future[bytes | None]]] = []
        try:
            while self._asked:
                asked, self._asked = self._asked, []
                raws = await self._mget([key for key, _ in asked])
                self._breaker.note(ok=True, now_s=time.monotonic())
                for (_, answer), raw in zip(asked, raws, strict=True):
                    if not answer.done():
                        answer.set_result(raw)
        except Exception as error:  # whatever it is, it belongs to those who wait
            self._breaker.note(ok=False, now_s=time.monotonic())
            asked, self._asked = [*asked, *self._asked], []
            for _, answer in asked:
                if not answer.done():
                    answer.set_exception(error)
        finally:
            self._task = None


class SubjectReader:
    """Reads subject records for requests.

    Parameters
    ----------
    settings
        Of the namespace.
    redis
        Client of the store with the request's time limit.
    metrics
        Where failures are counted.
    """

    def __init__(self, settings: Settings, redis: Any, metrics: ServerMetrics) -> None:
        self._redis, self._metrics, self._shards = redis, metrics, settings.shards
        self._prefixes = [unit_prefix(settings.namespace, subject_unit(n)) for n in range(settings.shards)]
        self._timeout_s = timeout_s = settings.redis_timeout_ms / 1000
        if is_cluster(settings.redis):
            # One node may be away, and keys of two shards cannot share a command.
            self._connection, mget, parts = None, _in_time(redis.mget, timeout_s), settings.shards
        else:
            self._connection = ReadConnection(redis, timeout_s)
            mget, parts = self._connection.mget, 1
        self._breakers = [Breaker() for _ in range(parts)]
        self._batches = [Batches(mget, breaker) for breaker in self._breakers]

    async def aclose(self) -> None:
        """Close the connection that is kept for reads."""
        if self._connection is not None:
            await self._connection.aclose()

    def breakers_open(self) -> int:
        """Return how many parts of the store are not asked just now."""
        return sum(breaker.is_open for breaker in self._breakers)

    async def read(self, subject: str) -> SubjectRecord | None:
        """Return a subject's record in one round trip; None where the store does not answer in time."""
        shard = shard_of(subject, self._shards)
        part = shard % len(self._batches)
        if not self._breakers[part].allows(time.monotonic()):
            return None
        try:
            key = subject_key(self._prefixes[shard], subject)
            return decode_subject(await self._batches[part].get(key))
        except (*UNREACHABLE, CorruptStateError):
            self._metrics.store_failures.inc()
            return None

    async def read_after(
        self, subject: str, after: After, wait_s: float
    ) -> tuple[SubjectRecord | None, bool]:
        """Return a record and whether it contains an event, waiting for it up to ``wait_s``."""
        deadline = time.monotonic() + wait_s
        if after.places:
            # The offsets first: a record read after them is at least as new as they are.
            is_folded = await self._wait_for(shard_of(subject, self._shards), after, deadline)
            record = await self.read(subject)
            return record, is_folded and record is not None
        for pause in _pauses():
            record = await self.read(subject)
            if record is not None and record.has_applied(after.event_id):
                return record, True
            if time.monotonic() >= deadline:
                break
            await asyncio.sleep(pause)
        return record, False

    async def _wait_for(self, shard: int, after: After, deadline: float) -> bool:
        """Wait until a shard has folded what stands at some places; False at once where it never will."""
        if not after.belongs_to(shard):
            return False
        kinds = after.kinds()
        for pause in _pauses():
            if after.is_reached(await self._next_offsets(shard, kinds)):
                return True
            if time.monotonic() >= deadline:
                break
            await asyncio.sleep(pause)
        return False

    async def _next_offsets(self, shard: int, kinds: list[str]) -> dict[str, int]:
        """Return how far a shard has folded; nothing where the store does not answer in time."""
        breaker = self._breakers[shard % len(self._batches)]
        if not breaker.allows(time.monotonic()):
            return {}
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await self._redis.hmget(
                    meta_key(self._prefixes[shard]), [offset_field(kind) for kind in kinds]
                )
        except UNREACHABLE:
            self._metrics.store_failures.inc()
            breaker.note(ok=False, now_s=time.monotonic())
            return {}
        breaker.note(ok=True, now_s=time.monotonic())
        return {kind: int(raw) for kind, raw in zip(kinds, found, strict=True) if raw is not None}


def _in_time(mget: Mget, timeout_s: float) -> Mget:
    """Return a read that fails after a while."""

    async def run(keys: Sequence[str]) -> Sequence[bytes | None]:
        async with asyncio.timeout(timeout_s):
            return await mget(keys)

    return run


def _pauses() -> Iterator[float]:
    """Yield pauses between looks, s: who has waited for long asks less often."""
    pause = _POLL_S
    while True:
        yield pause
        pause = min(_LONGEST_POLL_S, pause * 1.3)
