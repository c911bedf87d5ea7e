"""Reading everything a namespace's units hold, key by key, in bounded memory."""

import re
from collections.abc import AsyncIterator
from typing import Any

from msgspec import Struct

from state.keys import meta_key, unit_prefix

BATCH = 500
Entry = tuple[bytes, bytes]
_KEY = re.compile(rb"\{[^{}]*:([^:{}]+)\}:(.+)", re.DOTALL)


class Held(Struct, frozen=True):
    """One key: its unit, its name without the unit's prefix, the key as stored, and its type there."""

    unit: str
    name: bytes
    key: bytes
    kind: str


class UnreadableKeyError(RuntimeError):
    """A key whose type nothing here can read."""


async def held_keys(redis: Any, namespace: str, unit: str = "*", name: str = "*") -> AsyncIterator[Held]:
    """Yield the keys of a namespace's units, or of one unit or name; one may come twice, as SCAN says."""
    cursor = 0
    while True:
        cursor, keys = await redis.scan(
            cursor, match=f"{unit_prefix(namespace, unit)}{name}", count=2 * BATCH
        )
        for held in await _typed(redis, keys):
            yield held
        if int(cursor) == 0:
            return


async def _typed(redis: Any, keys: list[bytes]) -> list[Held]:
    async with redis.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.type(key)
        kinds = await pipe.execute()
    found = []
    for key, kind in zip(keys, kinds, strict=True):
        match = _KEY.fullmatch(key)
        if match is not None and kind != b"none":
            found.append(Held(match[1].decode(), match[2], key, kind.decode()))
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
