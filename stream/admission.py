"""Which rows a shard folds: its own, in time, for the first time, of subjects who consent."""

from collections.abc import Callable

from state.decoding import Refusal
from state.erasure import ErasureKeys
from state.events import Click, Decision, Feedback, Impression, User
from state.imports import Imports, check_importable
from state.marks import content_mark
from state.partition import shard_of
from stream.effects import Counters, Effects, Place
from stream.producers import Producers
from stream.redriven import Redriven
from stream.rows import Row
from stream.subjects import Subjects
from stream.surfaces import SurfaceCounters
from stream.users import check_reserved

SubjectRow = Impression | Click | Feedback | User | Decision
Told = Impression | Click | Feedback
"""What producers tell, and may tell again under another id."""

Parts = tuple[Subjects, Counters, SurfaceCounters, Redriven, Producers]
_BY_SURFACE = ("late", "duplicate")


class Admission:
    """Turns away rows of one shard that must have no effect, and counts why.

    Parameters
    ----------
    place
        The shard.
    shards
        How many shards there are.
    parts
        The shard's subject records, loaded before each fold, its counters, those by surface, what it took of
        re-drives, and its producers.
    keys
        What shows who asked for the erasure of an anonymous session.
    """

    def __init__(self, place: Place, shards: int, parts: Parts, keys: ErasureKeys) -> None:
        self._place, self._shards, self._keys = place, shards, keys
        self._subjects, self._counters, self._surfaces, self._redriven, self._producers = parts
        self._checks: tuple[Callable[[Row, SubjectRow], str], ...] = (
            self._erased,
            self._late,
            self._repeated,
        )
        self.late_before = 0
        self._content: int | None = None
        self.imports = Imports()

    def admits(self, row: Row, effects: Effects) -> bool:
        """Return whether a row is to be folded, and remember it as folded if so.

        Raises
        ------
        Refusal
            If the row cannot be understood, or says what only the engine itself may say.
        """
        if self._redriven.is_again(row):
            self._counters.add(f"{row.kind}.redriven_again")
            return False
        if row.refusal is not None:
            raise row.refusal
        event = row.event
        assert isinstance(event, SubjectRow)
        if isinstance(event, User) and not row.forwarded:
            check_reserved(event, self._keys)  # before forwarding, which would make it look like our own
        if row.imported:
            check_importable(event)
        if self._belongs_elsewhere(row, event, effects) or self._turned_away(row, event):
            return False
        if not row.imported:  # those are known by their numbers, for good
            self._mark(event)
        return True

    def take_back(self, row: Row, letter: str) -> None:
        """Undo the count of an admitted row that was refused after all.

        Its marks stay, so that copies of it do not become letters of their own; the letter's id beside them
        says that nothing was folded, and lets a re-drive of this letter pass.
        """
        event = row.event
        assert isinstance(event, SubjectRow)
        self._counters.add(f"imported.{row.kind}" if row.imported else row.kind, -1)
        self._subjects.touch(event.subject).mark_applied(letter, event.occurred_at)

    def _mark(self, event: SubjectRow) -> None:
        record = self._subjects.touch(event.subject)
        record.mark_applied(event.event_id, event.occurred_at, self._content)

    def _belongs_elsewhere(self, row: Row, event: SubjectRow, effects: Effects) -> bool:
        owner = shard_of(event.subject, self._shards)
        if owner == self._place.number:
            return False
        if row.forwarded or row.imported:
            raise Refusal("misrouted", "key", event.subject, f"an event of shard {self._place.number}")
        self._counters.add("forwarded")
        self._producers.misrouted(row)
        effects.forward(row, event.subject.encode(), owner)
        return True

    def _turned_away(self, row: Row, event: SubjectRow) -> bool:
        counted = f"imported.{row.kind}" if row.imported else row.kind
        for check in self._checks:
            reason = check(row, event)
            if reason:
                self._counters.add(f"{counted}.{reason}")
                self._producers.turned_away(row, reason)
                if reason in _BY_SURFACE and not row.imported and not isinstance(event, User):
                    self._surfaces.add(reason, event.surface)
                return True
        self._counters.add(counted)
        if self._subjects.read(event.subject).consent == "none" and row.kind != "users":
            self._counters.add("imported.no_consent" if row.imported else "no_consent")
            return True
        return False

    def _erased(self, _: Row, event: SubjectRow) -> str:
        return "erased" if event.occurred_at <= self._subjects.read(event.subject).begins_after else ""

    def _late(self, row: Row, event: SubjectRow) -> str:
        # The time of a re-driven or an imported event has passed through no fault of its own.
        is_exempt = row.redrive or row.imported or _takes_leave(event)
        return "late" if event.occurred_at < self.late_before and not is_exempt else ""

    def _repeated(self, row: Row, event: SubjectRow) -> str:
        if row.imported:
            return "" if self.imports.is_new(row.imported, row.number) else "duplicate"
        self._content = content_mark(event) if isinstance(event, Told) else None
        record = self._subjects.read(event.subject)
        was_taken_back = bool(row.redrive) and record.has_applied(row.redrive)
        if self._redriven.is_copy(row) or (record.has_applied(event.event_id) and not was_taken_back):
            return "duplicate"
        if was_taken_back or self._content is None or not record.has_mark(self._content):
            return ""
        # Whoever waits for this id waits for what the event says, and that is folded.
        self._subjects.touch(event.subject).mark_applied(event.event_id, event.occurred_at)
        return "duplicate"


def _takes_leave(event: SubjectRow) -> bool:
    """Return whether a subject wants to be forgotten: for that it is never too late."""
    return isinstance(event, User) and (event.erase or event.consent == "none")
