"""What a unit has folded of re-driven dead letters, so that each counts once however often it is sent."""

import heapq
from collections.abc import Mapping

from state.events import Event
from state.keys import redriven_key
from state.retention import LETTERS_KEPT_MS
from state.subject import id_hash
from stream.effects import Effects
from stream.rows import Row


class Redriven:
    """The dead letters whose events a unit has folded after a re-drive.

    An id leaves when its letter has left the topic: `LETTERS_KEPT_MS` of event time after the re-drive.
    Event ids are kept as long: the lateness bound that repeated ids are usually judged by is long over.

    Parameters
    ----------
    prefix
        Key prefix of the unit.
    stored
        The hash as loaded.
    """

    def __init__(self, prefix: str, stored: Mapping[bytes, bytes]) -> None:
        self._key = redriven_key(prefix)
        self._taken = {name.decode(): _parsed(value) for name, value in stored.items()}
        self._events = {event for _, event in self._taken.values()}
        self._leaving = [(taken_at, letter) for letter, (taken_at, _) in self._taken.items()]
        heapq.heapify(self._leaving)

    def __len__(self) -> int:
        return len(self._taken)

    def is_again(self, row: Row) -> bool:
        """Return whether a row is a re-drive of a letter that was folded already."""
        return row.redrive in self._taken

    def is_copy(self, row: Row) -> bool:
        """Return whether a row is a re-drive of an event that was folded from another of its letters."""
        return bool(row.redrive) and row.event is not None and _identity(row, row.event) in self._events

    def knows(self, row: Row) -> bool:
        """Return whether a row's event was folded from a re-drive before, of this letter or of another."""
        return self.is_again(row) or self.is_copy(row)

    def take(self, row: Row, effects: Effects) -> None:
        """Note a row as folded, in the commit that folds it; rows that were not re-driven need no note."""
        if not row.redrive:
            return
        event = _identity(row, row.event) if row.event is not None else 0
        self._taken[row.redrive] = row.received_at, event
        self._events.add(event)
        heapq.heappush(self._leaving, (row.received_at, row.redrive))
        effects.write(self._key, row.redrive, f"{row.received_at}:{event:x}".encode())

    def expire(self, watermark: int, effects: Effects) -> None:
        """Forget letters that have left their topic."""
        while self._leaving and self._leaving[0][0] < watermark - LETTERS_KEPT_MS:
            _, letter = heapq.heappop(self._leaving)
            _, event = self._taken.pop(letter)
            self._events.discard(event)
            effects.erase(self._key, letter)


def _parsed(value: bytes) -> tuple[int, int]:
    taken_at, _, event = value.decode().partition(":")
    return int(taken_at), int(event, 16)


def _identity(row: Row, event: Event) -> int:
    scope = getattr(event, "subject", None) or repr(row.key)
    return id_hash(f"{row.kind}\n{scope}\n{event.event_id}")
