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
from typing import NamedTuple

import numpy as np

from bandits.arrays import BoolArray, FloatArray, IntArray
from bandits.exploration import Exploration
from bandits.randomness import uniform, uniforms

SMALLEST_SUM = 1e-250
"""Below it, weights relative to the best of all have drowned: they are taken relative to the best left."""

_SMALLEST_LOG = -650.0
"""Log weights above it have weights that arrival times can be divided by."""

_SORTED_WHOLE = 400
"""So many keys and fewer are sorted faster than the first of them are found."""


class Race:
    """The candidates of one slate, all eligible until placed.

    Parameters
    ----------
    scores
        Finite, shape (K,).
    weights
        Of the law of exploration, shape (K,); None for uniform.
    exploration
        Any scheme; "squarecb", whose law is no softmax, for a single slot alone.
    """

    def __init__(self, scores: FloatArray, weights: FloatArray | None, exploration: Exploration) -> None:
        self._k, self._weights, self._exploration = len(scores), weights, exploration
        self._values = self._softmaxed = scores
        self._running: FloatArray | None = None
        if self._k and exploration.is_softmax:
            self._values = exploration.log_weights(scores)
            self._softmaxed = np.exp(self._values)
        elif self._k and not exploration.takes_best:
            self._softmaxed = exploration.law(scores)

    def draw(self, size: int, seed: int) -> tuple[IntArray, FloatArray, BoolArray]:
        """Return indices, propensities and whether each slot explored, three arrays (min(size, K),)."""
        size = min(size, self._k)
        if size <= 1:
            return (
                self._draw_one(seed) if size else (np.empty(0, np.int64), np.empty(0), np.empty(0, np.bool_))
            )
        numbers = uniforms(seed, 2 * size + self._k)
        shares = _shares(self._exploration, self._k, size)
        # A slot needs the first not placed yet: with fewer than `size` placed, it is among the first `size`.
        order = self._ranked(numbers[2 * size :], size)
        coins = numbers[:size]
        explored: BoolArray = coins < shares.explored
        if explored.any():
            order = self._interleave(order, explored, coins < shares.floor, numbers[size : 2 * size])
        return order, self.propensities(order), explored

    def _draw_one(self, seed: int) -> tuple[IntArray, FloatArray, BoolArray]:
        """Draw a single slot by its distribution function: two numbers instead of one for each candidate."""
        first = _shares(self._exploration, self._k, 1).first
        coin, u = uniform(seed, 0), uniform(seed, 1)
        explores = coin < first.explored
        if explores:
            place = self._pick([], u, uniform=coin < first.floor)
        elif self._exploration.takes_best:
            place = int(self._values.argmax())
        else:
            place = _at(self._sums(), u)
        return np.array([place]), np.array([self._of_first(place, first)]), np.array([explores])

    def _of_first(self, place: int, first: "_First") -> float:
        """Return the propensity of a candidate at the first slot, in plain numbers."""
        if self._exploration.takes_best:
            pi = float(place == self._values.argmax())
        else:
            # The best has the largest weight, so the sum over everybody never drowns.
            pi = self._softmaxed.item(place) / self._sums().item(-1)
        if self._weights is None:
            return first.exploited * pi + first.each
        total = float(self._weights.sum())
        q = self._weights.item(place) / total if total > 0 else 1.0 / self._k
        return first.exploited * pi + (first.explored - first.floor) * q + first.floor / self._k

    def propensities(self, indices: IntArray) -> FloatArray:
        """Return the propensity of each slot's candidate given the slots before it, shape (k,)."""
        if not len(indices):
            return np.empty(0)
        if len(indices) == 1:
            first = _shares(self._exploration, self._k, 1).first
            return np.array([self._of_first(int(indices[0]), first)])
        shares = _shares(self._exploration, self._k, len(indices))
        pi = self._best(indices) if self._exploration.takes_best else self._softmax(indices)
        pi *= shares.exploited
        if self._weights is None:
            pi += shares.each
            return pi
        n = shares.left
        q = _weighted(self._weights, indices, n)
        return pi + (shares.explored - shares.floor) * q + shares.floor / n

    def _ranked(self, numbers: FloatArray, size: int) -> IntArray:
        if self._exploration.takes_best:
            return _smallest(-self._values, size)
        if self._values[self._values.argmin()] > _SMALLEST_LOG:
            # Exponential arrival times, negative: the first to arrive is the largest.
            arrivals = np.log(numbers)
            arrivals /= self._softmaxed
            return _largest(arrivals, size)
        return _smallest(np.log(-np.log(numbers)) - self._values, size)

    def _sums(self) -> FloatArray:
        """Return running sums of the softmax's weights, made once, shape (K,)."""
        if self._running is None:
            self._running = self._softmaxed.cumsum()
        return self._running

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
        weights = self._softmaxed
        own = weights.take(indices)
        rest = weights.copy()
        rest[indices] = 0.0
        total = float(rest.sum())
        if total < SMALLEST_SUM:
            return self._far_softmax(indices)
        # From the last slot back to the first, so that sums only grow and never cancel.
        shares = own.tolist()
        for slot in range(len(shares) - 1, -1, -1):
            total += shares[slot]
            shares[slot] /= total
        return np.array(shares)

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


class _First(NamedTuple):
    """The shares of a slate's first slot, as plain numbers."""

    explored: float
    floor: float
    exploited: float
    each: float


class _Shares(NamedTuple):
    """What the exploration gives away at each slot, read-only, arrays of shape (size,).

    How many are ``left``, the shares ``explored``, for the ``floor`` and ``exploited``, and what ``each``
    candidate gets of a uniform exploration.
    """

    left: FloatArray
    explored: FloatArray
    floor: FloatArray
    exploited: FloatArray
    each: FloatArray
    first: _First


@lru_cache(maxsize=512)
def _shares(exploration: Exploration, k: int, size: int) -> _Shares:
    left = np.arange(float(k), float(k - size), -1.0)
    explored, floor = exploration.shares(left)
    parts = (explored, floor, 1.0 - explored, explored / left)
    for part in (left, *parts):
        part.flags.writeable = False
    return _Shares(left, *parts, _First(*(part.item(0) for part in parts)))


def _largest(keys: FloatArray, size: int) -> IntArray:
    """Return the places of the largest keys in order, which differ, shape (size,)."""
    if len(keys) <= _SORTED_WHOLE:
        return keys.argsort()[: -size - 1 : -1]
    places = keys.argpartition(len(keys) - size)[len(keys) - size :]
    return places[keys[places].argsort()[::-1]]


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
    return _at(weights.cumsum(), u)


def _at(sums: FloatArray, u: float) -> int:
    """Return where running sums (n,) pass a share u of the whole: never a place that adds nothing."""
    place = int(sums.searchsorted(u * sums[-1], side="right"))
    return place if place < len(sums) else int(sums.searchsorted(sums[-1]))


def _weighted(weights: FloatArray, indices: IntArray, n: FloatArray) -> FloatArray:
    """Weights of each slot's candidate among those left, uniform where all that is left weighs nothing."""
    rest = weights.copy()
    rest[indices] = 0.0
    left = np.cumsum(np.concatenate(([rest.sum()], weights[indices][::-1])))[:0:-1]
    return np.where(left > 0, weights[indices] / np.where(left > 0, left, 1.0), 1.0 / n)
