"""Reading everything a namespace's units hold, key by key, in bounded memory."""

import re
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

from msgspec import Struct

from state.keys import meta_key, unit_prefix

BATCH = 500
Entry = tuple[bytes, bytes]
_KEY = re.compile(rb"\{[^{}]*:([^:{}]+)\}:(.+)", re.DOTALL)


# One round trip for a whole part of a scan: its keys one by one would cost ten times as much.
_READ = """
local found = {}
for place, key in ipairs(KEYS) do
    local kind = redis.call('TYPE', key).ok
    local value = kind == 'string' and redis.call('GET', key) or false
    found[place] = {kind, redis.call('PTTL', key), value}
end
return found
"""


class Held(Struct, frozen=True):
    """One key as it is held.

    Attributes
    ----------
    unit, name
        Its unit, and its name without the unit's prefix.
    key
        As stored.
    kind
        The store's type of it.
    ttl_ms
        Time it has left; 0 for ever.
    value
        Of a string; None for collections.
    """

    unit: str
    name: bytes
    key: bytes
    kind: str
    ttl_ms: int
    value: bytes | None


class UnreadableKeyError(RuntimeError):
    """A key whose type nothing here can read."""


async def held_keys(redis: Any, namespace: str, unit: str = "*", name: str = "*") -> AsyncIterator[Held]:
    """Yield the keys of a namespace's units, or of one unit or name; one may come twice, as SCAN says."""
    async for keys in key_lots(redis, namespace, unit, name):
        for of_unit in _by_unit(keys).values():
            for held in await _read(redis, of_unit):
                yield held


async def key_lots(
    redis: Any, namespace: str, unit: str = "*", name: str = "*"
) -> AsyncIterator[list[bytes]]:
    """Yield the keys themselves, as stored, many at a time; one may come twice, as SCAN says."""
    keys: list[bytes] = []
    async for key in redis.scan_iter(match=f"{unit_prefix(namespace, unit)}{name}", count=BATCH):
        keys.append(key)
        if len(keys) >= BATCH:
            yield keys
            keys = []
    if keys:
        yield keys


def _by_unit(keys: list[bytes]) -> dict[bytes, list[bytes]]:
    """Return keys by their hash tag: a script may only read those of one."""
    found: dict[bytes, list[bytes]] = defaultdict(list)
    for key in keys:
        if _KEY.fullmatch(key):
            found[key.partition(b"}")[0]].append(key)
    return found


async def _read(redis: Any, keys: list[bytes]) -> list[Held]:
    found = []
    answer = await redis.eval(_READ, len(keys), *keys)
    for key, (kind, ttl, value) in zip(keys, answer, strict=True):
        match = _KEY.fullmatch(key)
        if match is not None and kind != b"none":
            place = match[1].decode(), match[2], key
            found.append(Held(*place, kind.decode(), max(0, ttl), value))
    return found


async def entries(redis: Any, held: Held) -> AsyncIterator[list[Entry]]:
    """Yield what a collection holds as pairs of bytes, a part at a time.

    Raises
    ------
    UnreadableKeyError
        If it is of a type nothing here can read.
    """
    if held.kind == "list":
        async for part in _list_entries(redis, held.key):
            yield part
        return
    scan = {"hash": redis.hscan, "set": redis.sscan, "zset": redis.zscan}.get(held.kind)
    if scan is None:
        raise UnreadableKeyError(f"key {held.key!r} has type {held.kind}; wished: hash, set, zset or list")
    cursor = 0
    while True:
        cursor, part = await scan(held.key, cursor, count=BATCH)
        yield _pairs(held.kind, part)
        if int(cursor) == 0:
            return


def _pairs(kind: str, part: Any) -> list[Entry]:
    if kind == "hash":
        return list(part.items())
    if kind == "set":
        return [(member, b"") for member in part]
    return [(member, repr(float(score)).encode()) for member, score in part]


async def _list_entries(redis: Any, key: bytes) -> AsyncIterator[list[Entry]]:
    start = 0
    while part := await redis.lrange(key, start, start + BATCH - 1):
        yield [(str(start + n).encode(), value) for n, value in enumerate(part)]
        start += len(part)


async def read_meta(redis: Any, namespace: str, unit: str) -> dict[str, str]:
    """Return the meta hash of a unit; empty where nothing ever claimed it."""
    stored = await redis.hgetall(meta_key(unit_prefix(namespace, unit)))
    return {name.decode(): value.decode() for name, value in stored.items()}
