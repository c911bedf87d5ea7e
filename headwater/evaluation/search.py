"""Search for recommender settings on a click log, judged on a later part of it that the search never saw."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from headwater.evaluation.clicks import Clicks
from headwater.evaluation.engine import Engine
from headwater.evaluation.measures import NAMES, Z95, difference
from headwater.evaluation.protocols import drawn, run_prequential
from headwater.evaluation.report import values_of
from headwater.evaluation.trial import Trial
from headwater.evaluation.tuned import PARTS, changed
from online_models.arrays import FloatArray, IntArray
from online_models.retrieval import RecommenderSettings

Knob = tuple[str, str]
"""Setting of the server, and the value in it."""
LADDERS: dict[Knob, tuple[float, ...]] = {
    ("knn", "query_decay"): (1, 2, 4, 8, 16),
    ("covisits", "query_decay"): (1, 2, 4, 8, 16),
    ("knn", "session_decay"): (10_000, 30_000, 60_000, 120_000, 300_000, 1_000_000),
    ("covisits", "session_decay"): (10_000, 30_000, 60_000, 120_000, 300_000, 1_000_000),
    ("knn", "neighbours"): (100, 300, 600, 1_200),
    ("knn", "idf_power"): (0, 1, 2, 3, 4),
    ("covisits", "idf_weight"): (0, 0.3, 1, 3, 10),
    ("knn", "idf_weight"): (0, 0.3, 1, 3),
    ("knn", "position_decay"): (3, 10, 30),
    ("covisits", "position_decay"): (3, 10, 30),
    ("covisits", "window"): (5, 10, 20),
    ("knn", "backward"): (0.5, 0.8, 1),
    ("covisits", "backward"): (0.4, 0.7, 1),
    ("knn", "match_decay"): (2, 5, 20),
    ("knn", "length_power"): (0, 0.3, 0.6),
    ("covisits", "visit_power"): (0.25, 0.5, 0.75),
    ("knn", "in_session"): (0.5, 1, 2, 4),
    ("covisits", "in_session"): (0.5, 1, 2, 4),
    ("knn", "sample"): (256, 512, 1_024),
}
"""Values tried, in order; the knobs that tend to matter most come first."""
Values = Mapping[Knob, float]
LOOSE: Values = {
    ("knn", "query_decay"): 8, ("covisits", "query_decay"): 8,
    ("knn", "position_decay"): 30, ("covisits", "position_decay"): 30,
    ("knn", "match_decay"): 20, ("knn", "backward"): 1, ("covisits", "backward"): 1,
    ("knn", "idf_power"): 1, ("knn", "idf_weight"): 0.3, ("covisits", "idf_weight"): 0.3,
    ("covisits", "window"): 20,
}  # fmt: skip
"""Suits long sessions whose order says little, as with films and music; shops are nearer to the defaults."""


def grouped(values: Values) -> dict[str, dict[str, float]]:
    """Return knobs' values by setting of the server."""
    found: dict[str, dict[str, float]] = {}
    for (setting, name), value in values.items():
        found.setdefault(setting, {})[name] = value
    return found


def value_of(settings: RecommenderSettings, knob: Knob) -> float:
    """Return what a knob is set to."""
    return float(getattr(getattr(settings, PARTS[knob[0]]), knob[1]))


class Outcome(NamedTuple):
    """What one choice of settings was worth on the same clicks as every other.

    Attributes
    ----------
    values
        (n, m) every measure of every predicted click.
    sessions
        (n,) of each.
    costs
        Microseconds.
    """

    values: FloatArray
    sessions: IntArray
    costs: dict[str, float]


@dataclass(frozen=True)
class Course:
    """Clicks from the start of a log: the first are only learnt, the rest predicted, then learnt.

    Attributes
    ----------
    clicks
        In order of time.
    first
        The first click that is predicted.
    share, seed
        Of the sessions predicted.
    """

    clicks: Clicks
    first: int
    share: float
    seed: int

    def run(self, settings: RecommenderSettings) -> Outcome:
        """Judge settings by the class that serves."""
        trial = Trial(Engine(settings), np.zeros(int(self.clicks.items.max(initial=0)) + 1, np.int64))
        wanted = drawn(self.clicks.sessions[self.first :], self.share, self.seed)
        run_prequential(trial, self.clicks, wanted, 1 << 62, first=self.first)
        return Outcome(values_of(trial.all), trial.all.ints("session"), trial.costs())


class Step(NamedTuple):
    """One try of a search: what was changed against the settings in force, its mean, whether it was kept."""

    values: dict[Knob, float]
    mean: float
    kept: bool


@dataclass
class Search:
    """Climbs from the settings in force, one knob at a time, in the same order for the same log.

    A try is kept where its gain, judged click by click, is above its own standard error: of many tries that
    change nothing some look better by chance.

    Attributes
    ----------
    base
        Settings in force.
    judge
        Returns what settings are worth.
    measure
        Column of `NAMES` that counts.
    tries
        Tries at most.
    """

    base: RecommenderSettings
    judge: Callable[[RecommenderSettings], Outcome]
    measure: str
    tries: int
    steps: list[Step] = field(default_factory=list)
    _best: dict[Knob, float] = field(default_factory=dict)

    def run(self, on_step: Callable[[Step], None]) -> dict[Knob, float]:
        """Return the values that differ from the settings in force; none where nothing is better."""
        self._held, self._on_step = self.judge(self.base), on_step
        self._try(self._differing(LOOSE))
        moved = True
        while moved and len(self.steps) < self.tries:
            moved = sum(self._walk(knob, up=up) for knob in LADDERS for up in (True, False)) > 0
        return self._best

    def _walk(self, knob: Knob, *, up: bool) -> bool:
        moved = False
        for value in list(self._ahead(knob, up=up)):
            if not self._try(self._differing({**self._best, knob: value})):
                break
            moved = True
        return moved

    def _ahead(self, knob: Knob, *, up: bool) -> Iterator[float]:
        now = self._best.get(knob, value_of(self.base, knob))
        return (v for v in (LADDERS[knob] if up else LADDERS[knob][::-1]) if (v > now if up else v < now))

    def _differing(self, values: Values) -> dict[Knob, float]:
        return {knob: value for knob, value in values.items() if value != value_of(self.base, knob)}

    def _try(self, values: dict[Knob, float]) -> bool:
        known = any(step.values == values for step in self.steps) or values == self._best
        if known or len(self.steps) >= self.tries:
            return False
        found, column = self.judge(changed(self.base, grouped(values))), NAMES.index(self.measure)
        gap, width = difference(self._held.values, found.values, found.sessions)
        kept = bool(gap[column] > width[column] / Z95)
        self.steps.append(Step(values, float(found.values[:, column].mean()), kept))
        if kept:
            self._best, self._held = values, found
        self._on_step(self.steps[-1])
        return kept
