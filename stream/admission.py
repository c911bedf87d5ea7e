"""Which rows a shard folds: its own, in time, for the first time, of subjects who consent."""

from collections.abc import Callable

from state.decoding import Refusal
from state.events import Click, Decision, Feedback, Impression, User
from state.partition import shard_of
from stream.effects import Counters, Effects, Place
from stream.producers import Producers
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
        The shard's subject records, loaded before each fold, its counters and its producers.
    """

    def __init__(self, place: Place, shards: int, parts: tuple[Subjects, Counters, Producers]) -> None:
        self._place, self._shards = place, shards
        self._subjects, self._counters, self._producers = parts
        self._checks: tuple[Callable[[Row, SubjectRow], str], ...] = (self._late, self._repeated)
        self.late_before = 0

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
        if self._belongs_elsewhere(row, event, effects) or self._turned_away(row, event):
            return False
        self._subjects.touch(event.subject).mark_applied(event.event_id, event.occurred_at)
        return True

    def _belongs_elsewhere(self, row: Row, event: SubjectRow, effects: Effects) -> bool:
        owner = shard_of(event.subject, self._shards)
        if owner == self._place.number:
            return False
        if row.forwarded:
            raise Refusal("misrouted", "key", event.subject, f"an event of shard {self._place.number}")
        self._counters.add("forwarded")
        self._producers.misrouted(row)
        effects.forward(row, event.subject.encode(), owner)
        return True

    def _turned_away(self, row: Row, event: SubjectRow) -> bool:
        for check in self._checks:
            reason = check(row, event)
            if reason:
                self._counters.add(f"{row.kind}.{reason}")
                self._producers.turned_away(row, reason)
                return True
        self._counters.add(row.kind)
        if self._subjects.read(event.subject).consent == "none" and row.kind != "users":
            self._counters.add("no_consent")
            return True
        return False

    def _late(self, _: Row, event: SubjectRow) -> str:
        return "late" if event.occurred_at < self.late_before else ""

    def _repeated(self, _: Row, event: SubjectRow) -> str:
        return "duplicate" if self._subjects.read(event.subject).has_applied(event.event_id) else ""
