"""What an event is recognised by when its producer sends it again under another event id."""

import hashlib

import msgspec

from state.events import Click, Feedback, Impression

_encode = msgspec.msgpack.Encoder().encode


def content_mark(event: Impression | Click | Feedback) -> int:
    """Return a 64-bit mark of what an event says, whatever its id and its producer.

    The subject is not part of it: marks are kept in the subject's own record.
    """
    said = _encode((type(event).__name__, event.session_id, event.occurred_at, event.decision, *_said(event)))
    return int.from_bytes(hashlib.blake2b(said, digest_size=8, person=b"content").digest(), "little")


def _said(event: Impression | Click | Feedback) -> tuple[object, ...]:
    if isinstance(event, Impression):
        return event.surface, event.items
    if isinstance(event, Feedback):
        return event.surface, event.item_id, event.kind, event.value
    return event.surface, event.item_id
