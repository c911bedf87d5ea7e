"""Whole slates of schemes that take the best, where every candidate stays eligible until placed."""

import numpy as np

from bandits.arrays import BoolArray, FloatArray, IntArray
from bandits.exploration import Exploration
from bandits.exploring import Explorer, shares_of
from bandits.randomness import uniform, uniforms


class Leaders:
    """The candidates of one slate, of which each slot takes the best one left unless it explores.

    Parameters
    ----------
    scores
        Finite, shape (K,).
    weights
        Of the law of exploration, shape (K,); None for uniform.
    exploration
        "greedy" or "epsilon".
    """

    def __init__(self, scores: FloatArray, weights: FloatArray | None, exploration: Exploration) -> None:
        self._k, self._scores, self._exploration = len(scores), scores, exploration
        self._explorer = Explorer(weights, self._k)
        self._ranked = np.empty(0, np.int64)

    def draw(self, size: int, seed: int) -> tuple[IntArray, FloatArray, BoolArray]:
        """Return indices, propensities and whether each slot explored, three arrays (min(size, K),)."""
        size = min(size, self._k)
        if size <= 1:
            none = np.empty(0, np.int64), np.empty(0), np.empty(0, np.bool_)
            return self._draw_one(seed) if size else none
        shares, numbers = shares_of(self._exploration, self._k, size), uniforms(seed, 2 * size).tolist()
        explored = [coin < share for coin, share in zip(numbers, shares.explored, strict=False)]
        if True not in explored:
            order, pi = self.ranked(size), [1.0] * size
            return order, self._explorer.mixed(pi, order, shares), np.zeros(size, np.bool_)
        order = self._explorer.interleaved(self.ranked(size), explored, shares, numbers)
        return order, self.propensities(order), np.array(explored)

    def _draw_one(self, seed: int) -> tuple[IntArray, FloatArray, BoolArray]:
        shares, best = shares_of(self._exploration, self._k, 1), int(self._scores.argmax())
        coin, place = uniform(seed, 0), best
        explores = coin < shares.explored[0]
        if explores:
            place = self._explorer.pick([], uniform(seed, 1), uniform=coin < shares.floor[0])
        propensity = self._explorer.mixed_one(float(place == best), place, shares)
        return np.array([place]), np.array([propensity]), np.array([explores])

    def propensities(self, indices: IntArray) -> FloatArray:
        """Return the propensity of each slot's candidate given the slots before it, shape (k,)."""
        if len(indices) == 1:
            shares, place = shares_of(self._exploration, self._k, 1), int(indices[0])
            is_best = float(place == self._scores.argmax())
            return np.array([self._explorer.mixed_one(is_best, place, shares)])
        ranked, best = self.ranked(len(indices)).tolist(), 0
        placed, pi = list[int](), list[float]()
        for index in indices.tolist():
            while ranked[best] in placed:
                best += 1
            pi.append(1.0 if index == ranked[best] else 0.0)
            placed.append(index)
        return self._explorer.mixed(pi, indices, shares_of(self._exploration, self._k, len(indices)))

    def ranked(self, size: int) -> IntArray:
        """Return the best candidates in order, the first of equals first, shape (size,); size <= K."""
        if len(self._ranked) < size:
            self._ranked = _best(self._scores, size)
        return self._ranked[:size]


def _best(scores: FloatArray, size: int) -> IntArray:
    keys = -scores
    # Few are sorted: what a sort of all compares is never foreseen by a processor, and costs twice this.
    cut = keys.copy()
    cut.partition(size - 1)
    places = (keys <= cut[size - 1]).nonzero()[0]
    best: IntArray = places[keys[places].argsort(kind="stable")[:size]]
    return best
