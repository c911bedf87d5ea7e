"""One record of a topic-partition as the folders take it."""

import re
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from state.decoding import Refusal, decode_event
from state.events import Event
from state.imports import is_import_mark
from state.outbox import FORWARDED_HEADER, IMPORT_HEADER, NUMBER_HEADER, REDRIVE_HEADER, SOURCE_HEADER
from state.producers import ENGINE, PRODUCER_HEADER, UNNAMED, producer_name
from state.tracing import TRACE_HEADER, read_parent

Headers = Sequence[tuple[str, bytes | None]]
_MAX_DIGITS = 18
_LETTER_ID = re.compile(rb"[a-z0-9]{1,8}-[a-z]{1,16}-[0-9]{1,8}-[0-9]{1,18}")


class Row(Struct):
    """A decoded record, or why it could not be decoded.

    Attributes
    ----------
    kind, partition, offset
        Where it stands; ``kind`` is the topic without its namespace.
    received_at
        Kafka timestamp, ms.
    key, raw
        As sent.
    event
        None for a null value and for a refused record.
    refusal
        Why it was refused.
    source, number
        Unit and running number of the outbox it came through, if any.
    forwarded
        Whether another shard passed it on.
    redrive
        The dead letter it was re-driven from, if any.
    imported
        Mark of the import it belongs to; empty for what happens now.
    producer
        Who published it: as the event says, else as a header does.
    trace
        Header of the trace it is part of; nothing that is folded depends on it.
    """

    kind: str
    partition: int
    offset: int
    received_at: int
    key: bytes | None
    raw: bytes | None
    event: Event | None = None
    refusal: Refusal | None = None
    source: str = ""
    number: int = 0
    forwarded: bool = False
    redrive: str = ""
    imported: str = ""
    producer: str = UNNAMED
    trace: str = ""

    def occurred_at(self) -> int:
        """Return the event's time, or the record's where there is no event."""
        return self.event.occurred_at if self.event is not None else self.received_at


def decode_row(row: Row, headers: Headers, max_skew_ms: int) -> Row:
    """Fill in a row's event or refusal and what its headers say; never raises on bad input."""
    try:
        _read_headers(row, headers)
        if row.raw is not None or row.kind != "items":
            row.event = decode_event(row.kind, row.raw, received_at=row.received_at, max_skew_ms=max_skew_ms)
    except Refusal as refusal:
        row.refusal = refusal
    said = row.event.producer if row.event is not None else _said(row) if row.refusal else None
    row.producer = producer_name(said, _header(headers)) or (ENGINE if row.kind == "decisions" else UNNAMED)
    return row


class _Named(Struct):
    producer: object = None


_named_decoder = msgspec.json.Decoder(_Named)


def _said(row: Row) -> object:
    """Return what a record says of its producer, where it is JSON at all."""
    try:
        return _named_decoder.decode(row.raw or b"").producer
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _header(headers: Headers) -> str | None:
    for name, value in headers:
        if name == PRODUCER_HEADER and value:
            return value.decode(errors="replace")
    return None


def _read_headers(row: Row, headers: Headers) -> None:
    if not headers:
        return
    marks = {name: value or b"" for name, value in headers}
    row.forwarded = FORWARDED_HEADER in marks
    row.redrive = _letter_id(marks)
    row.trace = read_parent(marks.get(TRACE_HEADER))
    row.source = _text(SOURCE_HEADER, marks.get(SOURCE_HEADER, b""))
    row.imported = _text(IMPORT_HEADER, marks.get(IMPORT_HEADER, b""))
    number = marks.get(NUMBER_HEADER, b"0")
    if not number.isdigit() or len(number) > _MAX_DIGITS:
        raise Refusal("bad_header", NUMBER_HEADER, number, f"1 to {_MAX_DIGITS} decimal digits")
    row.number = int(number)
    if row.imported and not (is_import_mark(row.imported) and row.number):
        wished = "NAME@FINGERPRINT and a running number above 0"
        raise Refusal("bad_header", IMPORT_HEADER, row.imported, wished)


def _letter_id(marks: Mapping[str, bytes]) -> str:
    named = marks.get(REDRIVE_HEADER)
    if named is None:
        return ""
    if not _LETTER_ID.fullmatch(named):
        raise Refusal("bad_header", REDRIVE_HEADER, named, "a dead letter's id, such as 0-clicks-0-17")
    return named.decode()


def _text(header: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Refusal("bad_header", header, raw, "UTF-8 text") from None
