"""When each catalogue item was last spoken of, so that an import puts nothing older over it."""

from collections.abc import Mapping

from state.keys import item_times_key
from state.retention import REMOVALS_KEPT_MS
from stream.effects import Effects

_REMOVED = b"-"


class ItemTimes:
    """Event time of each item's newest word, kept beside the items.

    Removed items are remembered as long as the log shows their removal.

    Parameters
    ----------
    prefix
        Key prefix of the item shard.
    stored
        The hash as loaded.
    """

    def __init__(self, prefix: str, stored: Mapping[bytes, bytes]) -> None:
        self._key = item_times_key(prefix)
        self._times = {name.decode(): int(value.lstrip(_REMOVED)) for name, value in stored.items()}
        removed = [name.decode() for name, value in stored.items() if value.startswith(_REMOVED)]
        self._removed = dict.fromkeys(sorted(removed, key=self._times.__getitem__))

    def is_older(self, item_id: str, at_ms: int) -> bool:
        """Return whether something newer is known of an item."""
        return at_ms < self._times.get(item_id, 0)

    def note(self, item_id: str, at_ms: int, effects: Effects) -> None:
        """Note an upsert."""
        self._removed.pop(item_id, None)
        self._times[item_id] = at_ms
        effects.write(self._key, item_id, str(at_ms).encode())

    def note_removal(self, item_id: str, at_ms: int, effects: Effects) -> None:
        """Note a removal, and forget those the log does not show any more."""
        self._removed.pop(item_id, None)
        self._removed[item_id] = None
        self._times[item_id] = at_ms
        effects.write(self._key, item_id, _REMOVED + str(at_ms).encode())
        while self._times[oldest := next(iter(self._removed))] < at_ms - REMOVALS_KEPT_MS:
            del self._removed[oldest], self._times[oldest]
            effects.erase(self._key, oldest)
