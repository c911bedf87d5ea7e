"""What an interaction does to its subject's record, and whether shared statistics may count it."""

from collections.abc import Mapping

from msgspec import Struct

from state.decoding import Refusal
from state.events import Click, Feedback, Impression
from state.feed import Interaction
from state.history import count_older, insert_recent, insert_seen, strengthen
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


def feedback_kind(registry: Mapping[str, FeedbackKind], event: Feedback) -> FeedbackKind:
    """Return what the registry says of a feedback's kind.

    Raises
    ------
    Refusal
        If it says nothing.
    """
    kind = registry.get(event.kind)
    if kind is None:
        raise Refusal("unknown_feedback", "kind", event.kind, f"one of {', '.join(sorted(registry))}")
    return kind


def interact(
    record: SubjectRecord, event: Click | Feedback, interest: float, caps: Caps, *, keeps_its_time: bool
) -> Interaction | None:
    """Fold an interaction; returns what shared statistics count, if they do.

    Parameters
    ----------
    record
        Of the subject.
    event, interest
        What happened, and how strongly it moves taste and trends, 0 to 1.
    caps
        Bounds of the record.
    keeps_its_time
        Whether an event that later ones have overtaken goes where its time says, beside the current session:
        one that was re-driven or imported, not one that is only out of order.
    """
    record.events += 1
    if keeps_its_time and event.occurred_at < record.last_at:
        return _insert_interaction(record, event, interest, caps)
    begin_or_continue_session(record, event.session_id, event.occurred_at, caps.idle_ms)
    return add_interaction(record, event, interest, caps)


def take_feedback(
    record: SubjectRecord, event: Feedback, kind: FeedbackKind, caps: Caps, *, keeps_its_time: bool
) -> Interaction | None:
    """Fold feedback as its kind says: it hides its item, or is an interaction as in `interact`.

    Raises
    ------
    Refusal
        If the subject has hidden as many items as it may.
    """
    if kind.sign < 0:
        hide_item(record, event, caps)
        return None
    interest = feedback_interest(kind, event.value) if kind.sign > 0 else 0.0
    return interact(record, event, interest, caps, keeps_its_time=keeps_its_time)


def note_impression(record: SubjectRecord, event: Impression, caps: Caps, *, keeps_its_time: bool) -> None:
    """Count an impression, and let its session go on, unless it keeps its time as in `interact`."""
    if not keeps_its_time or event.occurred_at >= record.last_at:
        begin_or_continue_session(record, event.session_id, event.occurred_at, caps.idle_ms)
    record.events += 1
    record.impressions += 1


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


def _repeats_newest(record: SubjectRecord, event: Click | Feedback) -> bool:
    return bool(record.session_items) and record.session_items[-1] == event.item_id
