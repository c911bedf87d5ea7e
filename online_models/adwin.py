"""Adaptive windowing (Bifet, Gavalda 2007), with a state that can be stored and taken up again."""

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

CLOCK = 32
"""A cut is looked for once in so many values."""
_GRACE = 10
_SHORTEST = 5
_PER_ROW = 5
"""Buckets of one size before two of them become one of twice the size."""

Bucket = tuple[float, float]
"""Sum of the values in a bucket, and their summed squared distance from their mean."""


class Adwin:
    """Window over a stream of numbers that drops its old part as soon as its mean has changed.

    The window is kept in buckets whose sizes are powers of two, O(log n) of them, so that every cut between
    two buckets can be judged by Bernstein's bound on the difference of the means on both sides.

    Parameters
    ----------
    delta
        Chance of a false alarm, in (0, 1).

    Examples
    --------
    >>> window = Adwin()
    >>> any(window.update(value) for value in [0.0, 1.0] * 400)
    False
    >>> any(window.update(value) for value in [4.0, 5.0] * 400)
    True
    >>> 4.0 < window.mean < 5.0
    True
    """

    def __init__(self, delta: float = 0.002) -> None:
        if not 0 < delta < 1:
            msg = f"delta is {delta}, wanted a number in (0, 1)"
            raise ValueError(msg)
        self.delta = delta
        self._rows: list[list[Bucket]] = [[]]  # row r holds buckets of 2**r values, oldest first
        self._width = self._ticks = 0
        self._total = self._spread = 0.0

    @property
    def width(self) -> int:
        """Values in the window."""
        return self._width

    @property
    def mean(self) -> float:
        """Mean of the window; 0 while it is empty."""
        return self._total / self._width if self._width else 0.0

    def update(self, value: float) -> bool:
        """Take in a value; returns whether the window was cut."""
        self._insert(value)
        self._ticks += 1
        if self._ticks % CLOCK or self._width <= _GRACE:
            return False
        is_cut = False
        while self._has_changed():
            self._drop_oldest()
            is_cut = True
        return is_cut

    def _insert(self, value: float) -> None:
        if self._width:
            self._spread += self._width * (value - self.mean) ** 2 / (self._width + 1)
        self._width += 1
        self._total += value
        self._rows[0].append((value, 0.0))
        for size, row in enumerate(self._rows):
            if len(row) <= _PER_ROW:
                break
            if size + 1 == len(self._rows):
                self._rows.append([])
            self._rows[size + 1].append(_joined(row.pop(0), row.pop(0), 1 << size))

    def _drop_oldest(self) -> None:
        row = self._rows[-1]
        count = 1 << (len(self._rows) - 1)
        total, spread = row.pop(0)
        self._width -= count
        self._total -= total
        if self._width:
            apart = total / count - self.mean
            self._spread -= spread + count * self._width * apart**2 / (count + self._width)
        while len(self._rows) > 1 and not self._rows[-1]:
            self._rows.pop()

    def _has_changed(self) -> bool:
        variance = max(0.0, self._spread) / self._width
        confidence = math.log(2.0 * math.log(self._width) / self.delta)
        old, old_total = 0, 0.0
        for size in range(len(self._rows) - 1, -1, -1):
            for total, _ in self._rows[size]:
                old, old_total = old + (1 << size), old_total + total
                new = self._width - old
                if new < _SHORTEST:
                    return False
                if old < _SHORTEST:
                    continue
                apart = abs(old_total / old - (self._total - old_total) / new)
                weight = 1.0 / (old - _SHORTEST + 1) + 1.0 / (new - _SHORTEST + 1)
                if apart > math.sqrt(2.0 * weight * variance * confidence) + 2.0 / 3.0 * confidence * weight:
                    return True
        return False

    def snapshot(self) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """State as the buckets (n, 2), oldest first, and JSON-ready values."""
        buckets = [bucket for row in reversed(self._rows) for bucket in row]
        meta = {
            "delta": self.delta,
            "lengths": [len(row) for row in self._rows],
            "ticks": self._ticks,
            "total": self._total,
            "spread": self._spread,
        }
        return np.array(buckets, np.float64).reshape(-1, 2), meta

    @classmethod
    def restore(cls, buckets: NDArray[np.float64], meta: Mapping[str, Any]) -> Self:
        """Rebuild the window of a snapshot, to the last bit."""
        window = cls(meta["delta"])
        held = [(float(total), float(spread)) for total, spread in buckets]
        window._rows = []
        for length in meta["lengths"]:
            window._rows.append(held[len(held) - length :])
            del held[len(held) - length :]
        window._width = sum(len(row) << size for size, row in enumerate(window._rows))
        window._ticks, window._total = int(meta["ticks"]), float(meta["total"])
        window._spread = float(meta["spread"])
        return window


def _joined(one: Bucket, other: Bucket, count: int) -> Bucket:
    apart = (one[0] - other[0]) / count
    return one[0] + other[0], one[1] + other[1] + count * apart**2 / 2.0
