"""Exponentially decayed sums that add up exactly across shards.

A sum is kept as (value, landmark): `value` x 2^-(t - landmark), with time and landmark in half-lives and
the landmark a whole number (forward decay, Cormode et al. 2009). Moving a landmark multiplies the value by
a power of two, which floating point does without rounding; so parts kept by different shards, with
different landmarks, add up to what one counter would have held.
"""

import numpy as np

from online_models._topk import Best, offer, room_for, sort_descending
from online_models.arrays import FloatArray, IntArray
from online_models.compiled import compiled


class DecayedTable:
    """Decayed sums of n keys under H half-lives; grows on demand.

    Parameters
    ----------
    half_lives_ms
        Half-lives in milliseconds, shape (H,), each > 0.
    """

    def __init__(self, half_lives_ms: FloatArray) -> None:
        self.half_lives = half_lives_ms
        self.values = np.zeros((64, half_lives_ms.size))
        self.landmarks = np.zeros((64, half_lives_ms.size))
        self._marks = np.zeros(64, np.int64)
        self._queries = 0

    def add(self, key: int, at_ms: int, weight: float) -> None:
        """Add `weight` at time `at_ms` to every sum of a key; late times count as decayed already."""
        if key >= len(self.values):
            self._grow(key + 1)
        _add(self.values, self.landmarks, self.half_lives, key, at_ms, weight)

    def add_many(self, keys: IntArray, at_ms: IntArray) -> None:
        """Add 1 to the sums of each key at its time; as `add` one by one, in order."""
        if (most := int(keys.max(initial=-1))) >= len(self.values):
            self._grow(most + 1)
        _add_many(self.values, self.landmarks, self.half_lives, keys, at_ms)

    def merge(self, key: int, values: FloatArray, landmarks: FloatArray) -> None:
        """Add the sums of another table's key, each of shape (H,)."""
        if key >= len(self.values):
            self._grow(key + 1)
        _merge(self.values[key], self.landmarks[key], values, landmarks)

    def clear(self, key: int) -> None:
        """Forget a key."""
        if key < len(self.values):
            self.values[key] = 0.0
            self.landmarks[key] = 0.0

    def at(self, keys: IntArray, now_ms: int) -> FloatArray:
        """Give the sums at time `now_ms`, shape (len(keys), H); 0 for keys never seen."""
        return _at(self.values, self.landmarks, self.half_lives, keys, now_ms)

    def largest(self, half_life: int, keys: IntArray, limit: int) -> IntArray:
        """Give the `limit` keys with the largest sums > 0 out of `keys` (repeats allowed), largest first."""
        self._queries += 1
        best, values, landmarks = room_for(limit), self.values[:, half_life], self.landmarks[:, half_life]
        size = _largest(values, landmarks, keys, self._marks, self._queries, best)
        return best.keys[:size]

    def put(self, values: FloatArray, landmarks: FloatArray) -> None:
        """Take over the sums of a table of the same half-lives, each of shape (n, H)."""
        self.values, self.landmarks = values, landmarks
        self._marks, self._queries = np.zeros(len(values), np.int64), 0

    def nbytes(self) -> int:
        """Count the bytes of the arrays."""
        return self.values.nbytes + self.landmarks.nbytes + self._marks.nbytes

    def _grow(self, keys: int) -> None:
        more = max(keys, 2 * len(self.values)) - len(self.values)
        self.values = np.pad(self.values, ((0, more), (0, 0)))
        self.landmarks = np.pad(self.landmarks, ((0, more), (0, 0)))
        self._marks = np.pad(self._marks, (0, more))


@compiled
def _raise_landmark(values: FloatArray, landmarks: FloatArray, h: int, wish: float) -> None:
    if values[h] == 0.0:
        # An empty sum has no landmark of its own: it takes the wish, be it before or after zero.
        landmarks[h] = wish
    elif wish > landmarks[h]:
        values[h] *= np.exp2(landmarks[h] - wish)
        landmarks[h] = wish


@compiled
def _add(
    values: FloatArray, landmarks: FloatArray, half_lives: FloatArray, key: int, at_ms: int, weight: float
) -> None:
    for h in range(half_lives.shape[0]):
        _raise_landmark(values[key], landmarks[key], h, np.floor(at_ms / half_lives[h]))
        values[key, h] += weight * np.exp2((at_ms - landmarks[key, h] * half_lives[h]) / half_lives[h])


@compiled
def _add_many(
    values: FloatArray, landmarks: FloatArray, half_lives: FloatArray, keys: IntArray, at_ms: IntArray
) -> None:
    for n in range(keys.shape[0]):
        _add(values, landmarks, half_lives, keys[n], at_ms[n], 1.0)


@compiled
def _merge(values: FloatArray, landmarks: FloatArray, more: FloatArray, at: FloatArray) -> None:
    for h in range(more.shape[0]):
        if more[h] > 0.0:
            _raise_landmark(values, landmarks, h, at[h])
            values[h] += more[h] * np.exp2(at[h] - landmarks[h])


@compiled
def decayed_sum(value: float, landmark: float, half_life: float, now_ms: int) -> float:
    """Give one sum at time `now_ms`."""
    if value > 0.0:
        return float(value * np.exp2(-((now_ms - landmark * half_life) / half_life)))
    return 0.0


@compiled
def _at(
    values: FloatArray, landmarks: FloatArray, half_lives: FloatArray, keys: IntArray, now_ms: int
) -> FloatArray:
    sums = np.zeros((keys.shape[0], half_lives.shape[0]))
    for n in range(keys.shape[0]):
        key = keys[n]
        if 0 <= key < values.shape[0]:
            for h in range(half_lives.shape[0]):
                sums[n, h] = decayed_sum(values[key, h], landmarks[key, h], half_lives[h], now_ms)
    return sums


@compiled
def _largest(
    values: FloatArray, landmarks: FloatArray, keys: IntArray, marks: IntArray, query: int, best: Best
) -> int:
    size = 0
    for key in keys:
        if key < values.shape[0] and marks[key] != query and values[key] > 0.0:
            marks[key] = query
            # The order of sums is the same at every time: compare logarithms at time zero.
            size = offer(best, size, np.log2(values[key]) + landmarks[key], key)
    sort_descending(best, size)
    return size


def warm_up() -> None:
    """Compile (or load from disk) the loops of this module."""
    table = DecayedTable(np.ones(1))
    table.add(0, 1, 1.0)
    table.add_many(np.zeros(1, np.int64), np.ones(1, np.int64))
    table.merge(0, np.ones(1), np.ones(1))
    table.at(np.zeros(1, np.int64), 1)
    table.largest(0, np.zeros(1, np.int64), 1)
