"""What exploration takes and gives at each slot of a slate whose candidates stay eligible until placed."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from bandits.arrays import FloatArray, IntArray
from bandits.exploration import Exploration


class Shares(NamedTuple):
    """What the exploration gives away, one number for each slot.

    How many are ``left``, the shares ``explored``, of it for the ``floor``, the rest of it, ``aimed``, and
    ``exploited``; what ``each`` candidate gets of a uniform exploration, and ``each_by_floor``.
    """

    left: tuple[float, ...]
    explored: tuple[float, ...]
    floor: tuple[float, ...]
    aimed: tuple[float, ...]
    exploited: tuple[float, ...]
    each: tuple[float, ...]
    each_by_floor: tuple[float, ...]


@lru_cache(maxsize=512)
def shares_of(exploration: Exploration, k: int, size: int) -> Shares:
    """Return the shares of the first `size` slots, of k candidates."""
    left = np.arange(float(k), float(k - size), -1.0)
    explored, floor = exploration.shares(left)
    parts = (left, explored, floor, explored - floor, 1.0 - explored, explored / left, floor / left)
    return Shares(*(tuple(part.tolist()) for part in parts))


class Explorer:
    """The law of exploration over K candidates.

    Ten slots are worked through in plain numbers: arrays cost more than they save on so few.

    Parameters
    ----------
    weights
        Proportional, >= 0, shape (K,); None for uniform.
    k
        K.
    """

    def __init__(self, weights: FloatArray | None, k: int) -> None:
        self._weights, self._k = weights, k

    def pick(self, placed: Sequence[int], u: float, *, uniform: bool) -> int:
        """Return what a slot that explores takes: uniform or by weights, among those not placed."""
        if self._weights is not None and not uniform:
            weights = self._weights.copy()
            weights[placed] = 0.0
            sums = weights.cumsum()
            if sums[-1] > 0.0:
                return at_share(sums, u)
        left = np.ones(self._k, np.bool_)
        left[placed] = False
        return int(np.flatnonzero(left)[int(u * (self._k - len(placed)))])

    def interleaved(
        self, ranked: IntArray, explored: list[bool], shares: Shares, numbers: list[float]
    ) -> IntArray:
        """Return what k slots take: the first ranked (k,) of those left, or where they explore, by numbers.

        Parameters
        ----------
        ranked
            With fewer than k placed, whoever is first of those left is among the first k.
        explored
            Whether each of the k slots does.
        shares
            Of the k slots.
        numbers
            The k slots' coins, and behind them k more to pick by, in (0, 1).
        """
        placed, first, size = list[int](), iter(ranked.tolist()), len(explored)
        for slot, explores in enumerate(explored):
            if explores:
                uniform = numbers[slot] < shares.floor[slot]
                index = self.pick(placed, numbers[size + slot], uniform=uniform)
            else:
                index = next(first)
                while index in placed:
                    index = next(first)
            placed.append(index)
        return np.array(placed, np.int64)

    def mixed(self, pi: list[float], indices: IntArray, shares: Shares) -> FloatArray:
        """Return the propensities of slots whose scheme gives its candidate `pi`, shape (k,)."""
        if self._weights is None:
            plain = zip(pi, shares.exploited, shares.each, strict=True)
            return np.array([exploited * own + each for own, exploited, each in plain])
        q = self._given(self._weights, indices, shares.left)
        rows = zip(pi, q, shares.exploited, shares.aimed, shares.each_by_floor, strict=True)
        return np.array([exploited * own + aimed * part + each for own, part, exploited, aimed, each in rows])

    def mixed_one(self, pi: float, place: int, shares: Shares) -> float:
        """Return the propensity of a single slot whose scheme gives its candidate `pi`."""
        if self._weights is None:
            return shares.exploited[0] * pi + shares.each[0]
        total = float(np.add.reduce(self._weights))
        q = self._weights.item(place) / total if total > 0.0 else 1.0 / self._k
        return shares.exploited[0] * pi + shares.aimed[0] * q + shares.each_by_floor[0]

    def _given(self, weights: FloatArray, indices: IntArray, left: tuple[float, ...]) -> list[float]:
        """Return q of each slot's candidate, uniform where all that is left weighs nothing."""
        return shares_given(weights[indices].tolist(), rest_of(weights, indices), left)


def rest_of(weights: FloatArray, indices: IntArray) -> float:
    """Return what weights (K,) without some of them add up to."""
    rest = weights.copy()
    rest[indices] = 0.0
    return float(np.add.reduce(rest))


def shares_given(own: list[float], total: float, left: Sequence[float]) -> list[float]:
    """Return each slot's share of what its candidate and those after it weigh, with `total` behind them all.

    Uniform over the `left` candidates where they weigh nothing.
    """
    # From the last slot back to the first, so that sums only grow and never cancel.
    for slot in range(len(own) - 1, -1, -1):
        total += own[slot]
        own[slot] = own[slot] / total if total > 0.0 else 1.0 / left[slot]
    return own


def at_share(sums: FloatArray, u: float) -> int:
    """Return where running sums (n,) pass a share u of the whole: never a place that adds nothing."""
    place = int(sums.searchsorted(u * sums[-1], side="right"))
    return place if place < len(sums) else int(sums.searchsorted(sums[-1]))


def pick(weights: FloatArray, u: float) -> int:
    """Return a place drawn with probabilities proportional to `weights` (n,) by the number u in (0, 1)."""
    return at_share(weights.cumsum(), u)
