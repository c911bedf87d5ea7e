"""Who is eligible at a slot, and the two laws it may be drawn from."""

from typing import NamedTuple

import numpy as np

from bandits.arrays import BoolArray, FloatArray, IntArray
from bandits.exploration import Exploration
from bandits.problem import SlateProblem
from bandits.race import SMALLEST_SUM


class SlotParts(NamedTuple):
    """What one slot's propensity is made of: ``(1 - explored) pi + (explored - floor) q + floor / eligible``.

    Attributes
    ----------
    eligible
        How many candidates were left.
    pi, q
        The candidate's probability under the scheme's own law and under that of exploration.
    explored, floor
        Probability that the slot explores, given the slots before, and the part of it that pays the floor.
    """

    eligible: int
    pi: float
    q: float
    explored: float
    floor: float

    @property
    def propensity(self) -> float:
        """The whole."""
        by_floor = self.floor / self.eligible if self.eligible else 0.0
        return (1.0 - self.explored) * self.pi + (self.explored - self.floor) * self.q + by_floor


class SlotLaws:
    """The eligible candidates of each slot of one slate, the scheme's law over them and that of exploration.

    All are functions of the slots before, and of nothing else.

    Parameters
    ----------
    problem
        Of K candidates.
    exploration
        Any scheme.
    """

    def __init__(self, problem: SlateProblem, exploration: Exploration) -> None:
        self._problem, self._exploration = problem, exploration
        if exploration.is_softmax and len(problem.scores) and problem.diversity is None:
            self._logs = exploration.log_weights(problem.scores)
            self._exp: FloatArray = np.exp(self._logs)

    def left(self, placed: IntArray) -> BoolArray:
        """Return who is eligible after those placed (j,), shape (K,)."""
        rule, placed = self._problem.rule, self._before(placed)
        if rule is None:
            left = np.ones(len(self._problem.scores), np.bool_)
        else:
            left = np.array(rule.eligible(placed), np.bool_)
        left[placed] = False
        return left

    def q(self, left: BoolArray) -> FloatArray:
        """Return the law of exploration over those left, not normalised, shape (K,)."""
        if self._problem.explore_weights is not None:
            weights = self._problem.explore_weights * left
            if weights.any():
                return weights
        return left.astype(np.float64)

    def pi(self, left: BoolArray, placed: IntArray) -> FloatArray:
        """Return the scheme's law over those left after those placed, not normalised, shape (K,)."""
        if not self._exploration.is_softmax:
            places = np.flatnonzero(left)
            out = np.zeros(len(left))
            out[places] = self._exploration.law(self._scores(placed)[places])
            return out
        if self._problem.diversity is not None:
            return _far(self._exploration.log_weights(self._scores(placed)), left)
        weights = self._exp * left
        return weights if weights.sum() >= SMALLEST_SUM else _far(self._logs, left)

    def _scores(self, placed: IntArray) -> FloatArray:
        diversity = self._problem.diversity
        if diversity is None:
            return self._problem.scores
        return self._problem.scores - diversity.penalties(self._before(placed))

    def _before(self, placed: IntArray) -> IntArray:
        pinned = self._problem.pinned
        return placed if pinned is None else np.concatenate([pinned, placed])


def _far(logs: FloatArray, left: BoolArray) -> FloatArray:
    """Return the softmax over those left, relative to the best of them: exact however far apart they are."""
    among = np.where(left, logs, -np.inf)
    out: FloatArray = np.exp(among - among.max())
    return out


def share(law: FloatArray, index: int) -> float:
    """Return one candidate's part of a law that is not normalised."""
    return float(law[index] / law.sum())
