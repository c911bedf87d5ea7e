"""Traces: one chain from a posted event over its fold to the answer, and nothing while they are off."""

import random
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from state.settings import Settings
from state.tracing import TRACE_HEADER, Tracing, is_sampled, read_parent, start_tracing
from stream.rows import Row, decode_row
from stream.tracing import trace_folds

PARENT = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


def kept(share: float = 0.0) -> tuple[Tracing, InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider.get_tracer("test"), share, random.Random(1)), exporter


def test_a_span_joins_the_trace_it_is_given_and_others_join_by_its_header() -> None:
    tracing, exporter = kept()
    whole = tracing.note("publish", PARENT, (1_000, 2_000), {"events": 3})
    tracing.note("fold", whole, (2_000, 3_000), {"unit": "0"})
    first, second = exporter.get_finished_spans()
    assert whole.split("-")[1] == "ab" * 16
    assert (first.start_time, first.end_time, dict(first.attributes or {})) == (1_000, 2_000, {"events": 3})
    assert first.parent is not None
    assert f"{first.parent.span_id:016x}" == "cd" * 8
    assert second.parent is not None
    assert second.parent.span_id == first.context.span_id
    assert second.context.trace_id == first.context.trace_id


def test_what_comes_without_a_trace_begins_one_for_a_share() -> None:
    tracing, _ = kept(share=0.25)
    assert 180 < sum(tracing.wants("") for _ in range(1_000)) < 320
    assert tracing.wants(PARENT)
    assert not tracing.wants(PARENT[:-2] + "00")
    assert not kept()[0].wants("")


@pytest.mark.parametrize(
    "raw",
    [None, b"", b"x", b"\xff" * 55, b"00-" + b"0" * 32 + b"-" + b"cd" * 8 + b"-01", PARENT.encode() + b"0",
     PARENT.upper().encode(), PARENT.encode() + b"\n"],
)  # fmt: skip
def test_what_is_no_header_is_taken_for_none(raw: bytes | None) -> None:
    assert read_parent(raw) == ""
    assert not is_sampled((raw or b"").decode("latin-1"))


def test_a_record_carries_its_trace_into_the_fold_and_a_broken_header_refuses_nothing() -> None:
    tracing, exporter = kept()
    event = b'{"event_id":"1","occurred_at":1750000000000,"session_id":"s","item_id":"i"}'

    def row(header: bytes) -> Row:
        plain = Row("clicks", 0, 7, 1_750_000_000_000, b"s:s", event)
        return decode_row(plain, [(TRACE_HEADER, header)], 0)

    rows = [row(PARENT.encode()), row(b"broken"), row(PARENT[:-2].encode() + b"00")]
    assert [(one.refusal, bool(one.trace)) for one in rows] == [(None, True), (None, False), (None, True)]
    trace_folds(tracing, "0", rows)
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.start_time) == ("fold", 1_750_000_000_000_000_000)
    said: dict[str, Any] = dict(span.attributes or {})
    assert said == {"unit": "0", "topic": "clicks", "partition": 0, "offset": 7}


def test_while_traces_are_off_nothing_of_them_is_imported() -> None:
    assert start_tracing(Settings(), "server") is None  # the store's client imports of it what it finds
    code = (
        "import sys, serving.app, stream.worker; from state.tracing import start_tracing; "
        "from state.settings import Settings; start_tracing(Settings(), 'server'); "
        "sys.exit(any(name.startswith('opentelemetry.exporter') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
