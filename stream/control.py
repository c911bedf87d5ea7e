"""The folder's logic for control documents: validated, versioned, fed to every server."""

from collections.abc import Mapping, Sequence

from state.audit import COUNTER, audit_entry, audit_field
from state.decoding import Refusal
from state.events import Control, Directive, encode
from state.exploration import Document, settings_of
from state.feed import NamesFeed, encode_feed
from state.keys import audit_key, control_key, counters_key, history_key, redriven_key, version_field
from state.model_documents import MODEL_DOCUMENTS
from state.retention import AUDIT_CAP, HISTORY_CAP
from state.versioned import split_name
from stream.documents import ControlDocuments
from stream.effects import Counters, Effects, Place
from stream.redriven import Redriven
from stream.rows import Row


class ControlLogic:
    """Folds control documents; each accepted change raises the document's version by one.

    Parameters
    ----------
    place
        The control unit.
    dwell_ms
        Event time between two changes of one name that are not forced.
    lanes
        How many model lanes there are to pass documents about models on to.
    """

    kinds = ("control",)

    def __init__(self, place: Place, dwell_ms: int, lanes: int = 1) -> None:
        self.place, self._dwell_ms, self._lanes = place, dwell_ms, lanes

    @property
    def hashes(self) -> list[str]:
        """Hash keys to load before the first fold."""
        prefix = self.place.prefix
        return [control_key(prefix), history_key(prefix), counters_key(prefix), redriven_key(prefix)]

    def restore(self, meta: Mapping[str, str], hashes: Mapping[str, dict[bytes, bytes]]) -> None:
        """Take in what the store holds."""
        self.outbox_number = int(meta.get("outbox", "0"))
        self.counters = Counters(hashes[counters_key(self.place.prefix)])
        self.redriven = Redriven(self.place.prefix, hashes[redriven_key(self.place.prefix)])
        stored = hashes[control_key(self.place.prefix)], hashes[history_key(self.place.prefix)]
        self._documents = ControlDocuments(*stored, self._dwell_ms)

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
            if self.redriven.knows(row):
                self.counters.add("control.redriven_again")
                continue
            if isinstance(row.event, Control) and self._documents.is_known(row.event):
                self.counters.add("control.duplicate")
                continue
            before = self._documents.now(row.event) if isinstance(row.event, Control) else None
            try:
                names.append(self._accept(row, before, effects))
            except Refusal as refusal:
                effects.refuse(row, refusal.reason, str(refusal))
                if isinstance(row.event, Control):
                    self._note(row.event, before, refusal.reason, effects)
        self.redriven.expire(watermark, effects)
        effects.change.feed = encode_feed(NamesFeed(list(dict.fromkeys(names))))
        self.outbox_number = effects.outbox_number
        return effects

    def _accept(self, row: Row, before: Document | None, effects: Effects) -> str:
        if row.refusal is not None:
            raise row.refusal
        assert isinstance(row.event, Control)
        name, document = row.event.name, self._documents.change(row.event)
        self.counters.add("control")
        self.redriven.take(row, effects)
        effects.write(control_key(self.place.prefix), name, encode(document))
        effects.write(history_key(self.place.prefix), version_field(name, document.version), encode(document))
        if document.version > HISTORY_CAP:
            effects.erase(history_key(self.place.prefix), version_field(name, document.version - HISTORY_CAP))
        self._note(row.event, before, document, effects)
        if split_name(name)[0] in MODEL_DOCUMENTS:
            self._pass_on(row.event, document, effects)
        return name

    def _note(self, event: Control, before: Document | None, made: Document | str, effects: Effects) -> None:
        """Put what was asked for, and what became of it, into the audit record."""
        self.counters.add(COUNTER)
        number, key = self.counters.totals[COUNTER], audit_key(self.place.prefix)
        effects.write(key, audit_field(number), encode(audit_entry(number, event, before, made)))
        if number > AUDIT_CAP:
            effects.erase(key, audit_field(number - AUDIT_CAP))

    def _pass_on(self, event: Control, document: Document, effects: Effects) -> None:
        """Tell every lane: what it learns by has to stand in its own log."""
        directive = Directive(
            event_id=event.event_id,
            occurred_at=event.occurred_at,
            name=event.name,
            document=settings_of(document),
            version=document.version,
            changed_by=event.changed_by,
            why=event.why,
            forced=event.forced,
        )
        for lane in range(self._lanes):
            effects.send("directives", event.name.encode(), encode(directive), lane)
