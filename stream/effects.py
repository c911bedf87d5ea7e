"""What folding a micro-batch does: collected in memory, written by one commit."""

import base64
from collections import Counter

from msgspec import Struct

from state.commit import Change
from state.events import DeadLetter, encode
from state.keys import counters_key
from state.outbox import Message, encode_message
from stream.rows import Row


class Place(Struct, frozen=True):
    """Where a unit's state lives: its key prefix, its unit name and its number among its kind."""

    prefix: str
    unit: str
    number: int


class Counters:
    """Running counters of a unit, committed as the fields that moved.

    Parameters
    ----------
    stored
        The counters hash as loaded.
    """

    def __init__(self, stored: dict[bytes, bytes]) -> None:
        self.totals = Counter({name.decode(): int(value) for name, value in stored.items()})
        self._moved: set[str] = set()

    def add(self, name: str, amount: int = 1) -> None:
        """Add to one counter."""
        self.totals[name] += amount
        self._moved.add(name)

    def take_moved(self) -> dict[str, bytes]:
        """Return the moved counters as hash fields and forget that they moved."""
        moved = {name: str(self.totals[name]).encode() for name in sorted(self._moved)}
        self._moved.clear()
        return moved


class Effects:
    """Collects one commit's change.

    Parameters
    ----------
    place
        The unit.
    counters
        Its running counters.
    outbox_number
        Number of the last message the unit derived.
    """

    def __init__(self, place: Place, counters: Counters, outbox_number: int) -> None:
        self.place, self.counters, self.outbox_number = place, counters, outbox_number
        self.change = Change()

    def send(
        self, kind: str, key: bytes | None, value: bytes, partition: int | None, *, forwarded: bool = False
    ) -> None:
        """Put a message into the outbox."""
        self.outbox_number += 1
        message = Message(self.outbox_number, kind, key, value, partition, forwarded)
        self.change.outbox.append(encode_message(message))

    def forward(self, row: Row, key: bytes, owner: int) -> None:
        """Pass an event on to the shard that owns it, under its producer's name."""
        self.outbox_number += 1
        message = Message(self.outbox_number, row.kind, key, row.raw or b"", owner, True, row.producer)
        self.change.outbox.append(encode_message(message))

    def refuse(self, row: Row, reason: str, detail: str) -> None:
        """Put a record that could not be understood among the dead letters, with its reason."""
        letter = DeadLetter(
            event_id=f"{self.place.unit}-{row.kind}-{row.partition}-{row.offset}",
            occurred_at=row.received_at,
            reason=reason,
            detail=detail,
            topic=row.kind,
            partition=row.partition,
            offset=row.offset,
            raw=base64.b64encode(row.raw or b"").decode(),
            key=base64.b64encode(row.key).decode() if row.key is not None else None,
        )
        self.counters.add("refused")
        self.counters.add(f"refused.{reason}")
        self.send("deadletters", row.key, encode(letter), None)

    def write(self, key: str, field_: str, value: bytes) -> None:
        """Write one hash field; a deletion of it in the same batch is undone."""
        self.change.fields.setdefault(key, {})[field_] = value
        dropped = self.change.dropped_fields.get(key)
        if dropped and field_ in dropped:
            dropped.remove(field_)

    def erase(self, key: str, field_: str) -> None:
        """Delete one hash field; a write of it in the same batch is undone."""
        self.change.fields.get(key, {}).pop(field_, None)
        dropped = self.change.dropped_fields.setdefault(key, [])
        if field_ not in dropped:
            dropped.append(field_)

    def finish(self) -> Change:
        """Return the change with counters and the outbox number in it."""
        moved = self.counters.take_moved()
        if moved:
            self.change.fields.setdefault(counters_key(self.place.prefix), {}).update(moved)
        self.change.meta["outbox"] = str(self.outbox_number)
        self.change.fields = {key: fields for key, fields in self.change.fields.items() if fields}
        return self.change
