"""Whole slates at once where every candidate stays eligible: exponential races instead of one draw a slot.

Adding Gumbel noise to log weights and sorting gives the Plackett-Luce order: each place is a softmax over
what is left. A slot that explores takes a candidate chosen without looking at the noise, so those left are
still in such an order, and the next slot that does not explore takes the first of them. This would be wrong
for rules that make candidates eligible again later, so slates with rules are drawn slot by slot.

References
----------
Yellott (1977), "The relationship between Luce's choice axiom, Thurstone's theory of comparative judgment,
and the double exponential distribution"; Kool, van Hoof, Welling (2019), "Stochastic beams and where to
find them: the Gumbel-top-k trick for sampling sequences without replacement".
"""

from functools import lru_cache
from math import exp

import numpy as np

from bandits.arrays import BoolArray, FloatArray, IntArray
from bandits.exploration import Exploration
from bandits.randomness import uniforms

SMALLEST_SUM = 1e-250
"""Below it, weights relative to the best of all have drowned: they are taken relative to the best left."""


class Race:
    """The candidates of one slate, all eligible until placed.

    Parameters
    ----------
    scores
        Finite, shape (K,).
    weights
        Of the law of exploration, shape (K,); None for uniform.
    exploration
        Any scheme but "squarecb", whose law is not a softmax.
    """

    def __init__(self, scores: FloatArray, weights: FloatArray | None, exploration: Exploration) -> None:
        self._k, self._weights, self._exploration = len(scores), weights, exploration
        self._values = scores
        if self._k and not exploration.takes_best:
            self._values = exploration.log_weights(scores)

    def draw(self, size: int, seed: int) -> tuple[IntArray, BoolArray]:
        """Return indices and whether each slot explored, two arrays (min(size, K),)."""
        size = min(size, self._k)
        numbers = uniforms(seed, 2 * size + self._k)
        shares, floors = _shares(self._exploration, self._k, size)
        # A slot needs the first not placed yet: with fewer than `size` placed, it is among the first `size`.
        order = self._ranked(numbers[2 * size :], size)
        coins = numbers[:size]
        explored: BoolArray = coins < shares
        if explored.any():
            order = self._interleave(order, explored, coins < floors, numbers[size : 2 * size])
        return order, explored

    def propensities(self, indices: IntArray) -> FloatArray:
        """Return the propensity of each slot's candidate given the slots before it, shape (k,)."""
        if not len(indices):
            return np.empty(0)
        n = _eligible(self._k, len(indices))
        explored, floor = _shares(self._exploration, self._k, len(indices))
        pi = self._best(indices) if self._exploration.takes_best else self._softmax(indices)
        if self._weights is None:
            return (1.0 - explored) * pi + explored / n
        return (1.0 - explored) * pi + (explored - floor) * _weighted(self._weights, indices, n) + floor / n

    def _ranked(self, numbers: FloatArray, size: int) -> IntArray:
        if self._exploration.takes_best:
            return _smallest(-self._values, size)
        return _smallest(np.log(-np.log(numbers)) - self._values, size)

    def _interleave(
        self, order: IntArray, explored: BoolArray, by_floor: BoolArray, numbers: FloatArray
    ) -> IntArray:
        placed: list[int] = []
        ranked = iter(order.tolist())
        for slot, explores in enumerate(explored.tolist()):
            if explores:
                placed.append(self._pick(placed, float(numbers[slot]), uniform=bool(by_floor[slot])))
            else:
                placed.append(next(index for index in ranked if index not in placed))
        return np.array(placed, np.int64)

    def _pick(self, placed: list[int], u: float, *, uniform: bool) -> int:
        """Return what a slot that explores takes: uniform or by weights, among those not placed."""
        left = np.ones(self._k, np.bool_)
        left[placed] = False
        if self._weights is not None and not uniform:
            weights = self._weights * left
            if weights.any():
                return pick(weights, u)
        return int(np.flatnonzero(left)[int(u * (self._k - len(placed)))])

    def _best(self, indices: IntArray) -> FloatArray:
        ranked = _smallest(-self._values, len(indices)).tolist()
        out, placed = np.zeros(len(indices)), set[int]()
        for slot, index in enumerate(indices.tolist()):
            out[slot] = float(index == next(best for best in ranked if best not in placed))
            placed.add(index)
        return out

    def _softmax(self, indices: IntArray) -> FloatArray:
        """Softmax of each slot's candidate among those left."""
        weights: FloatArray = np.exp(self._values)
        own = weights[indices].tolist()
        weights[indices] = 0.0
        total = float(weights.sum())
        if total < SMALLEST_SUM:
            return self._far_softmax(indices)
        # From the last slot back to the first, so that sums only grow and never cancel.
        for slot in range(len(own) - 1, -1, -1):
            total += own[slot]
            own[slot] /= total
        return np.array(own)

    def _far_softmax(self, indices: IntArray) -> FloatArray:
        """As `_softmax`, in logs: exact however far apart the scores are."""
        logs = self._values.copy()
        own = logs[indices].tolist()
        logs[indices] = -np.inf
        top = float(logs.max())
        total = float(np.exp(logs - top).sum()) if top > -np.inf else 0.0
        for slot in range(len(own) - 1, -1, -1):
            higher = max(top, own[slot])
            share = exp(own[slot] - higher)
            total, top = total * exp(top - higher) + share, higher
            own[slot] = share / total
        return np.array(own)


@lru_cache(maxsize=512)
def _eligible(k: int, size: int) -> FloatArray:
    """Return how many of k candidates are left at each slot, read-only, shape (size,)."""
    left = np.arange(float(k), float(k - size), -1.0)
    left.flags.writeable = False
    return left


@lru_cache(maxsize=512)
def _shares(exploration: Exploration, k: int, size: int) -> tuple[FloatArray, FloatArray]:
    """Return the exploration's shares at each slot, read-only, two arrays (size,)."""
    shares = exploration.shares(_eligible(k, size))
    for part in shares:
        part.flags.writeable = False
    return shares


def _smallest(keys: FloatArray, size: int) -> IntArray:
    """Return the places of the smallest keys in order, the first of equals first, shape (size,)."""
    if not size:
        return np.empty(0, np.int64)
    if size == 1:
        return np.array([keys.argmin()])
    places = np.flatnonzero(keys <= np.partition(keys, size - 1)[size - 1])
    return places[np.argsort(keys[places], kind="stable")[:size]]


def pick(weights: FloatArray, u: float) -> int:
    """Return a place drawn with probabilities proportional to `weights` (n,) by the number u in (0, 1)."""
    sums = np.cumsum(weights)
    place = int(np.searchsorted(sums, u * sums[-1], side="right"))
    return place if place < len(sums) else int(np.flatnonzero(weights)[-1])


def _weighted(weights: FloatArray, indices: IntArray, n: FloatArray) -> FloatArray:
    """Weights of each slot's candidate among those left, uniform where all that is left weighs nothing."""
    rest = weights.copy()
    rest[indices] = 0.0
    left = np.cumsum(np.concatenate(([rest.sum()], weights[indices][::-1])))[:0:-1]
    return np.where(left > 0, weights[indices] / np.where(left > 0, left, 1.0), 1.0 / n)
