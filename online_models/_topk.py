"""Bounded best-of selection inside compiled loops: a min-heap over two parallel arrays."""

from typing import NamedTuple

import numpy as np

from online_models.arrays import FloatArray, IntArray
from online_models.compiled import compiled_borrowing


class Best(NamedTuple):
    """Room for the best n keys: a heap while it is filled, a list once sorted."""

    values: FloatArray  # (n,)
    keys: IntArray  # (n,)


def room_for(limit: int) -> Best:
    """Make room for `limit` keys."""
    return Best(np.zeros(limit), np.zeros(limit, np.int64))


@compiled_borrowing
def _worse(value: float, key: int, other: float, other_key: int) -> bool:
    # Among equal values the smaller key is better, so that no answer depends on the order of offers.
    return value < other or (value == other and key > other_key)


@compiled_borrowing
def _sift_down(best: Best, size: int) -> None:
    values, keys = best
    value, key, at = values[0], keys[0], 0
    child = 1
    while child < size:
        if child + 1 < size and _worse(values[child + 1], keys[child + 1], values[child], keys[child]):
            child += 1
        if not _worse(values[child], keys[child], value, key):
            break
        values[at], keys[at] = values[child], keys[child]
        at, child = child, 2 * child + 1
    values[at], keys[at] = value, key


@compiled_borrowing
def _sift_up(best: Best, at: int) -> None:
    values, keys = best
    value, key = values[at], keys[at]
    while at > 0:
        parent = (at - 1) >> 1
        if not _worse(value, key, values[parent], keys[parent]):
            break
        values[at], keys[at] = values[parent], keys[parent]
        at = parent
    values[at], keys[at] = value, key


@compiled_borrowing
def offer(best: Best, size: int, value: float, key: int) -> int:
    """Offer a key to a heap of `size` entries; return its new size. Of equal values the smaller key wins."""
    if size < best.values.shape[0]:
        best.values[size], best.keys[size] = value, key
        _sift_up(best, size)
        return size + 1
    if size > 0 and _worse(best.values[0], best.keys[0], value, key):
        best.values[0], best.keys[0] = value, key
        _sift_down(best, size)
    return size


@compiled_borrowing
def sort_descending(best: Best, size: int) -> None:
    """Turn a heap of `size` entries into a list, largest value first, in place."""
    values, keys = best
    for end in range(size - 1, 0, -1):
        values[0], values[end] = values[end], values[0]
        keys[0], keys[end] = keys[end], keys[0]
        _sift_down(best, end)


@compiled_borrowing
def partition(values: FloatArray, keys: IntArray, size: int, best: int) -> None:
    """Bring the `best` largest of `size` values, with their keys, to the front, in no order (Hoare 1961)."""
    low, high = 0, size - 1
    while low < high and low < best:
        middle = (low + high) >> 1
        pivot, pivot_key = values[middle], keys[middle]
        left, right = low, high
        while left <= right:
            while _worse(pivot, pivot_key, values[left], keys[left]):
                left += 1
            while _worse(values[right], keys[right], pivot, pivot_key):
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                keys[left], keys[right] = keys[right], keys[left]
                left, right = left + 1, right - 1
        if best - 1 <= right:
            high = right
        elif best - 1 >= left:
            low = left
        else:
            return
