"""Slates drawn one slot after the other: for rules, and for laws that are no softmax."""

import numpy as np

from bandits.arrays import BoolArray, FloatArray, IntArray
from bandits.exploration import Exploration
from bandits.race import SMALLEST_SUM, pick
from bandits.randomness import uniforms
from bandits.rules import SlotRule


class Turns:
    """The candidates of one slate and who is eligible at each of its slots.

    Parameters
    ----------
    scores
        Finite, shape (K,).
    weights
        Of the law of exploration, shape (K,); None for uniform.
    rule
        Who is eligible; None for everybody not placed.
    exploration
        Any scheme.
    """

    def __init__(
        self, scores: FloatArray, weights: FloatArray | None, rule: SlotRule | None, exploration: Exploration
    ) -> None:
        self._scores, self._weights, self._rule, self._exploration = scores, weights, rule, exploration
        self._explored, self._floor = exploration.shares(np.arange(len(scores) + 1.0))
        if exploration.is_softmax and len(scores):
            self._logs = exploration.log_weights(scores)
            self._exp: FloatArray = np.exp(self._logs)

    def draw(self, size: int, seed: int) -> tuple[IntArray, FloatArray, BoolArray, IntArray]:
        """Return indices, propensities, whether a slot explored and how many were eligible, (k,) each."""
        size = min(size, len(self._scores))
        numbers = uniforms(seed, 2 * size).tolist()
        indices, explored = np.empty(size, np.int64), np.zeros(size, np.bool_)
        left = np.zeros((size, len(self._scores)), np.bool_)
        for slot in range(size):
            left[slot] = self._left(indices[:slot])
            n = int(np.count_nonzero(left[slot]))
            if not n:
                size = slot
                break
            coin = numbers[2 * slot]
            explored[slot] = coin < self._explored[n]
            indices[slot] = pick(self._law(left[slot], coin, n), numbers[2 * slot + 1])
        indices, left = indices[:size], left[:size]
        return indices, self._given(indices, left), explored[:size], np.count_nonzero(left, axis=1)

    def _law(self, left: BoolArray, coin: float, n: int) -> FloatArray:
        """Return the law that a slot's coin chose: the floor's, that of exploration, or the scheme's own."""
        if coin < self._floor[n]:
            return left.astype(np.float64)
        return self._q(left) if coin < self._explored[n] else self._pi(left)

    def propensities(self, indices: IntArray) -> FloatArray:
        """Return each slot's propensity given the slots before it, (k,); 0 if not eligible."""
        left = np.zeros((len(indices), len(self._scores)), np.bool_)
        for slot in range(len(indices)):
            left[slot] = self._left(indices[:slot])
        return self._given(indices, left)

    def distribution(self, prefix: IntArray) -> FloatArray:
        """Return every candidate's propensity at the slot after `prefix`, (K,); zeros if none is left."""
        left = self._left(prefix)
        n = int(np.count_nonzero(left))
        if not n:
            return np.zeros(len(left))
        pi, q = self._pi(left), self._q(left)
        explored, floor = self._explored[n], self._floor[n]
        law: FloatArray = (1.0 - explored) * (pi / pi.sum()) + (explored - floor) * (q / q.sum()) + floor / n
        return law * left

    def _given(self, indices: IntArray, left: BoolArray) -> FloatArray:
        """Return the propensity of each slot's index among those left at it (k, K), shape (k,)."""
        out = np.zeros(len(indices))
        for slot, index in enumerate(indices.tolist()):
            row = left[slot]
            if row[index]:
                n = int(np.count_nonzero(row))
                pi, explored, floor = self._pi(row), self._explored[n], self._floor[n]
                q = 1.0 / n if self._weights is None else _share(self._q(row), index)
                out[slot] = (1.0 - explored) * _share(pi, index) + (explored - floor) * q + floor / n
        return out

    def _left(self, placed: IntArray) -> BoolArray:
        if self._rule is None:
            left = np.ones(len(self._scores), np.bool_)
        else:
            left = np.array(self._rule.eligible(placed), np.bool_)
        left[placed] = False
        return left

    def _q(self, left: BoolArray) -> FloatArray:
        """Law of exploration over those left, not normalised (K,)."""
        if self._weights is not None:
            weights = self._weights * left
            if weights.any():
                return weights
        return left.astype(np.float64)

    def _pi(self, left: BoolArray) -> FloatArray:
        """Law of the scheme over those left, not normalised (K,)."""
        if self._exploration.is_softmax:
            weights = self._exp * left
            if weights.sum() >= SMALLEST_SUM:
                return weights
            logs = np.where(left, self._logs, -np.inf)
            far: FloatArray = np.exp(logs - logs.max())
            return far
        places = np.flatnonzero(left)
        out = np.zeros(len(left))
        out[places] = self._exploration.law(self._scores[places])
        return out


def _share(law: FloatArray, index: int) -> float:
    return float(law[index] / law.sum())
