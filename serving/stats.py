"""Live figures of one server, for its dashboard."""

import time
from typing import Any

from msgspec import Struct

from serving.ledger import LedgerCounts, exploration_cost
from serving.live import LiveState
from serving.metrics import ServerMetrics
from serving.store import UNREACHABLE
from serving.sync import Sync
from state.exploration import Explorations
from state.keys import counters_key, lane_unit, subject_unit, unit_prefix
from state.settings import Settings


class Stats(Struct):
    """What the dashboard shows.

    Attributes
    ----------
    answers
        Rung -> answers of this server.
    slots
        ``explored`` and ``exploited`` slots of this server.
    counters
        Folded counts of all shards; empty while the store is away.
    items, sessions
        Sizes of catalogue and session index.
    models
        Surface -> steps its click model has learnt.
    explorations
        Surface -> document in force.
    new_items, exploration_cost
        Surface -> new items by state, and rewards exploration cost in the last hour.
    staleness_ms, stage_ms
        Age of the live state; mean time of each stage.
    """

    answers: dict[str, int]
    slots: dict[str, int]
    counters: dict[str, int]
    items: int
    sessions: int
    models: dict[str, int]
    explorations: dict[str, Explorations]
    new_items: dict[str, dict[str, int]]
    exploration_cost: dict[str, float]
    staleness_ms: int
    stage_ms: dict[str, float]


class StatsReader:
    """Collects the figures.

    Parameters
    ----------
    settings
        Of the namespace.
    redis
        Client of the store.
    parts
        Live state, feed follower, metrics, and counts of new items.
    """

    def __init__(
        self, settings: Settings, redis: Any, parts: tuple[LiveState, Sync, ServerMetrics, LedgerCounts]
    ) -> None:
        self._redis = redis
        self._live, self._sync, self._metrics, self._new = parts
        units = [subject_unit(n) for n in range(settings.shards)] + [
            lane_unit(n) for n in range(settings.lanes)
        ]
        self._keys = [counters_key(unit_prefix(settings.namespace, unit)) for unit in units]

    async def read(self) -> Stats:
        """Return the figures of this moment."""
        live, now_ms = self._live, time.time_ns() // 1_000_000
        surfaces = sorted({"home", *live.surfaces})
        return Stats(
            answers=self._by_label("headwater_answers", "rung"),
            slots=self._by_label("headwater_slots", "kind"),
            counters=await self._counters(),
            items=int(live.items.available.sum()),
            sessions=live.sessions.sessions,
            models=dict(live.model_versions),
            explorations={name: live.laws(name, now_ms).document for name in {"home", *live.surfaces}},
            new_items={name: {str(s): n for s, n in held.items()} for name, held in self._new.states.items()},
            exploration_cost={name: exploration_cost(live, name, now_ms)[0] for name in surfaces},
            staleness_ms=self._sync.staleness_ms(),
            stage_ms=self._stages(),
        )

    async def _counters(self) -> dict[str, int]:
        totals: dict[str, int] = {}
        try:
            for key in self._keys:
                for name, value in (await self._redis.hgetall(key)).items():
                    totals[name.decode()] = totals.get(name.decode(), 0) + int(value)
        except UNREACHABLE:
            return {}
        return totals

    def _by_label(self, name: str, label: str) -> dict[str, int]:
        totals: dict[str, int] = {}
        for family in self._metrics.registry.collect():
            for sample in family.samples:
                if sample.name == f"{name}_total":
                    totals[sample.labels[label]] = totals.get(sample.labels[label], 0) + int(sample.value)
        return totals

    def _stages(self) -> dict[str, float]:
        sums: dict[str, dict[str, float]] = {}
        for family in self._metrics.registry.collect():
            for sample in family.samples:
                if sample.name in ("headwater_stage_seconds_sum", "headwater_stage_seconds_count"):
                    sums.setdefault(sample.labels["stage"], {})[sample.name.rsplit("_", 1)[1]] = sample.value
        return {s: round(1000 * v["sum"] / v["count"], 3) for s, v in sums.items() if v.get("count")}
