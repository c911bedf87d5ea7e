"""Whole slates at once where every candidate stays eligible: exponential races instead of one draw a slot.

Adding Gumbel noise to log weights and sorting gives the Plackett-Luce order: each place is a softmax over
what is left. A slot that explores takes a candidate chosen without looking at the noise, so those left are
still in such an order, and the next slot that does not explore takes the first of them. This would be wrong
for rules that make candidates eligible again later, so slates with rules are drawn slot by slot.
"""

import numpy as np

from bandits.arrays import BoolArray, FloatArray, IntArray
from bandits.exploration import Exploration
from bandits.randomness import uniforms


def draw(
    scores: FloatArray, size: int, weights: FloatArray | None, exploration: Exploration, seed: int
) -> tuple[IntArray, BoolArray]:
    """Return a slate's indices and whether each slot explored, two arrays (min(size, K),).

    Parameters
    ----------
    scores, size, weights, exploration, seed
        As in `bandits.slates`, where they are checked.

    References
    ----------
    Yellott (1977), "The relationship between Luce's choice axiom, Thurstone's theory of comparative
    judgment, and the double exponential distribution"; Kool, van Hoof, Welling (2019), "Stochastic beams
    and where to find them: the Gumbel-top-k trick for sampling sequences without replacement".
    """
    size = min(size, len(scores))
    if not size:
        return np.empty(0, np.int64), np.empty(0, np.bool_)
    numbers = uniforms(seed, 2 * size + len(scores))
    shares, floors = exploration.shares(len(scores) - np.arange(float(size)))
    keys = scores if exploration.takes_best else _noisy(exploration.log_weights(scores), numbers[2 * size :])
    # A slot needs the first not placed yet: with fewer than `size` placed, it is among the first `size`.
    order = np.argsort(-keys, kind="stable")[:size]
    explored = numbers[:size] < shares
    if explored.any():
        by_floor = numbers[:size] < floors
        order = _interleave(order, explored, _Picks(numbers[size : 2 * size], by_floor, weights, len(scores)))
    return order, explored


def _noisy(logs: FloatArray, numbers: FloatArray) -> FloatArray:
    """Add standard Gumbel noise."""
    keys: FloatArray = logs - np.log(-np.log(numbers))
    return keys


class _Picks:
    """What slots that explore take: uniform or by weights, among those not placed."""

    def __init__(self, numbers: FloatArray, by_floor: BoolArray, weights: FloatArray | None, k: int) -> None:
        self._numbers, self._by_floor, self._weights, self._k = numbers, by_floor, weights, k

    def take(self, slot: int, placed: list[int]) -> int:
        left = np.delete(np.arange(self._k), placed)
        u = float(self._numbers[slot])
        if self._weights is not None and not self._by_floor[slot]:
            weights = self._weights[left]
            if weights.any():
                return int(left[pick(weights, u)])
        return int(left[int(u * len(left))])


def _interleave(order: IntArray, explored: BoolArray, picks: _Picks) -> IntArray:
    placed: list[int] = []
    ranked = iter(order.tolist())
    for slot, explores in enumerate(explored.tolist()):
        if explores:
            placed.append(picks.take(slot, placed))
        else:
            placed.append(next(index for index in ranked if index not in placed))
    return np.array(placed, np.int64)


def pick(weights: FloatArray, u: float) -> int:
    """Return a place drawn with probabilities proportional to `weights` (n,) by the number u in (0, 1)."""
    sums = np.cumsum(weights)
    place = int(np.searchsorted(sums, u * sums[-1], side="right"))
    return place if place < len(sums) else int(np.flatnonzero(weights)[-1])


def propensities(
    scores: FloatArray, weights: FloatArray | None, indices: IntArray, exploration: Exploration
) -> FloatArray:
    """Return the propensity of each slot's candidate given the slots before it, shape (k,)."""
    if not len(indices):
        return np.empty(0)
    n = len(scores) - np.arange(float(len(indices)))
    explored, floor = exploration.shares(n)
    if exploration.takes_best:
        pi = _best_left(scores, indices)
    else:
        pi = _softmax_left(exploration.log_weights(scores), indices)
    q = 1.0 / n if weights is None else _weighted_left(weights, indices, n)
    return (1.0 - explored) * pi + (explored - floor) * q + floor / n


def _best_left(scores: FloatArray, indices: IntArray) -> FloatArray:
    ranked = np.argsort(-scores, kind="stable")[: len(indices)].tolist()
    out, placed = np.zeros(len(indices)), set[int]()
    for slot, index in enumerate(indices.tolist()):
        out[slot] = float(index == next(best for best in ranked if best not in placed))
        placed.add(index)
    return out


def _softmax_left(logs: FloatArray, indices: IntArray) -> FloatArray:
    """Softmax of each slot's candidate among those left, in logs: exact however far apart the scores are."""
    own = logs[indices]
    logs[indices] = -np.inf
    top = logs.max()
    rest = top + np.log(np.exp(logs - top).sum()) if top > -np.inf else -np.inf
    # From the last slot back to the first, so that sums only grow and never cancel.
    left = np.logaddexp.accumulate(np.concatenate(([rest], own[::-1])))[:0:-1]
    out: FloatArray = np.exp(own - left)
    return out


def _weighted_left(weights: FloatArray, indices: IntArray, n: FloatArray) -> FloatArray:
    rest = weights.copy()
    rest[indices] = 0.0
    left = np.cumsum(np.concatenate(([rest.sum()], weights[indices][::-1])))[:0:-1]
    return np.where(left > 0, weights[indices] / np.where(left > 0, left, 1.0), 1.0 / n)
