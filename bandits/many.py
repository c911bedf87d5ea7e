"""Many slates of one problem at once: what `draw_slate` draws with each of many seeds, in whole arrays."""

from collections.abc import Sequence

import numpy as np

from bandits.arrays import BoolArray, FloatArray, IntArray
from bandits.exploration import Exploration
from bandits.race import Race
from bandits.randomness import uniforms_of
from bandits.slates import SlateProblem, draw_slate, is_race

_AT_ONCE = 50_000


def draw_many(problem: SlateProblem, exploration: Exploration, seeds: Sequence[int]) -> IntArray:
    """Return the indices that `draw_slate` draws with each of the seeds, shape (len(seeds), k).

    In whole arrays where `bandits.race` draws the slates: a million slates of three in seconds. One after the
    other elsewhere; all of them must then be of the same length.
    """
    if not is_race(problem, exploration, problem.size):
        return np.array([draw_slate(problem, exploration, seed).indices for seed in seeds])
    race = ManyRaces(problem, exploration)
    size = min(problem.size, len(problem.scores))
    parts = [race.draw_all(size, seeds[at : at + _AT_ONCE]) for at in range(0, len(seeds), _AT_ONCE)]
    return np.concatenate(parts) if parts else np.empty((0, size), np.int64)


class ManyRaces:
    """The candidates of many slates with the same scores.

    Parameters
    ----------
    problem
        With every candidate eligible until placed (`is_race`).
    exploration
        The law of each slot.
    """

    def __init__(self, problem: SlateProblem, exploration: Exploration) -> None:
        self._k, self._scores, self._weights = len(problem.scores), problem.scores, problem.explore_weights
        self._exploration = exploration
        self._race = None if exploration.takes_best else Race(self._scores, self._weights, exploration)

    def draw_all(self, size: int, seeds: Sequence[int]) -> IntArray:
        """Return indices by seed and slot, shape (len(seeds), size); size <= K."""
        if size <= 1:
            numbers = uniforms_of(seeds, 2)
            coins, picks = numbers[:, :1], numbers[:, 1:]
            first = self._first(picks[:, 0]) if size else np.empty(0, np.int64)
            keys = (np.arange(self._k) == first[:, None]).astype(np.float64)
        else:
            numbers = uniforms_of(seeds, 2 * size + self._k)
            coins, picks = numbers[:, :size], numbers[:, size : 2 * size]
            keys = self._arrivals(numbers[:, 2 * size :])
        return self._placed(keys, coins[:, :size], picks[:, :size])

    def _first(self, numbers: FloatArray) -> IntArray:
        if self._race is None:
            return np.full(len(numbers), self._scores.argmax())
        sums = self._race.sums()
        places: IntArray = sums.searchsorted(numbers * sums[-1], side="right")
        return np.minimum(places, self._k - 1)

    def _arrivals(self, numbers: FloatArray) -> FloatArray:
        """Return keys whose order is that of the race, the largest first, shape (n, K)."""
        if self._race is None:
            return np.broadcast_to(self._scores, numbers.shape)
        return self._race.arrivals(numbers)

    def _placed(self, keys: FloatArray, coins: FloatArray, picks: FloatArray) -> IntArray:
        shares = self._exploration.shares(np.arange(float(self._k), float(self._k - coins.shape[1]), -1.0))
        left, out = np.ones(keys.shape, np.bool_), np.empty(coins.shape, np.int64)
        for slot, (explored, floor) in enumerate(zip(*shares, strict=True)):
            out[:, slot] = np.where(left, keys, -np.inf).argmax(axis=1)
            rows = np.flatnonzero(coins[:, slot] < explored)
            by_floor = coins[rows, slot] < floor
            out[rows, slot] = _picked(left[rows], self._laws(left[rows], by_floor), picks[rows, slot])
            left[np.arange(len(left)), out[:, slot]] = False
        return out

    def _laws(self, left: BoolArray, by_floor: BoolArray) -> FloatArray | None:
        """Return the weights that each slot explores by, (n, K); None for all of them uniform."""
        if self._weights is None:
            return None
        weights = self._weights * left
        uniform = by_floor | ~weights.any(axis=1)
        return np.where(uniform[:, None], 0.0, weights)


def _picked(left: BoolArray, weights: FloatArray | None, numbers: FloatArray) -> IntArray:
    """Return what exploring slots take: by weights, uniformly among those left where they are all 0."""
    ranks = (numbers * left.sum(axis=1)).astype(np.int64)
    uniform: IntArray = (left.cumsum(axis=1) > ranks[:, None]).argmax(axis=1)
    if weights is None:
        return uniform
    sums = weights.cumsum(axis=1)
    chosen = (sums > (numbers * sums[:, -1])[:, None]).argmax(axis=1)
    return np.where(sums[:, -1] > 0, chosen, uniform)
