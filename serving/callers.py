"""Who calls: keys as a server holds them, taken anew from their file whenever that changes."""

import asyncio
import time
from collections.abc import Iterable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import structlog
from litestar import Request

from serving.buckets import TokenBucket
from state.api_keys import SCOPES, ApiKey, Scope, id_of, is_same, read_keys
from state.settings import Settings, SettingsError

log = structlog.get_logger(__name__)
LOOK_EVERY_S = 1.0
_BURST_S = 2.0
"""A burst that nobody named is what the rate gives in this time."""


class Caller:
    """Somebody who may call: the holder of a key, or anybody where the server runs open.

    Attributes
    ----------
    name
        As logs and the audit record say it; empty for anybody.
    allowed
        What it may do.
    bucket
        How often; None for as often as it likes.
    """

    __slots__ = ("allowed", "bucket", "name")

    def __init__(self, name: str, allowed: frozenset[Scope], bucket: TokenBucket | None) -> None:
        self.name, self.allowed, self.bucket = name, allowed, bucket

    def may(self, scope: Scope) -> bool:
        """Return whether it may do something."""
        return scope in self.allowed

    def charge(self, tokens: float) -> None:
        """Charge what a request cost beyond its first token."""
        if self.bucket is not None:
            self.bucket.charge(tokens)


def caller_of(request: Request[Any, Any, Any]) -> Caller:
    """Return who sent a request, as the guard found."""
    caller: Caller = request.scope["state"]["caller"]
    return caller


CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""Who sent the request being answered; not set on the route of recommendations, where nobody asks."""


def principal() -> str:
    """Return who asks, for the audit record: every change has to name them, whichever route it came by."""
    caller = CALLER.get()
    return "" if caller is None else f"key:{caller.name}" if caller.name else "open"


def anybody(settings: Settings, now_s: float) -> Caller:
    """Return the one caller of a server without keys."""
    return Caller("", frozenset(SCOPES), _bucket(settings, None, None, now_s))


def _bucket(settings: Settings, key: ApiKey | None, held: TokenBucket | None, now_s: float) -> Any:
    rate = key.rate if key is not None and key.rate else settings.rate_limit
    if not rate:
        return None
    own = key.burst if key is not None else None
    burst = own or settings.rate_burst or max(1.0, rate * _BURST_S)
    if held is None:
        return TokenBucket(rate, burst, now_s)
    held.resize(rate, burst)
    return held


class Callers:
    """Finds the caller of a key.

    Parameters
    ----------
    settings
        Rates of keys that have none of their own.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: dict[bytes, tuple[bytes, ApiKey, Caller]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def put(self, keys: Iterable[ApiKey], now_s: float) -> None:
        """Take in all keys there are; one that was known keeps what is left in its bucket."""
        known: dict[bytes, tuple[bytes, ApiKey, Caller]] = {}
        for key in keys:
            held = self._known.get(key.id.encode())
            bucket = _bucket(self._settings, key, held[2].bucket if held else None, now_s)
            known[key.id.encode()] = bytes.fromhex(key.hash), key, Caller(key.name, key.allowed(), bucket)
        self._known = known

    def find(self, presented: bytes, now_ms: int) -> Caller | None:
        """Return who holds a key; None for a wrong, an expired or a revoked one."""
        key_id = id_of(presented)
        known = self._known.get(key_id) if key_id is not None else None
        if known is None or not is_same(known[0], presented) or not known[1].is_usable(now_ms):
            return None
        return known[2]


class WatchedKeys:
    """Keeps callers true to the file of keys, without a restart.

    Parameters
    ----------
    settings
        Name the file.

    Raises
    ------
    SettingsError
        If the file cannot be used now.
    """

    def __init__(self, settings: Settings) -> None:
        self._path = Path(settings.keys_file)
        self.callers, self.failures = Callers(settings), 0
        self._seen = self._mark()
        self.callers.put(read_keys(self._path), time.monotonic())

    def _mark(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def look(self) -> None:
        """Take the file in where it changed; one that cannot be used leaves the keys that were known."""
        mark = self._mark()
        if mark == self._seen:
            return
        self._seen = mark
        try:
            self.callers.put(read_keys(self._path), time.monotonic())
        except SettingsError as error:
            self.failures += 1
            log.error("keys not taken in: those known before stay", why=str(error))
        else:
            log.info("keys taken in", keys=len(self.callers))

    async def run(self) -> None:
        """Look every second, for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()
