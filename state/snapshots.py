"""Snapshots: all state of a namespace in one file, each unit as of one commit, and back into a store.

A unit is held while it is read: its owner's commits wait, for the moment that takes. Feeds stay out.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from msgspec import Struct

from state.frames import FrameWriter, check_file, read_frames
from state.keys import hold_key, meta_key, unit_prefix
from state.scan import BATCH, entries, held_keys, read_meta

HOLD_MS = 10_000
EPOCHS_AHEAD = 1_000
"""How far a restored unit's epoch jumps: no owner from before the restore may be taken for a later one."""

_PATIENCE_S = 60.0
_RESTORING = "restoring"
_OUTBOX = b"outbox"
_OF_REPLAYS = ("restored:", "replay_")
_OUT = frozenset({b"feed", b"hold", b"meta"})
_IF_OURS = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "
_WRITE_META = "redis.call('DEL', KEYS[1]) return redis.call('HSET', KEYS[1], unpack(ARGV))"
_RENEW = f"{_IF_OURS} return redis.call('PEXPIRE', KEYS[1], ARGV[2])"
_RELEASE = f"{_IF_OURS} return redis.call('DEL', KEYS[1])"


class SnapshotError(RuntimeError):
    """A snapshot that cannot be taken or put back; the message says why."""


class Written(Struct):
    """What a snapshot holds: commit by unit, keys and bytes in all."""

    commits: dict[str, int]
    keys: int
    bytes: int


class Hold:
    """Keeps a unit's owner from committing while it is read.

    Parameters
    ----------
    redis
        Client of the store.
    prefix
        Of the unit.
    """

    def __init__(self, redis: Any, prefix: str) -> None:
        self._redis, self._key, self._token = redis, hold_key(prefix), uuid.uuid4().hex

    async def __aenter__(self) -> "Hold":
        async with asyncio.timeout(_PATIENCE_S):
            while not await self._redis.set(self._key, self._token, nx=True, px=HOLD_MS):
                await asyncio.sleep(0.05)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._redis.eval(_RELEASE, 1, self._key, self._token)

    async def renew(self) -> None:
        """Hold on for another ten seconds.

        Raises
        ------
        SnapshotError
            If the hold ran out in between: what was read may not be of one commit.
        """
        if not await self._redis.eval(_RENEW, 1, self._key, self._token, HOLD_MS):
            raise SnapshotError(
                f"{self._key} ran out while the unit was read; wished: a store that answers sooner"
            )


async def create_snapshot(redis: Any, namespace: str, about: Mapping[str, Any], path: Path) -> Written:
    """Write a snapshot of every unit of a namespace.

    Parameters
    ----------
    redis
        Client of the store.
    namespace
        What to take.
    about
        Further facts for the head of the file.
    path
        Where the file goes.

    Raises
    ------
    SnapshotError
        If there is nothing to take, or a unit did not hold still.
    """
    units = sorted({held.unit async for held in held_keys(redis, namespace, name="meta")})
    if not units:
        raise SnapshotError(f"namespace {namespace} holds nothing; wished: one a worker has claimed")
    written = Written({}, 0, 0)
    with FrameWriter(path) as file:
        file.write(["head", {**about, "namespace": namespace, "units": units}])
        for unit in units:
            await _write_unit(redis, (namespace, unit), file, written)
    written.bytes = file.bytes
    return written


async def _write_unit(redis: Any, place: tuple[str, str], file: FrameWriter, written: Written) -> None:
    namespace, unit = place
    async with Hold(redis, unit_prefix(namespace, unit)) as hold:
        meta = await read_meta(redis, namespace, unit)
        file.write(["unit", unit, meta])
        async for frame in _unit_frames(redis, namespace, unit):
            file.write(frame)
            await hold.renew()
        after = await read_meta(redis, namespace, unit)
        if after.get("commit") != meta.get("commit"):
            raise SnapshotError(
                f"unit {unit} was committed to while it was held; wished: the same version everywhere"
            )
    written.commits[unit] = int(meta.get("commit", "0"))
    written.keys = file.frames


