"""What an imported row does to its shard: in event time, and without any effect on the present.

An import opens no window, earns no reward and teaches no policy. An event that is the newest of its subject
does what a live one would; an older one is put in where its time says, and the current session stays.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from state.events import Click, Feedback, Impression, User
from state.feed import Interaction
from state.settings import FeedbackKind
from state.subject import SubjectRecord
from stream.interactions import Caps, feedback_kind, interact, note_impression, take_feedback
from stream.rows import Row
from stream.subjects import Subjects
from stream.users import describe


class HistoryRules(Protocol):
    """What this module needs of a shard's rules."""

    @property
    def caps(self) -> Caps:
        """Bounds of a record."""

    @property
    def feedback(self) -> Mapping[str, FeedbackKind]:
        """The registry."""


class History:
    """Folds admitted rows of imports.

    Parameters
    ----------
    subjects
        Records of the shard.
    rules
        Caps and the feedback registry.
    user
        Folds a row of the users topic that is the newest of its user, as a live one.
    count
        Takes an interaction, if there is one to count, into shared statistics.
    """

    def __init__(
        self,
        subjects: Subjects,
        rules: HistoryRules,
        user: Callable[[Row], None],
        count: Callable[[SubjectRecord, Interaction | None], None],
    ) -> None:
        self._subjects, self._rules, self._user, self._count = subjects, rules, user, count

    def fold(self, row: Row) -> None:
        """Fold one row."""
        event = row.event
        if isinstance(event, Impression):
            self._impression(event)
        elif isinstance(event, Click):
            record = self._subjects.touch(event.subject)
            record.clicks += 1
            self._count(record, interact(record, event, 1.0, self._rules.caps, keeps_its_time=True))
        elif isinstance(event, Feedback):
            self._feedback(event)
        elif isinstance(event, User):
            self._profile(event, row)

    def _impression(self, event: Impression) -> None:
        record = self._subjects.touch(event.subject)
        note_impression(record, event, self._rules.caps, keeps_its_time=True)

    def _feedback(self, event: Feedback) -> None:
        kind, record = feedback_kind(self._rules.feedback, event), self._subjects.touch(event.subject)
        self._count(record, take_feedback(record, event, kind, self._rules.caps, keeps_its_time=True))

    def _profile(self, event: User, row: Row) -> None:
        record = self._subjects.read(event.user_id)
        if event.occurred_at >= record.profile_at:
            self._user(row)
        elif record.consent != "none":
            record = self._subjects.touch(event.user_id)
            describe(record, {**(event.attributes or {}), **record.attributes})
