"""Metrics of a server process."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.ledger import State
from serving.observed import SlotTally

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)


class ServerMetrics:
    """Counters and histograms of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.answers = Counter("headwater_answers", "Answers by rung", ["surface", "rung"], registry=registry)
        self.stage = Histogram(
            "headwater_stage_seconds", "Time of one stage", ["stage"], registry=registry, buckets=_SECONDS
        )
        self.staleness = Gauge("headwater_staleness_seconds", "Age of the live state", registry=registry)
        self.logged = Counter("headwater_decisions_logged", "Decisions Kafka took", registry=registry)
        self.lost = Counter(
            "headwater_decisions_lost", "Decisions the full buffer refused", registry=registry
        )
        self.buffered = Gauge(
            "headwater_decisions_buffered", "Decisions waiting for Kafka", registry=registry
        )
        self.new_items = Gauge(
            "headwater_new_items", "New items by state", ["surface", "state"], registry=registry
        )
        self.exploration_cost = Gauge(
            "headwater_exploration_cost",
            "Rewards exploration cost in an hour",
            ["surface"],
            registry=registry,
        )
        self.exploration_allowed = Gauge(
            "headwater_exploration_allowed", "Share of the rate budgets leave", ["surface"], registry=registry
        )
        self.events = Counter(
            "headwater_gateway_events", "Gateway events", ["kind", "verdict"], registry=registry
        )
        self.store_failures = Counter(
            "headwater_store_failures", "Store reads that failed", registry=registry
        )
        labels = ["surface", "shadow", "bound"]
        self.shadow_reward = Gauge(
            "headwater_shadow_reward", "Reward a decision of a shadow", labels, registry=registry
        )
        self.shadow_decisions = Gauge(
            "headwater_shadow_decisions", "Decisions a shadow watched", labels[:2], registry=registry
        )
        # Looking a labelled series up costs as much as a small request stage: once is enough.
        self._answer = lru_cache(maxsize=1_024)(self.answers.labels)
        self._read, self._decide = self.stage.labels("read"), self.stage.labels("decide")
        self._slots = SlotTally()
        registry.register(self._slots)

    def note_answer(self, surface: str, rung: str) -> None:
        """Count an answer."""
        self._answer(surface, rung).inc()

    def note_exploration(self, surface: str, states: Mapping[State, int], cost: tuple[float, float]) -> None:
        """Note new items of a surface, what exploration cost in the last hour, and what budgets leave."""
        for state, count in states.items():
            self.new_items.labels(surface, state).set(count)
        self.exploration_cost.labels(surface).set(cost[0])
        self.exploration_allowed.labels(surface).set(cost[1])

    def note_times(self, read_s: float, decide_s: float) -> None:
        """Note how long the stages of one request took."""
        self._read.observe(read_s)
        self._decide.observe(decide_s)

    def note_slots(self, explored: int, sources: Sequence[str]) -> None:
        """Count the slots of one slate, by the letters of their sources."""
        self._slots.note(explored, sources)
