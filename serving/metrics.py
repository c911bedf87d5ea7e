"""Metrics of a server process."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)


class ServerMetrics:
    """Counters and histograms of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.answers = Counter("headwater_answers", "Answers by rung", ["surface", "rung"], registry=registry)
        self.slots = Counter("headwater_slots", "Slots by how they were drawn", ["kind"], registry=registry)
        self.stage = Histogram(
            "headwater_stage_seconds", "Time of one stage", ["stage"], registry=registry, buckets=_SECONDS
        )
        self.sources = Counter("headwater_shown", "Shown items by source", ["source"], registry=registry)
        self.staleness = Gauge("headwater_staleness_seconds", "Age of the live state", registry=registry)
        self.logged = Counter("headwater_decisions_logged", "Decisions Kafka took", registry=registry)
        self.lost = Counter(
            "headwater_decisions_lost", "Decisions the full buffer refused", registry=registry
        )
        self.buffered = Gauge(
            "headwater_decisions_buffered", "Decisions waiting for Kafka", registry=registry
        )
        self.events = Counter(
            "headwater_gateway_events", "Gateway events", ["kind", "verdict"], registry=registry
        )
        self.store_failures = Counter(
            "headwater_store_failures", "Store reads that failed", registry=registry
        )
