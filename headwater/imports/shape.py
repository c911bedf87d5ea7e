"""From a row of a file to an event of its topic: columns renamed, texts read, what is missing derived."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from headwater.imports.sources import Found
from state.decoding import Refusal, decode_event
from state.events import EVENT_TYPES, Event, Feedback, User, encode
from state.imports import check_importable
from state.pseudonyms import Pseudonyms
from state.retention import SEEN_MAX_AGE_MS
from state.settings import Settings
from state.subject import HOUR_MS, id_hash
from stream.users import check_reserved

KINDS = ("clicks", "feedback", "impressions", "items", "users")
TimeUnit = Literal["s", "ms", "iso"]
LIST_MARK = "|"
_DAY_MS = 24 * HOUR_MS
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_ID = 128
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")
_ATTRIBUTE = "attributes."
_LEFT_OUT = {"decision", "producer", "carried"}
_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_decode_json = msgspec.json.Decoder().decode


class ShapeError(ValueError):
    """A mapping that cannot be meant; the message names the field and what is wished."""


class Shape(Struct, frozen=True):
    """What is to be made of each row.

    Attributes
    ----------
    name
        Of the import.
    kind
        Topic kind of the events.
    columns
        Event field -> column it is read from, where their names differ.
    constants
        Event field -> value of every row.
    unit
        How times are written.
    """

    name: str
    kind: str
    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    unit: TimeUnit = "ms"


class EventMaker:
    """Makes validated events of rows.

    Parameters
    ----------
    shape
        What is to be made.
    settings
        Of the namespace: its feedback registry and clock skew.

    Raises
    ------
    ShapeError
        If a mapped or constant field is none of the kind.
    """

    def __init__(self, shape: Shape, settings: Settings) -> None:
        self._shape, self._settings = shape, settings
        fields = [name for name in EVENT_TYPES[shape.kind].__struct_fields__ if name not in _LEFT_OUT]
        for name in [*shape.columns, *shape.constants]:
            is_attribute = name.startswith(_ATTRIBUTE) and "attributes" in fields
            if name not in fields and not is_attribute:
                wished = ", ".join(fields) + (" or attributes.NAME" if "attributes" in fields else "")
                raise ShapeError(f"field {name!r} is none of {shape.kind}; wished: one of {wished}")
        self._pairs = [(name, shape.columns.get(name, name)) for name in fields]
        self._attributes = {
            name[len(_ATTRIBUTE) :]: column
            for name, column in shape.columns.items()
            if name.startswith(_ATTRIBUTE)
        }
        self._constants = {n: v for n, v in shape.constants.items() if not n.startswith(_ATTRIBUTE)}
        self._constant_attributes = {
            n[len(_ATTRIBUTE) :]: _number_or_text(v)
            for n, v in shape.constants.items()
            if n.startswith(_ATTRIBUTE)
        }
        readers = _readers(shape.unit)
        self._readers = [(n, readers[n]) for n in fields if n in readers]
        self._pseudonyms = Pseudonyms(settings.pseudonym_key())
        self._producer = f"import:{shape.name}"

    def make(self, number: int, found: Found, now_ms: int) -> tuple[Event, bytes]:
        """Return a row's event, and the bytes it is sent as.

        Raises
        ------
        Refusal
            If the row is no event of the kind, or one that cannot be imported.
        """
        document = self._fields(_document(found))
        document["producer"] = self._producer
        if isinstance(document.get("user_id"), str):
            document["user_id"] = self._pseudonyms.of(document["user_id"])
        document.setdefault("event_id", f"{self._shape.name}:{number}")
        if "session_id" not in document and "user_id" in document and self._shape.kind != "users":
            document["session_id"] = _derived_session(document)
        try:
            raw = encode(document)
        except (TypeError, ValueError) as error:
            raise Refusal("malformed_json", "value", document, f"values that JSON has ({error})") from None
        skew = self._settings.max_skew_ms
        event = decode_event(self._shape.kind, raw, received_at=now_ms, max_skew_ms=skew)
        self._check(event)
        return event, encode(event)

    def _fields(self, row: Mapping[str, Any]) -> dict[str, Any]:
        fields = {name: row[column] for name, column in self._pairs if _is_given(row.get(column))}
        fields.update(self._constants)
        for name, read in self._readers:
            if name in fields:
                fields[name] = read(name, fields[name])
        more = {n: _number_or_text(row[c]) for n, c in self._attributes.items() if _is_given(row.get(c))}
        if more or self._constant_attributes:
            fields["attributes"] = {**fields.get("attributes", {}), **more, **self._constant_attributes}
        return fields

    def _check(self, event: Event) -> None:
        check_importable(event)
        if isinstance(event, User):
            check_reserved(event, None)
        if isinstance(event, Feedback) and event.kind not in self._settings.feedback:
            known = ", ".join(sorted(self._settings.feedback))
            raise Refusal("unknown_feedback", "kind", event.kind, f"one of {known}")


def is_expired(event: Event, now_ms: int) -> bool:
    """Return whether an interaction is too long past to have an effect: no list or count goes back so far."""
    return hasattr(event, "session_id") and event.occurred_at < now_ms - SEEN_MAX_AGE_MS


def _document(found: Found) -> Mapping[str, Any]:
    if isinstance(found, Refusal):
        raise found
    if not isinstance(found, bytes):
        return found
    try:
        document = _decode_json(found)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("malformed_json", "value", found[:80], f"one JSON object a line ({error})") from None
    if not isinstance(document, dict):
        raise Refusal("malformed_json", "value", document, "one JSON object a line")
    return document


def _is_given(value: Any) -> bool:
    return value is not None and value != "" and not (isinstance(value, float) and math.isnan(value))


def _derived_session(document: Mapping[str, Any]) -> str:
    """Return a session for rows that name none: what one user did on one day."""
    at_ms = document.get("occurred_at")
    day = at_ms // _DAY_MS if isinstance(at_ms, int) else 0
    session = f"{document['user_id']}@{day}"
    return session if len(session) <= _LONGEST_ID else f"{id_hash(session):016x}"


def _readers(unit: TimeUnit) -> dict[str, Callable[[str, Any], Any]]:
    """Return by field how to read a value that is not yet of the field's type."""

    def time_of(name: str, value: Any) -> Any:
        return _time(name, value, unit)

    ids = dict.fromkeys(("event_id", "user_id", "session_id", "item_id"), _id)
    times = dict.fromkeys(("occurred_at", "published_at"), time_of)
    others = {"value": _float, "available": _truth, "erase": _truth, "schema": _float_to_int}
    lists = {"categories": _list, "items": _shown, "embedding": _vector, "attributes": _object}
    return {**ids, **times, **others, **lists}


