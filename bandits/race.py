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

from math import exp

import numpy as np

from bandits.arrays import BoolArray, FloatArray, IntArray
from bandits.exploration import Exploration
from bandits.exploring import Explorer, at_share, rest_of, shares_given, shares_of
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
        "softmax" or "optimistic"; "squarecb", whose law is no softmax, for a single slot alone.
    """

    def __init__(self, scores: FloatArray, weights: FloatArray | None, exploration: Exploration) -> None:
        self._k, self._exploration = len(scores), exploration
        self._explorer = Explorer(weights, self._k)
        self._values = self._softmaxed = scores
        self._running: FloatArray | None = None
        if self._k and exploration.is_softmax:
            self._values = exploration.log_weights(scores)
            self._softmaxed = np.exp(self._values)
        elif self._k:
            self._softmaxed = exploration.law(scores)

    def draw(self, size: int, seed: int) -> tuple[IntArray, FloatArray, BoolArray]:
        """Return indices, propensities and whether each slot explored, three arrays (min(size, K),)."""
        size = min(size, self._k)
        if size <= 1:
            none = np.empty(0, np.int64), np.empty(0), np.empty(0, np.bool_)
            return self._draw_one(seed) if size else none
        shares, numbers = shares_of(self._exploration, self._k, size), uniforms(seed, 2 * size + self._k)
        own = numbers[: 2 * size].tolist()
        explored = [coin < share for coin, share in zip(own, shares.explored, strict=False)]
        order = self._ranked(numbers[2 * size :], size)
        if True not in explored:
            return order, self.propensities(order), np.zeros(size, np.bool_)
        order = self._explorer.interleaved(order, explored, shares, own)
        return order, self.propensities(order), np.array(explored)

    def _draw_one(self, seed: int) -> tuple[IntArray, FloatArray, BoolArray]:
        """Draw a single slot by its distribution function: two numbers instead of one for each candidate."""
        shares, sums = shares_of(self._exploration, self._k, 1), self.sums()
        coin, u = uniform(seed, 0), uniform(seed, 1)
        explores = coin < shares.explored[0]
        place = self._explorer.pick([], u, uniform=coin < shares.floor[0]) if explores else at_share(sums, u)
        propensity = self._explorer.mixed_one(self._softmaxed.item(place) / sums.item(-1), place, shares)
        return np.array([place]), np.array([propensity]), np.array([explores])

    def propensities(self, indices: IntArray) -> FloatArray:
        """Return the propensity of each slot's candidate given the slots before it, shape (k,)."""
        if not len(indices):
            return np.empty(0)
        shares = shares_of(self._exploration, self._k, len(indices))
        if len(indices) == 1:
            # The best has the largest weight, so the sum over everybody never drowns.
            place = int(indices[0])
            pi = self._softmaxed.item(place) / self.sums().item(-1)
            return np.array([self._explorer.mixed_one(pi, place, shares)])
        return self._explorer.mixed(self._softmax(indices), indices, shares)

    def sums(self) -> FloatArray:
        """Return running sums of the softmax's weights, made once, shape (K,)."""
        if self._running is None:
            self._running = self._softmaxed.cumsum()
        return self._running

    def arrivals(self, numbers: FloatArray) -> FloatArray:
        """Return logs of arrival times, negative: the first to arrive is the largest, shape (..., K)."""
        return self._values - np.log(-np.log(numbers))

    def _ranked(self, numbers: FloatArray, size: int) -> IntArray:
        if self._values[self._values.argmin()] > _SMALLEST_LOG:
            # Arrival times themselves are quicker, where weights can be divided by.
            arrivals = np.log(numbers)
            arrivals /= self._softmaxed
            return _largest(arrivals, size)
        return (-self.arrivals(numbers)).argsort(kind="stable")[:size]

    def _softmax(self, indices: IntArray) -> list[float]:
        """Softmax of each slot's candidate among those left."""
        weights = self._softmaxed
        total = rest_of(weights, indices)
        if total < SMALLEST_SUM:
            return self._far_softmax(indices)
        return shares_given(weights.take(indices).tolist(), total, ())

    def _far_softmax(self, indices: IntArray) -> list[float]:
        """As `_softmax`, in logs: exact however far apart the scores are."""
        logs = self._values.copy()
        own: list[float] = logs[indices].tolist()
        logs[indices] = -np.inf
        top = float(logs.max())
        total = float(np.exp(logs - top).sum()) if top > -np.inf else 0.0
        for slot in range(len(own) - 1, -1, -1):
            higher = max(top, own[slot])
            share = exp(own[slot] - higher)
            total, top = total * exp(top - higher) + share, higher
            own[slot] = share / total
        return own


def _largest(keys: FloatArray, size: int) -> IntArray:
    """Return the places of the largest keys in order, which differ, shape (size,)."""
    if len(keys) <= _SORTED_WHOLE:
        return keys.argsort()[: -size - 1 : -1]
    places = keys.argpartition(len(keys) - size)[len(keys) - size :]
    return places[keys[places].argsort()[::-1]]
