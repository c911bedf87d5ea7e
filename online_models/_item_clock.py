"""Popularity and age of items, counted in sessions begun: the same on a busy and on a quiet day."""

from typing import NamedTuple

import numpy as np

from online_models.arrays import FloatArray, IntArray
from online_models.compiled import compiled_borrowing


class ItemClock(NamedTuple):
    """Decayed clicks of items, each as of the item's latest click; N = item rows."""

    slow: FloatArray  # (N,)
    fast: FloatArray  # (N,)
    latest: IntArray  # (N,) sessions begun at the item's latest click
    first: IntArray  # (N,) and at its first
    decays: FloatArray  # (2,) of `slow` and `fast`: sessions over which they fall by e


def empty_clock(items: int, slow: float, fast: float) -> ItemClock:
    """Make a clock for `items` rows that has seen nothing."""
    return ItemClock(
        slow=np.zeros(items),
        fast=np.zeros(items),
        latest=np.zeros(items, np.int64),
        first=np.zeros(items, np.int64),
        decays=np.array([slow, fast]),
    )


@compiled_borrowing
def tick(c: ItemClock, item: int, begun: float) -> None:
    """Count a click when `begun` sessions had begun."""
    if c.slow[item] == 0.0:
        c.first[item] = begun
    gap = begun - c.latest[item]
    c.slow[item] = c.slow[item] * np.exp(-gap / c.decays[0]) + 1.0
    c.fast[item] = c.fast[item] * np.exp(-gap / c.decays[1]) + 1.0
    c.latest[item] = begun


@compiled_borrowing
def describe_item(c: ItemClock, row: int, begun: float, out: FloatArray) -> None:
    """Write log popularity, log recent popularity, log of their ratio and log age into `out`, shape (4,)."""
    if row >= c.slow.shape[0] or c.slow[row] == 0.0:
        out[:] = 0.0
        return
    gap = begun - c.latest[row]
    slow = c.slow[row] * np.exp(-gap / c.decays[0])
    fast = c.fast[row] * np.exp(-gap / c.decays[1])
    out[0] = np.log1p(slow) / 5.0
    out[1] = np.log1p(fast) / 5.0
    out[2] = np.log((fast + 0.5) / (slow * c.decays[1] / c.decays[0] + 0.5)) / 3.0
    out[3] = np.log1p(begun - c.first[row]) / 12.0
