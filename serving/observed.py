"""What a server notes beside answers and times: plain numbers, made metrics when somebody asks."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.candidates import SOURCES

if TYPE_CHECKING:
    from bandits.exploration import Exploration
    from bandits.slates import Slate
    from serving.admission import Admission, Lateness
    from serving.decide import Scored
    from serving.guard import Guard
    from serving.reader import SubjectReader

EVERY = 16
"""One decision in so many is looked at: what is told of it are shares, which this many tell as well."""
_AGES_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 5.0)
_AT_FLOOR = 1.001


class DecisionSample(Collector):
    """What every sixteenth decision was made of.

    Parameters
    ----------
    features
        Names of the click model's inputs.
    """

    def __init__(self, features: Iterable[str]) -> None:
        self._features = tuple(features)
        self._turn = self._decisions = self._slots = self._at_floor = self._rows = 0
        self._found: Counter[str] = Counter()
        self._known = np.zeros(len(self._features), dtype=np.int64)

    def note(self, scored: "Scored", slate: "Slate", law: "Exploration") -> None:
        """Look at a decision, if it is its turn."""
        self._turn += 1
        if self._turn % EVERY:
            return
        self._decisions += 1
        sources = scored.found.sources
        for letter in SOURCES:
            if count := sources.count(letter):
                self._found[letter] += count
        self._rows += len(scored.features)
        self._known += np.count_nonzero(scored.features, axis=0)
        self._slots += len(slate.propensities)
        if law.floor > 0.0:
            self._at_floor += int(np.count_nonzero(slate.propensities <= law.floor * _AT_FLOOR))

    def collect(self) -> Iterator[Metric]:
        """Return the counts as metrics."""
        found = CounterMetricFamily(
            "headwater_sampled_candidates", "Candidates of sampled decisions by source", labels=["source"]
        )
        for letter, count in self._found.items():
            found.add_metric([SOURCES[letter]], count)
        known = CounterMetricFamily(
            "headwater_sampled_feature_known", "Sampled candidates with the feature", labels=["feature"]
        )
        for name, count in zip(self._features, self._known.tolist(), strict=True):
            known.add_metric([name], count)
        yield from (found, known)
        totals = {
            "headwater_sampled_decisions": ("Decisions looked at", self._decisions),
            "headwater_sampled_rows": ("Candidates of sampled decisions", self._rows),
            "headwater_sampled_slots": ("Slots of sampled decisions", self._slots),
            "headwater_sampled_floor_slots": ("Sampled slots drawn at the floor", self._at_floor),
        }
        for name, (about, count) in totals.items():
            yield CounterMetricFamily(name, about, value=count)


class SlotTally(Collector):
    """Slots by how they were drawn, and by the source that found what they show."""

    def __init__(self) -> None:
        self._slots, self._explored = 0, 0
        self._shown = dict.fromkeys(SOURCES, 0)

    def note(self, explored: int, sources: Sequence[str]) -> None:
        """Count the slots of one slate, by the letters of their sources."""
        self._slots += len(sources)
        self._explored += explored
        for letter in sources:
            self._shown[letter] += 1

    def collect(self) -> Iterator[Metric]:
        """Return the counts as metrics."""
        slots = CounterMetricFamily("headwater_slots", "Slots by how they were drawn", labels=["kind"])
        slots.add_metric(["explored"], self._explored)
        slots.add_metric(["exploited"], self._slots - self._explored)
        shown = CounterMetricFamily("headwater_shown", "Shown items by source", labels=["source"])
        for letter, count in self._shown.items():
            if count:
                shown.add_metric([SOURCES[letter]], count)
        yield from (slots, shown)


class Ages(Collector):
    """How old interactions were when they came to be visible to this server's answers."""

    def __init__(self) -> None:
        self._counts, self._sum = [0] * (len(_AGES_S) + 1), 0.0

    def note(self, age_s: float) -> None:
        """Note the age of one commit's newest interaction."""
        self._counts[sum(age_s > bound for bound in _AGES_S)] += 1
        self._sum += max(0.0, age_s)

    def collect(self) -> Iterator[Metric]:
        """Return the histogram."""
        total, buckets = 0, []
        for bound, count in zip([*map(str, _AGES_S), "+Inf"], self._counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        family = HistogramMetricFamily(
            "headwater_freshness_seconds", "Event time to visible, of each commit's newest interaction"
        )
        family.add_metric([], buckets, self._sum)
        yield family


class DoorMetrics(Collector):
    """What the guard lets in and turns away, and how the server is.

    Parameters
    ----------
    guard, lateness, reader
        Whose numbers these are.
    """

    def __init__(self, guard: "Guard", lateness: "Lateness", reader: "SubjectReader") -> None:
        self._guard, self._lateness, self._reader = guard, lateness, reader

    def collect(self) -> Iterator[Metric]:
        """Return the numbers of this moment."""
        guard = self._guard
        turned = CounterMetricFamily("headwater_turned_away", "Requests turned away", labels=["why"])
        for why in ("unauthenticated", "forbidden", "too_often", "overloaded"):
            turned.add_metric([why], guard.turned[why])
        yield turned
        yield from _of_admissions({"recommendations": guard.recommendations, "others": guard.others})
        keys = guard.keys
        gauges = {
            "headwater_loop_lateness_seconds": ("Least lateness of the loop", self._lateness.last_s),
            "headwater_draining": ("1 from SIGTERM on", float(guard.is_draining)),
            "headwater_store_breakers_open": ("Parts of the store not asked", self._reader.breakers_open()),
            "headwater_keys": ("Keys known", 0 if keys is None else len(keys.callers)),
        }
        for name, (about, value) in gauges.items():
            yield GaugeMetricFamily(name, about, value=value)
        failures = 0 if keys is None else keys.failures
        yield CounterMetricFamily("headwater_keys_unreadable", "Changes not taken in", value=failures)


def _of_admissions(admissions: dict[str, "Admission"]) -> Iterator[Metric]:
    now = GaugeMetricFamily("headwater_in_flight", "Requests being answered", labels=["route"])
    limit = GaugeMetricFamily("headwater_in_flight_limit", "How many there may be", labels=["route"])
    for route, admission in admissions.items():
        now.add_metric([route], admission.in_flight)
        limit.add_metric([route], admission.limit)
    yield from (now, limit)
