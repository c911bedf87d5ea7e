"""Puts the state that was folded anew in another namespace in the place of a unit's own, at once.

The unit is held meanwhile: its owner's commits wait, and find another owner afterwards, so it loads anew.
What tells where the unit stands stays its own: offsets, outbox, stored decisions, the erasure list.
"""

from collections.abc import Sequence
from typing import Any

from state.keys import feed_key, meta_key, unit_prefix
from state.scan import BATCH, Held, held_keys
from state.snapshots import Hold

KEPT = frozenset({"meta", "feed", "hold", "outbox", "erased", "d", "sd"})
_STAGE = "next:"
_SWAP = """
if redis.call('HGET', KEYS[1], 'commit') ~= ARGV[1] then return 0 end
local at, renamed = 3, tonumber(ARGV[2])
for _ = 1, renamed do
    redis.call('RENAME', ARGV[at], ARGV[at + 1])
    at = at + 2
end
for place = at, #ARGV do redis.call('DEL', ARGV[place]) end
local now = redis.call('TIME')
local held = tonumber(redis.call('HGET', KEYS[1], 'epoch'))
local epoch = string.format('%.0f', math.max(held + 1, now[1] * 1000 + math.floor(now[2] / 1000)))
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
    prefix = unit_prefix(namespace, unit).encode()
    staged = [name async for name in _stage(redis, (other, unit), prefix, hold)]
    doomed = [held.key async for held in held_keys(redis, namespace, unit) if _goes(held, set(staged))]
    await hold.renew()
    pairs = [part for name in staged for part in (prefix + _STAGE.encode() + name, prefix + name)]
    keys = (meta_key(unit_prefix(namespace, unit)), feed_key(unit_prefix(namespace, unit)))
    if not await redis.eval(_SWAP, 2, *keys, commit, len(staged), *pairs, *doomed):
        raise ReplacedMeanwhileError(
            f"unit {unit} no longer stands at commit {commit}; wished: it held still"
        )
    return len(staged)


def _goes(held: Held, staged: set[bytes]) -> bool:
    """Return whether a key is folded state that the other namespace does not have."""
    return not _is_kept(held.name) and not held.name.startswith(_STAGE.encode()) and held.name not in staged


def _is_kept(name: bytes) -> bool:
    return name.partition(b":")[0].decode(errors="replace") in KEPT


async def _stage(redis: Any, source: tuple[str, str], prefix: bytes, hold: Hold) -> Any:
    """Copy the folded keys of a unit beside another's, and yield their names, each once."""
    batch: list[Held] = []
    seen: set[bytes] = set()
    async for held in held_keys(redis, *source):
        if _is_kept(held.name) or held.name in seen:
            continue
        seen.add(held.name)
        batch.append(held)
        if len(batch) >= BATCH:
            for name in await _copy(redis, batch, prefix, hold):
                yield name
            batch = []
    for name in await _copy(redis, batch, prefix, hold):
        yield name


async def _copy(redis: Any, batch: Sequence[Held], prefix: bytes, hold: Hold) -> list[bytes]:
    async with redis.pipeline(transaction=False) as pipe:
        for held in batch:
            pipe.dump(held.key)
            pipe.pttl(held.key)
        found = await pipe.execute()
    copied = []
    async with redis.pipeline(transaction=False) as pipe:
        for held, raw, ttl in zip(batch, found[::2], found[1::2], strict=True):
            if raw is not None:
                pipe.restore(prefix + _STAGE.encode() + held.name, max(0, ttl), raw, replace=True)
                copied.append(held.name)
        await pipe.execute()
    await hold.renew()
    return copied


async def drop_namespace(redis: Any, namespace: str) -> int:
    """Delete every key of a namespace's units; returns how many there were."""
    gone = 0
    batch: list[bytes] = []
    async for held in held_keys(redis, namespace):
        batch.append(held.key)
        if len(batch) >= BATCH:
            gone += await _delete(redis, batch)
            batch = []
    return gone + await _delete(redis, batch)


async def _delete(redis: Any, keys: Sequence[bytes]) -> int:
    async with redis.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.unlink(key)
        return sum(await pipe.execute())
