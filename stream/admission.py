"""Which rows a shard folds: its own, in time, for the first time, of subjects who consent."""

from collections.abc import Callable

from state.decoding import Refusal
from state.events import Click, Decision, Feedback, Impression, User
from state.imports import Imports, check_importable
from state.partition import shard_of
from stream.effects import Counters, Effects, Place
from stream.rows import Row
from stream.subjects import Subjects
from stream.users import check_reserved

SubjectRow = Impression | Click | Feedback | User | Decision


class Admission:
    """Turns away rows of one shard that must have no effect, and counts why.

    Parameters
    ----------
    place
        The shard.
    shards
        How many shards there are.
    parts
        The shard's subject records, loaded before each fold, and its counters.
    """

    def __init__(self, place: Place, shards: int, parts: tuple[Subjects, Counters]) -> None:
        self._place, self._shards = place, shards
        self._subjects, self._counters = parts
        self._checks: tuple[Callable[[Row, SubjectRow], str], ...] = (self._late, self._repeated)
        self.late_before = 0
        self.imports = Imports()

    def admits(self, row: Row, effects: Effects) -> bool:
        """Return whether a row is to be folded, and remember it as folded if so.

        Raises
        ------
        Refusal
            If the row cannot be understood, or says what only the engine itself may say.
        """
        if row.refusal is not None:
            raise row.refusal
        event = row.event
        assert isinstance(event, SubjectRow)
        if isinstance(event, User) and not row.forwarded:
            check_reserved(event)  # before forwarding, which would make it look like our own
        if row.imported:
            check_importable(event)
        if self._belongs_elsewhere(row, event, effects) or self._turned_away(row, event):
            return False
        if not row.imported:  # those are known by their numbers, for good
            self._subjects.touch(event.subject).mark_applied(event.event_id, event.occurred_at)
        return True

    def _belongs_elsewhere(self, row: Row, event: SubjectRow, effects: Effects) -> bool:
        owner = shard_of(event.subject, self._shards)
        if owner == self._place.number:
            return False
        if row.forwarded or row.imported:
            raise Refusal("misrouted", "key", event.subject, f"an event of shard {self._place.number}")
        self._counters.add("forwarded")
        effects.send(row.kind, event.subject.encode(), row.raw or b"", owner, forwarded=True)
        return True

    def _turned_away(self, row: Row, event: SubjectRow) -> bool:
        counted = f"imported.{row.kind}" if row.imported else row.kind
        for check in self._checks:
            reason = check(row, event)
            if reason:
                self._counters.add(f"{counted}.{reason}")
                return True
        self._counters.add(counted)
        if self._subjects.read(event.subject).consent == "none" and row.kind != "users":
            self._counters.add("imported.no_consent" if row.imported else "no_consent")
            return True
        return False

    def _late(self, row: Row, event: SubjectRow) -> str:
        return "late" if event.occurred_at < self.late_before and not row.imported else ""

    def _repeated(self, row: Row, event: SubjectRow) -> str:
        if row.imported:
            return "" if self.imports.is_new(row.imported, row.number) else "duplicate"
        return "duplicate" if self._subjects.read(event.subject).has_applied(event.event_id) else ""
