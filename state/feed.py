"""Change feed entries: what one commit changed, in the form servers apply."""

import msgspec
from msgspec import Struct, field

from state.exploring import Progress, Stretch

NO_SESSION = -(1 << 63)


class Interaction(Struct, array_like=True):
    """One interaction counted into shared statistics.

    Attributes
    ----------
    session
        64-bit session hash, signed; `NO_SESSION` where its subject left in the same commit.
    item_id, at_ms
        What and when.
    interest
        Strength, 0 to 1.
    surface
        Where it happened; empty where nobody said.
    facets
        What the context of its decision said of the visit, such as ``country:de``; empty for none.
    """

    session: int
    item_id: str
    at_ms: int
    interest: float
    surface: str = ""
    facets: list[str] = []


class ExploringFeed(Struct, array_like=True):
    """What one commit changed of exploration in a subject shard, as it stands now.

    Attributes
    ----------
    newcomers
        Fields of new items and their progress.
    stretches
        Surface, number of the stretch and what was done in it.
    dropped
        Fields of new items that were forgotten.
    """

    newcomers: list[tuple[str, Progress]] = field(default_factory=list)
    stretches: list[tuple[str, int, Stretch]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


class ShardFeed(Struct, array_like=True):
    """What one commit of a subject shard changed.

    Attributes
    ----------
    interactions
        In folded order.
    bandit_items
        Items whose accumulators changed.
    bandit_shared
        Whether the shared accumulators changed.
    dropped_sessions
        Session hashes that left the shard's sessions.
    watermark
        Event time up to which the shard is complete, ms.
    erased_sessions
        Session hashes whose subject left; dropped before the interactions are applied.
    history
        Interactions of an import: statistics take them in, nothing is taught by them.
    exploring
        What changed of new items and spending, if anything.
    erasures
        Subjects that were erased, whether or not they had sessions.
    """

    interactions: list[Interaction] = field(default_factory=list)
    bandit_items: list[str] = field(default_factory=list)
    bandit_shared: bool = False
    dropped_sessions: list[int] = field(default_factory=list)
    watermark: int = 0
    erased_sessions: list[int] = field(default_factory=list)
    history: list[Interaction] = field(default_factory=list)
    exploring: ExploringFeed | None = None
    erasures: int = 0


class ItemFeed(Struct, array_like=True):
    """Catalogue changes of one commit: item id and its event, or None where it was removed."""

    items: list[tuple[str, bytes | None]] = field(default_factory=list)


class NamesFeed(Struct, array_like=True):
    """Names of fields that changed: surfaces of a lane's models, or control documents."""

    names: list[str] = field(default_factory=list)


encode_feed = msgspec.msgpack.Encoder().encode
_shard = msgspec.msgpack.Decoder(ShardFeed)
_items = msgspec.msgpack.Decoder(ItemFeed)
_names = msgspec.msgpack.Decoder(NamesFeed)


def decode_shard_feed(raw: bytes) -> ShardFeed:
    """Return a subject shard's entry."""
    return _shard.decode(raw)


def decode_item_feed(raw: bytes) -> ItemFeed:
    """Return an item shard's entry."""
    return _items.decode(raw)


def decode_names_feed(raw: bytes) -> NamesFeed:
    """Return a lane's or control's entry."""
    return _names.decode(raw)
