"""The three protocols: what is predicted, when, and what is learnt in between. Always predict, then learn."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from headwater.evaluation.clicks import Clicks
from headwater.evaluation.trial import Moment, Trial
from online_models.arrays import IntArray

Wanted = Callable[[int], bool]


def drawn(sessions: IntArray, share: float, seed: int) -> Wanted:
    """Return which sessions are predicted when only a share of them is; all clicks are learnt anyway."""
    every = np.unique(sessions)
    kept = np.random.default_rng(seed).permutation(every)[: max(1, round(share * len(every)))]
    return set(kept.tolist()).__contains__


@dataclass(frozen=True, slots=True)
class Visits:
    """Every click of a log with what came before and after it in its session.

    Attributes
    ----------
    items
        (m,) the clicks counted, session by session.
    place
        (n,) where in `items` a click of the log is; -1 where it is not counted.
    begin, end
        (m,) where the session of each begins and ends.
    """

    items: IntArray
    place: IntArray
    begin: IntArray
    end: IntArray

    @classmethod
    def of(cls, clicks: Clicks, groups: IntArray, counted: NDArray[np.bool_]) -> "Visits":
        """Group the counted clicks of a log (n,) by `groups` (n,), each group in the order of the log."""
        chosen = np.flatnonzero(counted)
        order = chosen[np.argsort(groups[chosen], kind="stable")]
        place = np.full(len(clicks), -1)
        place[order] = np.arange(len(order))
        edges = np.flatnonzero(np.diff(groups[order], prepend=-1, append=-1))
        begin, end = (np.repeat(ends, np.diff(edges)) for ends in (edges[:-1], edges[1:]))
        return cls(clicks.items[order], place, begin, end)

    def moment(self, clicks: Clicks, n: int, part: int) -> Moment | None:
        """Return click n as one to be predicted; None where it begins its session or is not counted."""
        at = int(self.place[n])
        if at < 0 or at == self.begin[at]:
            return None
        before, rest = self.items[self.begin[at] : at], self.items[at : self.end[at]]
        whole = int(self.end[at] - self.begin[at])
        return Moment(int(clicks.sessions[n]), before, rest, int(clicks.at_ms[n]), part, whole)


def _whole(clicks: Clicks) -> Visits:
    return Visits.of(clicks, clicks.sessions, np.ones(len(clicks), np.bool_))


def run_split(trial: Trial, test: Clicks, wanted: Wanted, *, add_finished: bool) -> None:
    """Predict every next click of test sessions, which come one after another.

    The model stays as it is, or learns each session when it has ended. It has learnt sessions that had ended
    before, too (`Trial.learn_sessions`): of a session that asks nothing is ever known but its clicks.
    """
    visits = _whole(test)
    for begin, end in test.runs():
        if wanted(int(test.sessions[begin])):
            for n in range(begin + 1, end):
                _predict(trial, visits.moment(test, n, 0))
        if add_finished:
            trial.learn_sessions(test.part(slice(begin, end)))


def run_prequential(trial: Trial, clicks: Clicks, wanted: Wanted, bucket_ms: int, *, first: int = 0) -> None:
    """Predict every click that follows another in its session, then learn it; before `first` only learn."""
    visits = _whole(clicks)
    buckets = (clicks.at_ms - clicks.at_ms[:1]) // bucket_ms
    trial.learn(clicks.part(slice(0, first)))
    for n in range(first, len(clicks)):
        if wanted(int(clicks.sessions[n])):
            _predict(trial, visits.moment(clicks, n, int(buckets[n])))
        trial.learn(clicks.part(slice(n, n + 1)))


def run_continual(trials: tuple[Trial, Trial], clicks: Clicks, period: IntArray, wanted: Wanted) -> None:
    """Predict each period from the second on; items are those known from earlier periods.

    Parameters
    ----------
    trials
        Of one model: the first is asked when every earlier click is learnt, the second when every earlier
        period is and nothing of this one.
    clicks, period
        The stream, n clicks, and the period of each, shape (n,).
    wanted
        Which sessions are predicted.
    """
    streaming, frozen = trials
    seen = np.full(int(clicks.items.max(initial=0)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(seen, clicks.items, period)
    counted = (period > 0) & (seen[clicks.items] < period)
    visits = Visits.of(clicks, clicks.sessions * (int(period.max(initial=0)) + 1) + period, counted)
    edges = np.flatnonzero(np.diff(period, prepend=-1, append=-1)).tolist()
    for begin, end in pairwise(edges):
        asked = [n for n in range(begin, end) if wanted(int(clicks.sessions[n]))]
        for n in asked:
            _predict(frozen, visits.moment(clicks, n, int(period[n])))
        for n in range(begin, end):
            if wanted(int(clicks.sessions[n])):
                _predict(streaming, visits.moment(clicks, n, int(period[n])))
            streaming.learn(clicks.part(slice(n, n + 1)))


def _predict(trial: Trial, moment: Moment | None) -> None:
    if moment is not None:
        trial.predict(moment)
