"""Decoding of wire events: every refusal names the field, the value met and what is wished."""

import re
from typing import Any

import msgspec

from state.events import EVENT_TYPES, Event, SubjectEvent, User

MAX_BYTES = {"decisions": 65_536, "outcomes": 65_536, "items": 32_768}
DEFAULT_MAX_BYTES = 16_384
_PATH = re.compile(r" - at `(?:key in )?\$(?P<path>.*)`$")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_DECODERS = {kind: msgspec.json.Decoder(type_) for kind, type_ in EVENT_TYPES.items()}


class Refusal(Exception):  # noqa: N818 - it is what happens to an event, not a failure of ours
    """An event that cannot be understood.

    Attributes
    ----------
    reason
        Machine-readable code, one of the words in docs/events.md.
    field, value, wished
        Where it fails, what stood there (shortened) and what would have been right.
    """

    def __init__(self, reason: str, field: str, value: object, wished: str) -> None:
        self.reason, self.field, self.value, self.wished = reason, field, shorten(value), wished
        super().__init__(f"{reason}: field '{field}' has value {self.value}; wished: {wished}")


def shorten(value: object, limit: int = 120) -> str:
    """Return ``repr(value)``, cut in the middle of long ones."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 20]}...({len(text)} characters)"


def decode_event(kind: str, raw: bytes | None, *, received_at: int, max_skew_ms: int = 300_000) -> Event:
    """Decode and validate one event of a topic.

    Parameters
    ----------
    kind
        Topic kind, a key of ``EVENT_TYPES``.
    raw
        The record's value.
    received_at
        The record's Kafka timestamp, ms; clock skew is judged against it.
    max_skew_ms
        How far in the future of ``received_at`` an event may lie.

    Raises
    ------
    Refusal
        If the event cannot be understood.
    """
    if raw is None:
        raise Refusal("empty", "value", None, "a JSON object; only the items topic takes null values")
    limit = MAX_BYTES.get(kind, DEFAULT_MAX_BYTES)
    if len(raw) > limit:
        raise Refusal("too_large", "value", f"{len(raw)} bytes", f"at most {limit} bytes")
    try:
        event: Event = _DECODERS[kind].decode(raw)
    except msgspec.ValidationError as error:
        raise _explain(str(error), raw) from None
    except _UNREADABLE as error:
        raise _malformed(raw, error) from None
    _check_meaning(kind, event, received_at + max_skew_ms)
    return event


def _check_meaning(kind: str, event: Event, latest: int) -> None:
    if event.occurred_at > latest:
        raise Refusal(
            "clock_skew", "occurred_at", event.occurred_at, f"at most {latest}, the broker's clock and skew"
        )
    if kind == "impressions":
        positions = [shown.position for shown in event.items]  # type: ignore[attr-defined]
        if len(set(positions)) != len(positions):
            raise Refusal("duplicate_position", "items", positions, "each position once")
    if isinstance(event, SubjectEvent) and event.user_id and event.user_id.startswith("s:"):
        raise Refusal("reserved_id", "user_id", event.user_id, "an id that does not begin with 's:'")
    if isinstance(event, User) and event.merge_session is not None and event.erase:
        raise Refusal("contradiction", "erase", True, "either merge_session or erase, not both")


def _malformed(raw: bytes, error: Exception) -> Refusal:
    return Refusal("malformed_json", "value", raw[:80], f"one JSON object in UTF-8 ({error})")


def _explain(message: str, raw: bytes) -> Refusal:
    try:
        document: Any = msgspec.json.decode(raw)
    except msgspec.ValidationError:
        document = raw[:80]  # a number too large to be shown
    except _UNREADABLE as error:
        return _malformed(raw, error)  # validation stops at the first mistake; what follows is no JSON
    match = _PATH.search(message)
    path = match["path"] if match else ""
    wished = message[: match.start()] if match else message
    missing = re.search(r"missing required field `(\w+)`", wished)
    if missing:
        field = f"{path}.{missing[1]}".lstrip(".")
        return Refusal("missing_field", field, None, "this field is required")
    return Refusal(_reason(wished), path.lstrip(".") or "value", _walk(document, path), wished)


def _reason(wished: str) -> str:
    if re.search(r"length|[<>]=? ?-?\d|matching regex|out of range|multiple", wished):
        return "out_of_bounds"
    if "Invalid enum value" in wished:
        return "unknown_value"
    return "wrong_type"


def _walk(value: Any, path: str) -> Any:
    for name, index in _STEP.findall(path):
        try:
            value = value[name] if name else value[int(index)]
        except (KeyError, IndexError, ValueError, TypeError):
            return value
    return value
