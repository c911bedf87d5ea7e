"""The one store read of a request, with a deadline, behind a circuit breaker."""

import asyncio
import time
from typing import Any

from redis.exceptions import RedisError

from serving.metrics import ServerMetrics
from state.keys import subject_key, subject_unit, unit_prefix
from state.packing import CorruptStateError
from state.partition import shard_of
from state.settings import Settings
from state.subject import SubjectRecord, decode_subject

OPEN_FOR_S = 0.5
FAILURES_TO_OPEN = 3


class Breaker:
    """Opens after consecutive failures, so that requests do not wait for a store that is gone.

    Parameters
    ----------
    failures
        Failures in a row that open it.
    open_for_s
        Time until one request may try again.
    """

    def __init__(self, failures: int = FAILURES_TO_OPEN, open_for_s: float = OPEN_FOR_S) -> None:
        self._limit, self._open_for_s = failures, open_for_s
        self._failures, self._retry_at = 0, 0.0

    def allows(self, now_s: float) -> bool:
        """Return whether a try may be made; while open, one try per interval."""
        if self._failures < self._limit:
            return True
        if now_s < self._retry_at:
            return False
        self._retry_at = now_s + self._open_for_s
        return True

    def note(self, *, ok: bool, now_s: float) -> None:
        """Note how a try ended."""
        self._failures = 0 if ok else self._failures + 1
        if not ok:
            self._retry_at = now_s + self._open_for_s


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
        prefixes = [unit_prefix(settings.namespace, subject_unit(n)) for n in range(settings.shards)]
        self._prefixes = prefixes
        self._timeout_s = settings.redis_timeout_ms / 1000
        self._breaker = Breaker()

    async def read(self, subject: str) -> SubjectRecord | None:
        """Return a subject's record in one round trip; None where the store does not answer in time."""
        if not self._breaker.allows(time.monotonic()):
            return None
        try:
            key = subject_key(self._prefixes[shard_of(subject, self._shards)], subject)
            async with asyncio.timeout(self._timeout_s):
                raw = await self._redis.get(key)
            record = decode_subject(raw)
        except (RedisError, OSError, TimeoutError, CorruptStateError):
            self._metrics.store_failures.inc()
            self._breaker.note(ok=False, now_s=time.monotonic())
            return None
        self._breaker.note(ok=True, now_s=time.monotonic())
        return record

    async def read_after(
        self, subject: str, event_id: str, wait_s: float
    ) -> tuple[SubjectRecord | None, bool]:
        """Return a record and whether it contains an event, waiting for it up to ``wait_s``."""
        deadline = time.monotonic() + wait_s
        while True:
            record = await self.read(subject)
            if record is not None and record.has_applied(event_id):
                return record, True
            if time.monotonic() >= deadline:
                return record, False
            await asyncio.sleep(0.003)
