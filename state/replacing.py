"""Puts the state that was folded anew in another namespace in the place of a unit's own, at once.

The unit is held meanwhile: its owner's commits wait, and find another owner afterwards, so it loads anew.
What tells where the unit stands stays its own: offsets, outbox, stored decisions, the erasure list.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from state.keys import feed_key, meta_key, unit_prefix
from state.scan import BATCH, key_lots
from state.snapshots import Hold

KEPT = frozenset({"meta", "feed", "hold", "outbox", "erased", "d", "sd"})
_STAGE = "next:"
_SWAP = """
if (redis.call('HGET', KEYS[1], 'commit') or '0') ~= ARGV[1] then return 0 end
local at, renamed = 3, tonumber(ARGV[2])
for _ = 1, renamed do
    redis.call('RENAME', ARGV[at], ARGV[at + 1])
    at = at + 2
end
for place = at, #ARGV do redis.call('DEL', ARGV[place]) end
local now = redis.call('TIME')
local held = tonumber(redis.call('HGET', KEYS[1], 'epoch'))
local epoch = string.format('%.0f', math.max(held + 1, now[1] * 1000000 + now[2]))
local commit = redis.call('HINCRBY', KEYS[1], 'commit', 1)
redis.call('HSET', KEYS[1], 'epoch', epoch, 'claimed_at', commit)
redis.call('XADD', KEYS[2], commit .. '-0', 'e', epoch, 'n', commit, 'c', '')
return commit
"""


class ReplacedMeanwhileError(RuntimeError):
    """A unit that was committed to although it was held; nothing was replaced."""


async def replace_state(redis: Any, place: tuple[str, str], other: str, commit: int, hold: Hold) -> int:
    """Replace a unit's folded state by another namespace's; returns how many keys it has now.

    Parameters
    ----------
    redis
        Client of the store.
    place
        Namespace and unit.
    other
        Namespace whose unit of that name holds the same log folded anew.
    commit
        The commit of the unit that the other one stands for.
    hold
        Of the unit, entered.

    Raises
    ------
    ReplacedMeanwhileError
        If the unit stands at another commit.
    SnapshotError
        If the hold ran out.
    """
    namespace, unit = place
    prefix = unit_prefix(namespace, unit)
    staged = await _stage(redis, (other, unit), prefix, hold)
    doomed = [key async for key in _folded(redis, namespace, unit) if _name(key) not in staged]
    await hold.renew()
    pairs = [part for name in staged for part in (_staged(prefix, name), prefix.encode() + name)]
    keys = (meta_key(prefix), feed_key(prefix))
    if not await redis.eval(_SWAP, 2, *keys, commit, len(staged), *pairs, *doomed):
        raise ReplacedMeanwhileError(f"unit {unit} left commit {commit} while it was held")
    return len(staged)


def _staged(prefix: str, name: bytes) -> bytes:
    return f"{prefix}{_STAGE}".encode() + name


def _name(key: bytes) -> bytes:
    return key.partition(b"}:")[2]


async def _folded(redis: Any, namespace: str, unit: str) -> AsyncIterator[bytes]:
    """Yield the keys of a unit that hold folded state; one may come twice."""
    async for keys in key_lots(redis, namespace, unit):
        for key in keys:
            family = _name(key).partition(b":")[0].decode(errors="replace")
            if family not in KEPT and family != _STAGE[:-1]:
                yield key


async def _stage(redis: Any, source: tuple[str, str], prefix: str, hold: Hold) -> dict[bytes, None]:
    """Copy the folded keys of a unit beside another's; returns their names, each once."""
    names: dict[bytes, None] = {}
    lot: list[bytes] = []
    async for key in _folded(redis, *source):
        if _name(key) not in names:
            names[_name(key)] = None
            lot.append(key)
        if len(lot) >= BATCH:
            await _copy(redis, lot, prefix, hold)
            lot = []
    await _copy(redis, lot, prefix, hold)
    return names


async def _copy(redis: Any, keys: Sequence[bytes], prefix: str, hold: Hold) -> None:
    """Copy keys as they are, times to live included; nobody else writes the namespace they come from."""
    async with redis.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.dump(key)
            pipe.pttl(key)
        found = await pipe.execute()
    async with redis.pipeline(transaction=False) as pipe:
        for key, raw, ttl in zip(keys, found[::2], found[1::2], strict=True):
            pipe.restore(_staged(prefix, _name(key)), max(0, ttl), raw, replace=True)
        await pipe.execute()
    await hold.renew()


async def drop_namespace(redis: Any, namespace: str) -> None:
    """Delete every key of a namespace's units."""
    async for keys in key_lots(redis, namespace):
        async with redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.unlink(key)
            await pipe.execute()
