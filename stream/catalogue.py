"""The folder's logic for one item shard: live items in the store, each change in the feed."""

from collections.abc import Mapping, Sequence

from state.decoding import Refusal
from state.events import Item
from state.feed import ItemFeed, encode_feed
from state.imports import Imports
from state.keys import counters_key, item_times_key, items_key, producers_key, redriven_key
from stream.effects import Counters, Effects, Place, write_imports
from stream.item_times import ItemTimes
from stream.producers import Producers
from stream.redriven import Redriven
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
        return [key(self.place.prefix) for key in (counters_key, item_times_key, producers_key, redriven_key)]

    def restore(self, meta: Mapping[str, str], hashes: Mapping[str, dict[bytes, bytes]]) -> None:
        """Take in what the store holds."""
        self.outbox_number = int(meta.get("outbox", "0"))
        self.counters = Counters(hashes[counters_key(self.place.prefix)])
        self.redriven = Redriven(self.place.prefix, hashes[redriven_key(self.place.prefix)])
        self.times = ItemTimes(self.place.prefix, hashes[item_times_key(self.place.prefix)])
        self.imports = Imports(meta)
        self.producers = Producers(self.place.prefix, hashes[producers_key(self.place.prefix)])

    def next_due(self) -> int | None:
        """Return None: nothing here waits for time."""
        return None

    def wanted(self, rows: Sequence[Row], watermark: int) -> list[str]:  # noqa: ARG002
        """Return no keys: upserts replace."""
        return []

    def put(self, values: Sequence[bytes | None]) -> None:
        """Take in nothing."""

    def fold(self, rows: Sequence[Row], watermark: int) -> Effects:
        """Fold rows in order; the last word on an item counts, of an import only one that is not older."""
        effects = Effects(self.place, self.counters, self.outbox_number)
        changed: dict[str, bytes | None] = {}
        for row in rows:
            self.producers.arrived(row)
            if self.redriven.is_again(row):
                self.counters.add("items.redriven_again")
                continue
            try:
                item_id, value = _read(row)
            except Refusal as refusal:
                effects.refuse(row, refusal.reason, str(refusal))
                self.producers.refused(row, refusal)
                continue
            if row.imported and self._adds_nothing(row, item_id):
                continue
            self._store(row, item_id, value, effects)
            changed[item_id] = value
            self.redriven.take(row, effects)
        self.redriven.expire(watermark, effects)
        write_imports(self.imports, effects)
        self.producers.write(effects)
        effects.change.feed = encode_feed(ItemFeed(list(changed.items())))
        self.outbox_number = effects.outbox_number
        return effects

    def _adds_nothing(self, row: Row, item_id: str) -> bool:
        reason = ""
        if not self.imports.is_new(row.imported, row.number):
            reason = ".duplicate"
        elif self.times.is_older(item_id, row.occurred_at()):
            reason = ".older"
        self.counters.add(f"imported.items{reason}")
        return bool(reason)

    def _store(self, row: Row, item_id: str, value: bytes | None, effects: Effects) -> None:
        key = items_key(self.place.prefix)
        if value is None:
            self.times.note_removal(item_id, row.received_at, effects)
            effects.erase(key, item_id)
            self.counters.add("removed_items")
            return
        self.times.note(item_id, row.occurred_at(), effects)
        effects.write(key, item_id, value)
        if not row.imported:
            self.counters.add("items")


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