async def _unit_frames(redis: Any, namespace: str, unit: str) -> AsyncIterator[list[Any]]:
    values: list[list[Any]] = []
    async for held in held_keys(redis, namespace, unit):
        if held.name in _OUT:
            continue
        if held.value is not None:
            values.append([held.name, held.value, held.ttl_ms])
            if len(values) >= BATCH:
                yield ["values", values]
                values = []
            continue
        first = True
        async for part in entries(redis, held):
            yield ["part", held.kind, held.name, first, part]
            first = False
    if values:
        yield ["values", values]


def read_head(path: Path) -> dict[str, Any]:
    """Return what the head of a snapshot says, without reading the rest."""
    frame: list[Any] = next(read_frames(path), ["nothing", {}])
    if frame[0] != "head":
        raise SnapshotError(f"file {path} begins with {frame[0]!r}; wished: the head of a snapshot")
    return dict(frame[1])


async def restore_snapshot(
    redis: Any, path: Path, into: str, marks: Mapping[str, str] | None = None
) -> list[str]:
    """Put a snapshot into a namespace that holds nothing; returns its units.

    A restore that was stopped goes on when it is said again with the same file.

    Parameters
    ----------
    redis
        Client of the store.
    path
        The file; checked to its end before anything is written.
    into
        Namespace to fill.
    marks
        Further fields of each unit's meta hash, for the target of a replay: messages not yet sent at the
        time of the snapshot are left out, as a replay sends nothing.

    Raises
    ------
    SnapshotError
        If the namespace holds something else.
    FrameError
        If the file is not whole.
    """
    digest = check_file(path).hex()
    await _check_empty(redis, into, digest)
    unit, units = "", []
    meta: dict[str, str] = {}
    for frame in read_frames(path):
        if frame[0] == "unit":
            await _finish_unit(redis, into, unit, meta)
            unit, meta = frame[1], restored_meta(frame[2], digest) | dict(marks or {})
            units.append(unit)
            await redis.hset(meta_key(unit_prefix(into, unit)), _RESTORING, digest)
        elif frame[0] == "values" or (frame[0] == "part" and not (marks and frame[2] == _OUTBOX)):
            await _restore_frame(redis, unit_prefix(into, unit).encode(), frame)
    await _finish_unit(redis, into, unit, meta)
    return units


async def _check_empty(redis: Any, into: str, digest: str) -> None:
    for unit in {held.unit async for held in held_keys(redis, into)}:
        meta = await read_meta(redis, into, unit)
        if digest not in (meta.get(_RESTORING), meta.get(f"restored:{meta.get('epoch')}")):
            raise SnapshotError(
                f"namespace {into} holds state of its own (unit {unit}); wished: an empty one"
            )


def restored_meta(meta: Mapping[str, str], digest: str) -> dict[str, str]:
    """Return a unit's meta hash as it is put back; until its next claim it says what it was restored from."""
    epoch = str(int(meta.get("epoch", "0")) + EPOCHS_AHEAD)
    kept = {name: value for name, value in meta.items() if not name.startswith(_OF_REPLAYS)}
    return kept | {"epoch": epoch, "claimed_at": meta.get("commit", "0"), f"restored:{epoch}": digest}


async def _finish_unit(redis: Any, into: str, unit: str, meta: dict[str, str]) -> None:
    """Write where the unit stands, last and at once: until then nobody takes it for whole."""
    if not unit:
        return
    key = meta_key(unit_prefix(into, unit))
    await redis.eval(_WRITE_META, 1, key, *chain.from_iterable(meta.items()))


async def _restore_frame(redis: Any, prefix: bytes, frame: list[Any]) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        if frame[0] == "values":
            for name, value, ttl in frame[1]:
                pipe.set(prefix + name, value, px=ttl or None)
        else:
            _, kind, name, first, part = frame
            if first:
                pipe.delete(prefix + name)
            _add(pipe, kind, prefix + name, part)
        await pipe.execute()


def _add(pipe: Any, kind: str, key: bytes, part: Iterable[tuple[bytes, bytes]]) -> None:
    pairs = dict(part)
    if not pairs:
        return
    if kind == "hash":
        pipe.hset(key, mapping=pairs)
    elif kind == "set":
        pipe.sadd(key, *pairs)
    elif kind == "zset":
        pipe.zadd(key, {member: float(score) for member, score in pairs.items()})
    else:
        pipe.rpush(key, *pairs.values())
