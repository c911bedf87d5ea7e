"""What an imported row does to its shard: in event time, and without any effect on the present.

An import opens no window, earns no reward and teaches no policy. An event that is the newest of its subject
does what a live one would; an older one is put in where its time says, and the current session stays.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from state.decoding import Refusal
from state.events import Click, Feedback, Impression, User
from state.feed import Interaction
from state.history import count_older, insert_recent, insert_seen, strengthen
from state.sessions import session_hash
from state.settings import FeedbackKind
from state.subject import SubjectRecord
from stream.interactions import (
    MAX_PER_ITEM_AND_HOUR,
    Caps,
    add_interaction,
    begin_or_continue_session,
    feedback_interest,
    hide_item,
)
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
        Takes an interaction into shared statistics.
    """

    def __init__(
        self,
        subjects: Subjects,
        rules: HistoryRules,
        user: Callable[[Row], None],
        count: Callable[[SubjectRecord, Interaction], None],
    ) -> None:
        self._subjects, self._rules, self._user, self._count = subjects, rules, user, count

    def fold(self, row: Row) -> None:
        """Fold one row."""
        event = row.event
        if isinstance(event, Impression):
            self._impression(event)
        elif isinstance(event, Click):
            self._subjects.touch(event.subject).clicks += 1
            self._interact(event, 1.0)
        elif isinstance(event, Feedback):
            self._feedback(event)
        elif isinstance(event, User):
            self._profile(event, row)

    def _impression(self, event: Impression) -> None:
        record = self._subjects.touch(event.subject)
        if event.occurred_at >= record.last_at:
            begin_or_continue_session(record, event.session_id, event.occurred_at, self._rules.caps.idle_ms)
        record.events += 1
        record.impressions += 1

    def _feedback(self, event: Feedback) -> None:
        kind = self._rules.feedback.get(event.kind)
        if kind is None:
            known = ", ".join(sorted(self._rules.feedback))
            raise Refusal("unknown_feedback", "kind", event.kind, f"one of {known}")
        if kind.sign < 0:
            hide_item(self._subjects.touch(event.subject), event, self._rules.caps)
        else:
            self._interact(event, feedback_interest(kind, event.value) if kind.sign > 0 else 0.0)

    def _interact(self, event: Click | Feedback, interest: float) -> None:
        record, caps = self._subjects.touch(event.subject), self._rules.caps
        record.events += 1
        if event.occurred_at >= record.last_at:
            begin_or_continue_session(record, event.session_id, event.occurred_at, caps.idle_ms)
            step = add_interaction(record, event, interest, caps)
        else:
            step = _insert_interaction(record, event, interest, caps)
        if step is not None:
            self._count(record, step)

    def _profile(self, event: User, row: Row) -> None:
        record = self._subjects.read(event.user_id)
        if event.occurred_at >= record.profile_at:
            self._user(row)
        elif record.consent != "none":
            record = self._subjects.touch(event.user_id)
            describe(record, {**(event.attributes or {}), **record.attributes})


def _insert_interaction(
    record: SubjectRecord, event: Click | Feedback, interest: float, caps: Caps
) -> Interaction | None:
    """Do what `add_interaction` does, for an event with newer ones after it."""
    item_id, at_ms = event.item_id, event.occurred_at
    insert_seen(record, item_id, at_ms, caps.seen)
    if strengthen(record, item_id, at_ms, interest, caps.idle_ms):
        return None
    counts = interest > 0.0 and count_older(record, item_id, at_ms, MAX_PER_ITEM_AND_HOUR)
    insert_recent(record, item_id, at_ms, interest)
    session = session_hash(event.subject, event.session_id)
    return Interaction(session, item_id, at_ms, interest) if counts else None
