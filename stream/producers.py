"""Producer health: what each producer's events were like, counted by the folder that takes them."""

import re
from collections.abc import Mapping

from state.decoding import Refusal
from state.events import Click, Event, Feedback, Impression
from state.keys import producers_key
from state.producers import OTHERS, ProducerRecord, Refused, Tally, decode_producer, encode_producer
from stream.effects import Effects
from stream.rows import Row

MAX_PRODUCERS = 200
IDLE_MS = 7 * 86_400_000
"""A producer silent for so long makes room for a new one."""
_INDEX = re.compile(r"\[\d+\]")
_LONGEST = 160
# Values of these may be kept: whoever sent them cannot be known by them, and need not be forgotten with them.
_HARMLESS = frozenset(
    ("occurred_at", "published_at", "schema", "kind", "surface", "position", "available", "consent", "erase")
)


class Producers:
    """What one unit knows of its producers, bounded; a function of the rows alone.

    Parameters
    ----------
    prefix
        Key prefix of the unit.
    stored
        Its producers hash as loaded; what is of another format is counted anew.
    """

    def __init__(self, prefix: str, stored: Mapping[bytes, bytes]) -> None:
        self._key = producers_key(prefix)
        found = {name.decode(): decode_producer(raw) for name, raw in stored.items()}
        self.records = {name: record for name, record in found.items() if record is not None}
        self._gone = [name for name, record in found.items() if record is None]
        self._moved: set[str] = set()
        self._stalest_at = 0

    def arrived(self, row: Row) -> None:
        """Count a row; one that was passed on has been counted where it was sent to."""
        if row.forwarded:
            return
        record = self._record(row)
        record.seen_at = max(record.seen_at, row.received_at)
        tally = record.tally(row.received_at)
        tally.events[row.kind] = tally.events.get(row.kind, 0) + 1
        if row.event is not None:
            record.event_at = max(record.event_at, row.event.occurred_at)
            tally.note_skew(row.event.occurred_at - row.received_at)
            _note_items(record, tally, row.event)

    def turned_away(self, row: Row, reason: str) -> None:
        """Count a late row or a duplicate; workers may pass a row on twice, and its sender did not."""
        tally = self._record(row).tally(row.received_at)
        if reason == "late":
            tally.late += 1
        elif reason == "duplicate" and not row.forwarded:
            tally.duplicate += 1

    def misrouted(self, row: Row) -> None:
        """Count a row that lay on the wrong partition."""
        self._record(row).tally(row.received_at).misrouted += 1

    def refused(self, row: Row, refusal: Refusal) -> None:
        """Count a row that could not be understood, and how."""
        tally = self._record(row).tally(row.received_at)
        if refusal.reason == "clock_skew":
            tally.note_skew(int(refusal.value) - row.received_at)
        name = _INDEX.sub("[]", refusal.field)
        value = refusal.value if name.rpartition(".")[2] in _HARMLESS else ""
        met = Refused(row.kind, refusal.reason, name, 0, value, refusal.wished[:_LONGEST])
        tally.refuse(met, 1)

    def write(self, effects: Effects) -> None:
        """Put the records that moved into the change."""
        for name in self._gone:
            effects.erase(self._key, name)
        for name in sorted(self._moved):
            effects.write(self._key, name, encode_producer(self.records[name]))
        self._gone, self._moved = [], set()

    def _record(self, row: Row) -> ProducerRecord:
        name = row.producer
        record = self.records.get(name)
        if record is None:
            name = self._entered(name, row.received_at)
            record = self.records[name]
        self._moved.add(name)
        return record

    def _entered(self, name: str, at_ms: int) -> str:
        """Return the name a new producer is counted under; with all places taken it is one of the others."""
        if len(self.records) - (OTHERS in self.records) >= MAX_PRODUCERS and not self._made_room(at_ms):
            name = OTHERS
        self._stalest_at = min(self._stalest_at, at_ms)
        self.records.setdefault(name, ProducerRecord(first_at=at_ms, seen_at=at_ms))
        return name

    def _made_room(self, at_ms: int) -> bool:
        if at_ms - self._stalest_at < IDLE_MS:  # a bound: nobody can have become more stale since
            return False
        stalest = min(self.records.keys() - {OTHERS}, key=lambda name: (self.records[name].seen_at, name))
        self._stalest_at = self.records[stalest].seen_at
        if at_ms - self._stalest_at < IDLE_MS:
            return False
        del self.records[stalest]
        self._moved.discard(stalest)
        self._gone.append(stalest)
        return True


def _note_items(record: ProducerRecord, tally: Tally, event: Event) -> None:
    if isinstance(event, Impression):
        record.mention([shown.item_id for shown in event.items])
    elif isinstance(event, Click | Feedback):
        record.mention((event.item_id,))
        if event.decision is None and isinstance(event, Click):
            tally.unattributed += 1
