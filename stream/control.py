"""The folder's logic for control documents: validated, versioned, fed to every server."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from state.decoding import Refusal
from state.events import Control, Explorations, encode
from state.feed import NamesFeed, encode_feed
from state.keys import control_key, counters_key, redriven_key
from stream.effects import Counters, Effects, Place
from stream.redriven import Redriven
from stream.rows import Row

DOCUMENT_TYPES = {"exploration": Explorations}


class ControlLogic:
    """Folds control documents; each accepted change raises the document's version by one.

    Parameters
    ----------
    place
        The control unit.
    """

    kinds = ("control",)

    def __init__(self, place: Place) -> None:
        self.place = place

    @property
    def hashes(self) -> list[str]:
        """Hash keys to load before the first fold."""
        prefix = self.place.prefix
        return [control_key(prefix), counters_key(prefix), redriven_key(prefix)]

    def restore(self, meta: Mapping[str, str], hashes: Mapping[str, dict[bytes, bytes]]) -> None:
        """Take in what the store holds."""
        self.outbox_number = int(meta.get("outbox", "0"))
        self.counters = Counters(hashes[counters_key(self.place.prefix)])
        self.redriven = Redriven(self.place.prefix, hashes[redriven_key(self.place.prefix)])
        stored = hashes[control_key(self.place.prefix)]
        self._versions = {name.decode(): msgspec.json.decode(raw)["version"] for name, raw in stored.items()}

    def next_due(self) -> int | None:
        """Return None: nothing here waits for time."""
        return None

    def wanted(self, rows: Sequence[Row], watermark: int) -> list[str]:  # noqa: ARG002
        """Return no keys: documents replace."""
        return []

    def put(self, values: Sequence[bytes | None]) -> None:
        """Take in nothing."""

    def fold(self, rows: Sequence[Row], watermark: int) -> Effects:
        """Fold rows in order."""
        effects = Effects(self.place, self.counters, self.outbox_number)
        names: list[str] = []
        for row in rows:
            if self.redriven.is_again(row) or self.redriven.is_copy(row):
                self.counters.add("control.redriven_again")
                continue
            try:
                names.append(self._accept(row, effects))
            except Refusal as refusal:
                effects.refuse(row, refusal.reason, str(refusal))
        self.redriven.expire(watermark, effects)
        effects.change.feed = encode_feed(NamesFeed(list(dict.fromkeys(names))))
        self.outbox_number = effects.outbox_number
        return effects

    def _accept(self, row: Row, effects: Effects) -> str:
        if row.refusal is not None:
            raise row.refusal
        assert isinstance(row.event, Control)
        document = read_document(row.event)
        version = self._versions.get(row.event.name, 0) + 1
        document |= {"version": version, "changed_by": row.event.changed_by, "why": row.event.why}
        self._versions[row.event.name] = version
        self.counters.add("control")
        self.redriven.take(row, effects)
        effects.write(control_key(self.place.prefix), row.event.name, encode(document))
        return row.event.name


def read_document(event: Control) -> dict[str, Any]:
    """Return the validated document of a control event.

    Raises
    ------
    Refusal
        If its kind is unknown or a value is out of bounds.
    """
    kind = event.name.split("/")[0]
    type_ = DOCUMENT_TYPES.get(kind)
    if type_ is None:
        raise Refusal(
            "unknown_control", "name", event.name, f"one of {', '.join(DOCUMENT_TYPES)}, then / and a name"
        )
    try:
        return dict(msgspec.to_builtins(msgspec.convert(event.document, type_)))
    except msgspec.ValidationError as error:
        raise Refusal("bad_document", "document", event.document, str(error)) from None
