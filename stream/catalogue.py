"""The folder's logic for one item shard: live items in the store, each change in the feed."""

from collections.abc import Mapping, Sequence

from state.decoding import Refusal
from state.events import Item
from state.feed import ItemFeed, encode_feed
from state.keys import counters_key, items_key, producers_key
from stream.effects import Counters, Effects, Place
from stream.producers import Producers
from stream.rows import Row


class CatalogueLogic:
    """Folds catalogue upserts and removals.

    Parameters
    ----------
    place
        The item shard.
    """

    kinds = ("items",)

    def __init__(self, place: Place) -> None:
        self.place = place

    @property
    def hashes(self) -> list[str]:
        """Hash keys to load before the first fold."""
        return [counters_key(self.place.prefix), producers_key(self.place.prefix)]

    def restore(self, meta: Mapping[str, str], hashes: Mapping[str, dict[bytes, bytes]]) -> None:
        """Take in what the store holds."""
        self.outbox_number = int(meta.get("outbox", "0"))
        self.counters = Counters(hashes[counters_key(self.place.prefix)])
        self.producers = Producers(self.place.prefix, hashes[producers_key(self.place.prefix)])

    def next_due(self) -> int | None:
        """Return None: nothing here waits for time."""
        return None

    def wanted(self, rows: Sequence[Row], watermark: int) -> list[str]:  # noqa: ARG002
        """Return no keys: upserts replace."""
        return []

    def put(self, values: Sequence[bytes | None]) -> None:
        """Take in nothing."""

    def fold(self, rows: Sequence[Row], watermark: int) -> Effects:  # noqa: ARG002
        """Fold rows in order; the last word on an item counts."""
        effects = Effects(self.place, self.counters, self.outbox_number)
        changed: dict[str, bytes | None] = {}
        for row in rows:
            self.producers.arrived(row)
            try:
                item_id, value = _read(row)
            except Refusal as refusal:
                effects.refuse(row, refusal.reason, str(refusal))
                self.producers.refused(row, refusal)
                continue
            self.counters.add("items" if value is not None else "removed_items")
            _store(effects, items_key(self.place.prefix), item_id, value)
            changed[item_id] = value
        self.producers.write(effects)
        effects.change.feed = encode_feed(ItemFeed(list(changed.items())))
        self.outbox_number = effects.outbox_number
        return effects


def _store(effects: Effects, key: str, item_id: str, value: bytes | None) -> None:
    if value is None:
        effects.erase(key, item_id)
    else:
        effects.write(key, item_id, value)


def _read(row: Row) -> tuple[str, bytes | None]:
    if row.refusal is not None:
        raise row.refusal
    try:
        key = (row.key or b"").decode()
    except UnicodeDecodeError:
        raise Refusal("bad_key", "key", row.key, "the item id in UTF-8") from None
    if row.event is None:
        if not key:
            raise Refusal("bad_key", "key", row.key, "the id of the item to remove")
        return key, None
    assert isinstance(row.event, Item)
    if key and key != row.event.item_id:
        raise Refusal("bad_key", "key", key, f"the item id {row.event.item_id!r}")
    return row.event.item_id, row.raw