def _id(_: str, value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _time(name: str, value: Any, unit: TimeUnit) -> int:
    try:
        if isinstance(value, date):
            return _moment_ms(value)
        if unit == "iso":
            return _moment_ms(datetime.fromisoformat(str(value)))
        number = int(value) if isinstance(value, str) and value.isdecimal() else float(value)
        return number * 1000 if isinstance(number, int) and unit == "s" else round(number * _scale(unit))
    except (TypeError, ValueError, OverflowError):
        wished = {"s": "seconds since 1970", "ms": "milliseconds since 1970", "iso": "a date of ISO 8601"}
        raise Refusal("wrong_type", name, value, f"{wished[unit]} (--time-unit {unit})") from None


def _scale(unit: TimeUnit) -> int:
    return 1000 if unit == "s" else 1


def _moment_ms(moment: date) -> int:
    """Return milliseconds since 1970; a time without a zone is UTC."""
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(milliseconds=1)


def _float(_: str, value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _float_to_int(_: str, value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _truth(_: str, value: Any) -> Any:
    return _TRUTHS.get(str(value).lower(), value)


def _json_or(value: str, otherwise: Any) -> Any:
    if value[:1] not in ("[", "{"):
        return otherwise
    try:
        return _decode_json(value)
    except msgspec.DecodeError:
        return otherwise


def _list(_: str, value: Any) -> Any:
    return _json_or(value, value.split(LIST_MARK)) if isinstance(value, str) else value


def _shown(name: str, value: Any) -> Any:
    shown = _list(name, value)
    if not isinstance(shown, list):
        return shown
    return [
        one if isinstance(one, dict) else {"item_id": _id("item_id", one), "position": place}
        for place, one in enumerate(shown)
    ]


def _vector(name: str, value: Any) -> Any:
    parts = _list(name, value)
    return [_float(name, part) for part in parts] if isinstance(parts, list) else parts


def _object(name: str, value: Any) -> dict[str, Any]:
    found = _json_or(value, value) if isinstance(value, str) else value
    if not isinstance(found, dict):
        raise Refusal("wrong_type", name, value, "a JSON object; columns go by attributes.NAME=COLUMN")
    return found


def _number_or_text(value: Any) -> Any:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    return value
