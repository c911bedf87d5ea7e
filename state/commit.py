"""The one script through which a unit's state changes: values, offsets, outbox and feed, or nothing."""

from collections.abc import Awaitable, Mapping, Sequence
from importlib.resources import files
from itertools import chain
from typing import Any, Protocol

from msgspec import Struct, field

from state.keys import feed_key, meta_key, outbox_key

FEED_CAP = 20_000
_SCRIPT = files("state").joinpath("commit.lua").read_text()
# A store that failed over to an older copy has forgotten the latest epochs: by the clock, none comes twice.
# It has forgotten the latest outbox numbers as well: they go on from the epoch in microseconds, so that no
# number is ever used for two messages.
_CLAIM = """
local now = redis.call('TIME')
local held = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
local epoch = math.max(held + 1, now[1] * 1000 + math.floor(now[2] / 1000))
local outbox = math.max(tonumber(redis.call('HGET', KEYS[1], 'outbox') or '0'), epoch * 1000)
redis.call('HSET', KEYS[1], 'before', string.format('%.0f', held), 'epoch', string.format('%.0f', epoch))
redis.call('HSET', KEYS[1], 'outbox', string.format('%.0f', outbox))
redis.call('HSET', KEYS[1], 'claimed_at', redis.call('HGET', KEYS[1], 'commit') or '0')
return redis.call('HGETALL', KEYS[1])
"""


class FencedError(RuntimeError):
    """The commit named an epoch or an offset that is not the stored one; nothing was written."""


class Change(Struct):
    """What one commit writes.

    Attributes
    ----------
    offsets
        Topic -> (previous next offset or None at the very first commit, new next offset).
    values
        Key -> (bytes, time to live in ms; 0 for ever).
    fields
        Hash key -> field -> bytes.
    dropped_fields
        Hash key -> fields to delete, as the keys of a dictionary: in order, each once.
    dropped_keys
        Keys to delete.
    outbox
        Messages to send after the commit, encoded.
    sent
        How many entries at the outbox's head Kafka has acknowledged.
    feed
        The feed entry.
    meta
        Further fields of the unit's meta hash, for example the watermark.
    follows
        Number of the commit it was folded upon; None for what is folded upon nothing, as a filled store is.
    """

    offsets: dict[str, tuple[int | None, int]] = field(default_factory=dict)
    values: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    fields: dict[str, dict[str, bytes]] = field(default_factory=dict)
    dropped_fields: dict[str, dict[str, None]] = field(default_factory=dict)
    dropped_keys: list[str] = field(default_factory=list)
    outbox: list[bytes] = field(default_factory=list)
    sent: int = 0
    feed: bytes = b""
    meta: dict[str, str] = field(default_factory=dict)
    follows: int | None = None


class Claim(Struct, frozen=True):
    """A unit as claimed: the new epoch and the meta hash."""

    epoch: int
    meta: Mapping[str, str]

    @property
    def commit(self) -> int:
        """Number of the unit's last commit."""
        return int(self.meta.get("commit", "0"))

    def next_offsets(self) -> dict[str, int]:
        """Return topic -> next offset to read."""
        return {k[2:]: int(v) for k, v in self.meta.items() if k.startswith("o:")}


class RedisClient(Protocol):
    """What this module needs of redis-py's asyncio clients, single or cluster."""

    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Awaitable[Any]:
        """Run a script."""


async def claim_unit(redis: RedisClient, prefix: str) -> Claim:
    """Take a unit over: raise its epoch, so that every earlier owner's commits fail from now on."""
    flat = await redis.eval(_CLAIM, 1, meta_key(prefix))
    texts = [part.decode() for part in flat]
    meta = dict(zip(texts[::2], texts[1::2], strict=True))
    return Claim(int(meta["epoch"]), meta)


async def commit(redis: RedisClient, prefix: str, epoch: int, change: Change) -> int:
    """Commit a change under an epoch; returns the commit number.

    Raises
    ------
    FencedError
        If another owner claimed the unit, its last commit is another, or a stored offset differs; nothing was
        written.
    """
    request = _request(prefix, epoch, change)
    answer = [part.decode() for part in await redis.eval(_SCRIPT, 1, meta_key(prefix), *request)]
    if answer[0] == "ok":
        return int(answer[1])
    if answer[0] == "fenced":
        raise FencedError(f"unit {prefix} is held by epoch {answer[1]!r}, the commit named {epoch}")
    if answer[0] == "commit":
        raise FencedError(f"unit {prefix} stands at commit {answer[1]}, the change follows {change.follows}")
    raise FencedError(
        f"unit {prefix} stands at offset {answer[2]!r} of {answer[1]}; the commit named another"
    )


def _request(prefix: str, epoch: int, change: Change) -> list[str | bytes | int]:
    offsets = [(t, "" if old is None else old, new) for t, (old, new) in change.offsets.items()]
    groups: list[Sequence[tuple[str | bytes | int, ...]]] = [
        offsets,
        [(key, ttl, value) for key, (value, ttl) in change.values.items()],
        [(key, name, value) for key, fields in change.fields.items() for name, value in fields.items()],
        [(key, name) for key, names in change.dropped_fields.items() for name in names],
        [(key,) for key in change.dropped_keys],
        list(change.meta.items()),
        [(entry,) for entry in change.outbox],
    ]
    flat: list[str | bytes | int] = [epoch, "" if change.follows is None else change.follows]
    for group in groups:
        flat.append(len(group))
        flat += chain.from_iterable(group)
    return [*flat, outbox_key(prefix), change.sent, feed_key(prefix), FEED_CAP, change.feed]
