"""Who is eligible at a slot, and the two laws it may be drawn from."""

from typing import NamedTuple

import numpy as np

from bandits.arrays import BoolArray, FloatArray, IntArray
from bandits.exploration import Exploration
from bandits.exploring import pick
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
    """The law of each slot of one slate, a function of the slots before and of nothing else.

    Parameters
    ----------
    problem
        Of K candidates.
    exploration
        Any scheme.
    """

    def __init__(self, problem: SlateProblem, exploration: Exploration) -> None:
        self.weights, self.takes_best = problem.explore_weights, exploration.takes_best
        self._problem, self._exploration = problem, exploration
        if exploration.is_softmax and len(problem.scores) and problem.diversity is None:
            self._logs = exploration.log_weights(problem.scores)
            self._exp: FloatArray = np.exp(self._logs)

    def at(self, placed: IntArray) -> "SlotLaw":
        """Return the law of the slot after those placed (j,)."""
        return (BestLaw if self.takes_best else SlotLaw)(self, placed)

    def left(self, placed: IntArray) -> BoolArray:
        """Return who is eligible after those placed (j,), shape (K,)."""
        rule, placed = self._problem.rule, self._before(placed)
        if rule is None:
            left = np.ones(len(self._problem.scores), np.bool_)
        else:
            left = np.array(rule.eligible(placed), np.bool_)
        left[placed] = False
        return left

    def pi(self, left: BoolArray, placed: IntArray) -> FloatArray:
        """Return the scheme's law over those left after those placed, not normalised, shape (K,)."""
        if not self._exploration.is_softmax:
            places = np.flatnonzero(left)
            out = np.zeros(len(left))
            out[places] = self._exploration.law(self.scores(placed)[places])
            return out
        if self._problem.diversity is not None:
            return _far(self._exploration.log_weights(self.scores(placed)), left)
        weights = self._exp * left
        return weights if np.add.reduce(weights) >= SMALLEST_SUM else _far(self._logs, left)

    def scores(self, placed: IntArray) -> FloatArray:
        """Return scores after those placed (j,), shape (K,)."""
        diversity = self._problem.diversity
        if diversity is None:
            return self._problem.scores
        return self._problem.scores - diversity.penalties(self._before(placed))

    def _before(self, placed: IntArray) -> IntArray:
        pinned = self._problem.pinned
        return placed if pinned is None else np.concatenate([pinned, placed])


class SlotLaw:
    """Who is eligible at one slot, the scheme's law over them and that of exploration.

    Parameters
    ----------
    laws
        Of the slate.
    placed
        At the slots before, shape (j,).

    Attributes
    ----------
    left
        Who is eligible, shape (K,).
    eligible
        How many.
    """

    def __init__(self, laws: SlotLaws, placed: IntArray) -> None:
        self._laws, self.left = laws, laws.left(placed)
        self.eligible = int(np.count_nonzero(self.left))
        self._begin(placed)

    def _begin(self, placed: IntArray) -> None:
        self._pi = self._laws.pi(self.left, placed) if self.eligible else np.zeros(len(self.left))

    @property
    def pi(self) -> FloatArray:
        """The scheme's law, not normalised, shape (K,)."""
        return self._pi

    @property
    def q(self) -> FloatArray:
        """The law of exploration, not normalised, shape (K,)."""
        if self._laws.weights is not None:
            weights = self._laws.weights * self.left
            if weights.any():
                return weights
        return self.left.astype(np.float64)

    def mixed(self, explored: float, floor: float) -> FloatArray:
        """Return every candidate's propensity, of these shares (`SlotParts`), (K,); zeros if none is left."""
        if not self.eligible:
            return np.zeros(len(self.left))
        pi, q = self.pi, self.q
        out: FloatArray = (1.0 - explored) * (pi / pi.sum()) + (explored - floor) * (q / q.sum())
        return (out + floor / self.eligible) * self.left

    def pick(self, u: float) -> int:
        """Return what the scheme takes by a number in (0, 1)."""
        return pick(self._pi, u)

    def explore(self, u: float, *, uniform: bool) -> int:
        """Return what exploration takes by a number in (0, 1)."""
        return pick(self.left.astype(np.float64) if uniform else self.q, u)

    def pi_of(self, index: int) -> float:
        """Return a candidate's probability under the scheme's law; 0 if not eligible."""
        if not self.left[index]:
            return 0.0
        return self._pi.item(index) / float(np.add.reduce(self._pi))

    def q_of(self, index: int) -> float:
        """Return a candidate's probability under the law of exploration; 0 if not eligible."""
        if not self.left[index]:
            return 0.0
        if self._laws.weights is None:
            return 1.0 / self.eligible
        q = self.q
        return q.item(index) / float(np.add.reduce(q))


class BestLaw(SlotLaw):
    """The law of a slot whose scheme takes the best: known by one place alone."""

    def _begin(self, placed: IntArray) -> None:
        among = np.where(self.left, self._laws.scores(placed), -np.inf)
        self._best = int(among.argmax()) if self.eligible else -1

    @property
    def pi(self) -> FloatArray:
        """The scheme's law, shape (K,)."""
        out = np.zeros(len(self.left))
        out[self._best] = 1.0
        return out

    def pick(self, u: float) -> int:
        """Return the best; the number plays no part."""
        del u
        return self._best

    def pi_of(self, index: int) -> float:
        """Return 1 for the best, else 0."""
        return float(index == self._best)


def _far(logs: FloatArray, left: BoolArray) -> FloatArray:
    """Return the softmax over those left, relative to the best of them: exact however far apart they are."""
    among = np.where(left, logs, -np.inf)
    out: FloatArray = np.exp(among - among.max())
    return out
