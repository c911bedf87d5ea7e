"""What is kept of each producer: counts by hour, refusals with their reasons, and the items it named."""

from collections.abc import Iterable

import msgspec
from msgspec import Struct, field

from state.packing import CorruptStateError, seal, unseal

PRODUCER_HEADER = "hw-producer"
UNNAMED = "unnamed"
"""Producer of events that name none."""
ENGINE = "headwater"
"""Producer of the decisions that servers log, unless they name another."""
OTHERS = "others"
"""Where producers and refusals beyond their bounds are counted together."""
MAX_NAME = 64
MAX_ITEMS = 200
MAX_REFUSALS = 12
HOUR_MS = 3_600_000
_FORMAT = 1
_ITEMS_SLACK = 50  # taking them out one by one costs twice as much as all the counting
_HOURS = 3  # the present one, the one before, and one that a wrong timestamp may occupy


class Refused(Struct, array_like=True):
    """One way in which events of a producer were refused.

    Attributes
    ----------
    kind, reason, field
        Topic kind, reason code and field, indices left out.
    count
        How often.
    value, wished
        What stood there at first, where no person can be known by it, and what would have been right.
    """

    kind: str
    reason: str
    field: str
    count: int = 0
    value: str = ""
    wished: str = ""


class Tally(Struct, array_like=True):
    """Counts of some span of time.

    Attributes
    ----------
    events
        Topic kind -> events that arrived, whatever became of them; a forwarded one counts where it came from.
    refusals
        Events that could not be understood, by kind, reason and field; at most `MAX_REFUSALS` and the rest.
    late, duplicate
        Events without effect.
    misrouted
        Events that lay on the wrong partition and were forwarded.
    unattributed
        Clicks without a decision token.
    lead_ms, lag_ms
        How far event time was at most ahead of the Kafka timestamp, and behind it.
    """

    events: dict[str, int] = field(default_factory=dict)
    refusals: list[Refused] = field(default_factory=list)
    late: int = 0
    duplicate: int = 0
    misrouted: int = 0
    unattributed: int = 0
    lead_ms: int = 0
    lag_ms: int = 0

    @property
    def arrived(self) -> int:
        """Events of all kinds."""
        return sum(self.events.values())

    @property
    def refused(self) -> int:
        """Events refused for any reason."""
        return sum(one.count for one in self.refusals)

    def refuse(self, met: Refused, times: int) -> None:
        """Count a refusal, among the others where there are too many kinds of them."""
        key = met.kind, met.reason, met.field
        for one in self.refusals:
            if (one.kind, one.reason, one.field) == key:
                one.count += times
                return
        if len(self.refusals) < MAX_REFUSALS or met.reason == OTHERS:
            self.refusals.append(msgspec.structs.replace(met, count=times))
        else:
            self.refuse(Refused("", OTHERS, ""), times)

    def add(self, other: "Tally") -> None:
        """Add another span's counts."""
        for kind, count in other.events.items():
            self.events[kind] = self.events.get(kind, 0) + count
        for one in other.refusals:
            self.refuse(one, one.count)
        self.late += other.late
        self.duplicate += other.duplicate
        self.misrouted += other.misrouted
        self.unattributed += other.unattributed
        self.note_skew(other.lead_ms)
        self.note_skew(-other.lag_ms)

    def note_skew(self, ahead_ms: int) -> None:
        """Note how far event time was ahead of the Kafka timestamp."""
        if ahead_ms > self.lead_ms:
            self.lead_ms = ahead_ms
        elif -ahead_ms > self.lag_ms:
            self.lag_ms = -ahead_ms


class ProducerRecord(Struct, array_like=True):
    """One producer as one unit, or a report over all units, knows it.

    Attributes
    ----------
    first_at, seen_at
        Kafka timestamps of its first record and of its latest, ms.
    event_at
        Event time of its newest event, ms; 0 where none was understood.
    before
        Counts of all hours that are not kept apart any more.
    hours
        Hour since 1970 -> its counts; the latest hours.
    items
        Item id -> how often it was named of late; the latest `MAX_ITEMS` and a few more, latest last.
    """

    first_at: int = 0
    seen_at: int = 0
    event_at: int = 0
    before: Tally = field(default_factory=Tally)
    hours: dict[int, Tally] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)

    def tally(self, at_ms: int) -> Tally:
        """Return the counts that a record of this Kafka timestamp moves."""
        found = self.hours.get(at_ms // HOUR_MS)
        return self._open_hour(at_ms // HOUR_MS) if found is None else found

    def _open_hour(self, hour: int) -> Tally:
        self.hours[hour] = Tally()
        if len(self.hours) > _HOURS:
            self.before.add(self.hours.pop(min(self.hours)))
        return self.hours.get(hour, self.before)

    def mention(self, item_ids: Iterable[str]) -> None:
        """Count items it named; beyond the bound those not named for longest go, several at a time."""
        items = self.items
        for item_id in item_ids:
            items[item_id] = items.pop(item_id, 0) + 1
        if len(items) > MAX_ITEMS + _ITEMS_SLACK:
            for item_id in list(items)[:-MAX_ITEMS]:
                del items[item_id]

    def total(self) -> Tally:
        """Return the counts of all time."""
        return _sum([self.before, *self.hours.values()])

    def since(self, at_ms: int) -> Tally:
        """Return the counts of the hours that began at or after a time."""
        return _sum(tally for hour, tally in self.hours.items() if hour * HOUR_MS >= at_ms)


def _sum(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return total


def merged(records: Iterable[ProducerRecord]) -> ProducerRecord:
    """Return what several units know of one producer as one record; its items are those of all of them."""
    total = ProducerRecord()
    for one in records:
        total.first_at = min(filter(None, (total.first_at, one.first_at)), default=0)
        total.seen_at = max(total.seen_at, one.seen_at)
        total.event_at = max(total.event_at, one.event_at)
        total.before.add(one.before)
        for hour, tally in one.hours.items():
            total.hours.setdefault(hour, Tally()).add(tally)
        for item_id, count in one.items.items():
            total.items[item_id] = total.items.get(item_id, 0) + count
    return total


class _Stored(Struct, array_like=True):
    format: int
    record: ProducerRecord


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Stored)


def encode_producer(record: ProducerRecord) -> bytes:
    """Return a record as sealed MessagePack under its format's number."""
    return seal(_encoder.encode(_Stored(_FORMAT, record)))


def decode_producer(raw: bytes) -> ProducerRecord | None:
    """Return a stored record; None for one of another format, which is counted anew."""
    try:
        stored = _decoder.decode(unseal(raw))
    except (CorruptStateError, msgspec.DecodeError):
        return None
    return stored.record if stored.format == _FORMAT else None


def producer_name(*said: object) -> str:
    """Return the first of these that names a producer, short and printable; empty if none does."""
    for name in said:
        if isinstance(name, str) and name:
            return tamed(name[:MAX_NAME])
    return ""


def tamed(text: str) -> str:
    """Return a text that others wrote as one that may be shown: letters no screen prints are replaced."""
    return text if text.isprintable() else "".join(a if a.isprintable() else "?" for a in text)
