"""Traces from event to answer, in OpenTelemetry's terms; nothing of it is imported while they are off."""

import random
import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from state.settings import Settings, SettingsError

TRACE_HEADER = "traceparent"
"""As the W3C's Trace Context names it, in HTTP and in Kafka."""
_PARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_SAMPLED = 1

INCOMING: ContextVar[str] = ContextVar("incoming", default="")
"""The trace a request asked to be part of; set only while traces are on."""


class Tracing:
    """Notes spans whose beginning and end are known.

    Parameters
    ----------
    tracer
        Of OpenTelemetry.
    share
        Of what brings no trace along: how much begins one of its own.
    chance
        Where a share is drawn from.
    """

    def __init__(self, tracer: Any, share: float, chance: random.Random | None = None) -> None:
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415 - an optional extra
            TraceContextTextMapPropagator,
        )

        self._tracer, self._share, self._chance = tracer, share, chance or random.Random()
        self._propagator = TraceContextTextMapPropagator()

    def wants(self, parent: str) -> bool:
        """Return whether a span is to be noted: where its parent's trace is, else for a share."""
        return is_sampled(parent) if parent else self._chance.random() < self._share

    def note(self, name: str, parent: str, times: tuple[int, int], said: Mapping[str, Any]) -> str:
        """Note a span and return the header by which others join it.

        Parameters
        ----------
        name
            Of the span.
        parent
            Header of the span it belongs to; empty where it begins a trace.
        times
            Begin and end, nanoseconds since 1970.
        said
            What is known of it: decision ids, units, rungs; never ids of people.
        """
        from opentelemetry.trace import set_span_in_context  # noqa: PLC0415 - an optional extra

        context = self._propagator.extract({TRACE_HEADER: parent}) if parent else None
        span = self._tracer.start_span(name, context=context, start_time=times[0], attributes=dict(said))
        span.end(end_time=max(times))
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, context=set_span_in_context(span))
        return carrier.get(TRACE_HEADER, "")


def is_sampled(parent: str) -> bool:
    """Return whether a header is a trace's that somebody keeps; what is no header is nobody's."""
    return bool(_PARENT.fullmatch(parent)) and bool(int(parent[-2:], 16) & _SAMPLED)


def read_parent(raw: bytes | None) -> str:
    """Return a header as it came; empty where it is none."""
    parent = (raw or b"").decode("latin-1")
    return parent if _PARENT.fullmatch(parent) else ""


def start_tracing(settings: Settings, service: str) -> Tracing | None:
    """Return what notes spans and sends them to where ``OTEL_EXPORTER_OTLP_ENDPOINT`` says; None while off.

    Raises
    ------
    SettingsError
        If traces are wished and OpenTelemetry is not installed.
    """
    if not settings.trace_share:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        raise SettingsError(
            f"setting HEADWATER_TRACE_SHARE has value {settings.trace_share:g}; wished: 0, or the extra "
            "'otel' installed (pip install headwater[otel])"
        ) from None
    named = {"service.name": f"headwater-{service}", "service.namespace": settings.namespace}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider.get_tracer("headwater"), settings.trace_share)
