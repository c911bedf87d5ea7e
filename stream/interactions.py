"""What an interaction does to its subject's record, and whether shared statistics may count it."""

from bisect import bisect_right

from msgspec import Struct

from state.decoding import Refusal
from state.events import Click, Feedback
from state.feed import Interaction
from state.retention import RECENT_CAP
from state.sessions import session_hash
from state.settings import FeedbackKind
from state.subject import SubjectRecord

MAX_PER_ITEM_AND_HOUR = 3


class Caps(Struct, frozen=True):
    """Bounds of a subject record: hidden items, seen items, and silence that ends a session (ms)."""

    hidden: int
    seen: int
    idle_ms: int


def begin_or_continue_session(record: SubjectRecord, session_id: str, at_ms: int, idle_ms: int) -> None:
    """Start a new session where the id changed or the subject was silent too long."""
    if session_id != record.session_id or at_ms - record.last_at > idle_ms:
        record.session_id, record.session_start, record.session_items = session_id, at_ms, []
    record.last_at = max(record.last_at, at_ms)


def feedback_interest(kind: FeedbackKind, value: float | None) -> float:
    """Return how strongly a feedback moves taste and trends, 0 to 1."""
    if kind.value_scale is None or value is None:
        return kind.interest
    return kind.interest * min(1.0, max(0.0, value / kind.value_scale))


def hide_item(record: SubjectRecord, event: Feedback, caps: Caps) -> None:
    """Remove an item for a subject.

    Raises
    ------
    Refusal
        If the subject has hidden as many as it may.
    """
    is_hidden = event.item_id in record.hidden
    if not is_hidden and len(record.hidden) >= caps.hidden:
        wished = f"at most {caps.hidden} hidden items of one subject"
        raise Refusal("hidden_full", "item_id", event.item_id, wished)
    record.events += 1
    record.last_at = max(record.last_at, event.occurred_at)
    if not is_hidden:
        record.hidden.append(event.item_id)


def add_interaction(
    record: SubjectRecord, event: Click | Feedback, interest: float, caps: Caps
) -> Interaction | None:
    """Fold an interaction into its subject's record.

    Returns
    -------
    Interaction or None
        What shared statistics count: None where it only strengthens the newest interaction (a click
        followed by a purchase of the same item) or where the subject has reached its cap for this item
        and hour.
    """
    record.mark_seen(event.item_id, event.occurred_at, caps.seen)
    if _repeats_newest(record, event):
        record.recent_interest[-1] = max(record.recent_interest[-1], interest)
        return None
    record.add_recent(event.item_id, event.occurred_at, interest)
    if interest <= 0.0 or not record.count(event.item_id, event.occurred_at, MAX_PER_ITEM_AND_HOUR):
        return None
    session = session_hash(event.subject, record.session_id)
    return Interaction(session, event.item_id, event.occurred_at, interest)


def add_past_interaction(
    record: SubjectRecord, event: Click | Feedback, interest: float, caps: Caps
) -> Interaction | None:
    """Fold an interaction that later ones have overtaken: it joins the recent ones at its own time.

    Returns what shared statistics count, as `add_interaction` does; the current session stays as it is.
    """
    record.mark_seen(event.item_id, event.occurred_at, caps.seen)
    place = bisect_right(record.recent_at, event.occurred_at)
    record.recent.insert(place, event.item_id)
    record.recent_at.insert(place, event.occurred_at)
    record.recent_interest.insert(place, interest)
    for values in (record.recent, record.recent_at, record.recent_interest):
        del values[:-RECENT_CAP]
    if interest <= 0.0 or not record.count(event.item_id, event.occurred_at, MAX_PER_ITEM_AND_HOUR):
        return None
    session = session_hash(event.subject, event.session_id)
    return Interaction(session, event.item_id, event.occurred_at, interest)


def _repeats_newest(record: SubjectRecord, event: Click | Feedback) -> bool:
    return bool(record.session_items) and record.session_items[-1] == event.item_id
