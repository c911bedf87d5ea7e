"""The one script through which a unit's state changes: values, offsets, outbox and feed, or nothing."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from importlib.resources import files
from itertools import chain
from typing import Any, Protocol

from msgspec import Struct, field

from state.events import encode
from state.keys import feed_key, meta_key, outbox_key
from state.retention import FEED_CAP

HELD_RETRY_S = 0.02
_SCRIPT = files("state").joinpath("commit.lua").read_text()
# A store that failed over to an older copy has forgotten the latest epochs: by the clock, none comes twice.
# It has forgotten the latest outbox numbers as well: they go on from the epoch, which is in microseconds,
# so that no number is ever used for two messages.
_CLAIM = """
local now = redis.call('TIME')
local held = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
local epoch = math.max(held + 1, now[1] * 1000000 + now[2])
local outbox = math.max(tonumber(redis.call('HGET', KEYS[1], 'outbox') or '0'), epoch)
redis.call('HSET', KEYS[1], 'before', string.format('%.0f', held), 'epoch', string.format('%.0f', epoch))
redis.call('HSET', KEYS[1], 'outbox', string.format('%.0f', outbox))
redis.call('HSET', KEYS[1], 'claimed_at', redis.call('HGET', KEYS[1], 'commit') or '0')
return redis.call('HGETALL', KEYS[1])
"""


class FencedError(RuntimeError):
    """The commit named an epoch or an offset that is not the stored one; nothing was written."""


class Purge(Struct, frozen=True):
    """An index whose values go with it: the keys ``prefix`` + each member, then the index itself.

    ``members`` are further members, of which the index has not been told.
    Where ``list_key`` is given, the JSON object ``entry`` is written to its ``name``, completed by the script
    with ``commit`` and with ``decisions``, how many values there were.
    """

    prefix: str
    members: tuple[str, ...] = ()
    list_key: str = ""
    name: str = ""
    entry: bytes = b""


class Change(Struct):
    """What one commit writes.

    Attributes
    ----------
    offsets
        Topic -> (previous next offset or None at the very first commit, new next offset).
    values
        Key -> (bytes, time to live in ms; 0 for ever).
    purged
        Index key -> what goes with it; done before anything is written.
    indexed
        Index key -> member -> how long it is kept, ms; the longest of a key's holds for all of it.
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
    empties_feed
        Whether all earlier feed entries go.
    meta
        Further fields of the unit's meta hash, for example the watermark.
    follows
        Number of the commit it was folded upon; None for what is folded upon nothing, as a filled store is.
    """

    offsets: dict[str, tuple[int | None, int]] = field(default_factory=dict)
    values: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    purged: dict[str, Purge] = field(default_factory=dict)
    indexed: dict[str, dict[str, int]] = field(default_factory=dict)
    fields: dict[str, dict[str, bytes]] = field(default_factory=dict)
    dropped_fields: dict[str, dict[str, None]] = field(default_factory=dict)
    dropped_keys: list[str] = field(default_factory=list)
    outbox: list[bytes] = field(default_factory=list)
    sent: int = 0
    feed: bytes = b""
    empties_feed: bool = False
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
    """Commit a change under an epoch; returns the commit number. Waits while a snapshot holds the unit.

    Raises
    ------
    FencedError
        If another owner claimed the unit, its last commit is another, or a stored offset differs; nothing was
        written.
    """
    request = _request(prefix, epoch, change)
    answer = ["held"]
    while answer[0] == "held":
        answer = [part.decode() for part in await redis.eval(_SCRIPT, 1, meta_key(prefix), *request)]
        if answer[0] == "held":
            await asyncio.sleep(HELD_RETRY_S)
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
        [(key, p.prefix, encode(p.members), p.list_key, p.name, p.entry) for key, p in change.purged.items()],
        [(key, ttl, value) for key, (value, ttl) in change.values.items()],
        [(key, encode(list(names)), max(names.values())) for key, names in change.indexed.items()],
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
    feed = (feed_key(prefix), int(change.empties_feed), FEED_CAP, change.feed)
    return [*flat, outbox_key(prefix), change.sent, *feed]
