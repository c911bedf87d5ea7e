"""What folding a micro-batch does: collected in memory, written by one commit."""

import base64
from collections import Counter

from msgspec import Struct

from state.commit import Change
from state.events import EARLIEST_MS, LATEST_MS, DeadLetter, encode
from state.imports import Imports
from state.keys import counters_key, meta_key
from state.outbox import Message, encode_message
from stream.rows import Row

# A letter carries its event in base64 and must itself fit into a record of 1 MB, the usual limit of a broker.
MOST_RAW = 512 * 1024
MOST_KEY = 64 * 1024


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
        self._put(Message(0, kind, key, value, partition, forwarded))

    def forward(self, row: Row, key: bytes, partition: int) -> None:
        """Pass a record on to the shard that owns it, as it came, under its producer's name."""
        self._put(Message(0, row.kind, key, row.raw or b"", partition, True, row.redrive, row.producer))

    def _put(self, message: Message) -> None:
        self.outbox_number += 1
        message.number = self.outbox_number
        self.change.outbox.append(encode_message(message))

    def refuse(self, row: Row, reason: str, detail: str) -> str:
        """Put a record that could not be understood among the dead letters; returns its first letter's id."""
        raw, key = row.raw or b"", row.key if row.key is None else row.key[:MOST_KEY]
        letter = DeadLetter(
            event_id=f"{self.place.unit}-{row.kind}-{row.partition}-{row.offset}",
            occurred_at=min(max(row.received_at, EARLIEST_MS), LATEST_MS),  # producers may say anything
            reason=reason,
            detail=detail,
            topic=row.kind,
            partition=row.partition,
            offset=row.offset,
            raw=base64.b64encode(raw[:MOST_RAW]).decode(),
            key=base64.b64encode(key).decode() if key is not None else None,
            forwarded=row.forwarded,
            redrive=row.redrive,
            cut_from=len(raw) if len(raw) > MOST_RAW else 0,
        )
        self.counters.add("refused")
        self.counters.add(f"refused.{reason}")
        self.send("deadletters", key, encode(letter), None)
        return letter.origin

    def write(self, key: str, field_: str, value: bytes) -> None:
        """Write one hash field; a deletion of it in the same batch is undone."""
        self.change.fields.setdefault(key, {})[field_] = value
        self.change.dropped_fields.get(key, {}).pop(field_, None)

    def erase(self, key: str, field_: str) -> None:
        """Delete one hash field; a write of it in the same batch is undone."""
        self.change.fields.get(key, {}).pop(field_, None)
        self.change.dropped_fields.setdefault(key, {})[field_] = None

    def finish(self) -> Change:
        """Return the change with counters and the outbox number in it."""
        moved = self.counters.take_moved()
        if moved:
            self.change.fields.setdefault(counters_key(self.place.prefix), {}).update(moved)
        self.change.meta["outbox"] = str(self.outbox_number)
        self.change.fields = {key: fields for key, fields in self.change.fields.items() if fields}
        return self.change


def write_imports(imports: Imports, effects: Effects) -> None:
    """Put what has arrived of imports into the change, so that a row and its number are kept together."""
    kept, dropped = imports.take_moved()
    effects.change.meta |= kept
    for name in dropped:
        effects.erase(meta_key(effects.place.prefix), name)
