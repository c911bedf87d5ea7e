"""What a server's catalogue and trends say of candidates, for all of a request in one compiled pass."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models._decayed import decayed_sum
from online_models.arrays import FloatArray, IntArray, VectorArray
from online_models.candidates import Catalogue
from online_models.compiled import compiled, compiled_borrowing, compiled_sums
from online_models.trends import Counts

PROFILE = (
    "content", "content_last", "trend_fast", "trend_mid", "trend_slow", "trend_rising", "affinity", "novelty",
    "item_age",
)  # fmt: skip
"""Names of the columns of `describe`."""
_CONTENT, _CONTENT_LAST, _FAST, _MID, _SLOW, _RISING, _AFFINITY, _NOVELTY, _AGE = range(9)
_DAY_MS = 86_400_000
_LONG_TASTE = 50
_RISING_FLOOR = 0.05


class Visit(NamedTuple):
    """What a request says of its visitor."""

    recent: IntArray  # (n,) rows interacted with, oldest first
    weights: FloatArray  # (n,) interest in them, >= 0
    now_ms: int


@compiled_sums
def _dot(left: VectorArray, right: VectorArray) -> np.float32:
    total = np.float32(0.0)
    for n in range(left.shape[0]):
        total += left[n] * right[n]
    return total


@compiled
def taste(vectors: VectorArray, recent: IntArray, weights: FloatArray, last: int) -> VectorArray:
    """Give the unit vector (d,) of the newest `last` rows by weight; zero where nothing is known."""
    total = np.zeros(vectors.shape[1], np.float32)
    for n in range(max(0, recent.shape[0] - last), recent.shape[0]):
        weight, vector = np.float32(weights[n]), vectors[recent[n]]
        for d in range(total.shape[0]):
            total[d] += weight * vector[d]
    length = np.sqrt(_dot(total, total))
    if length > 0:
        for d in range(total.shape[0]):
            total[d] /= length
    return total


@compiled_borrowing
def _popularity(counts: Counts, rows: IntArray, now_ms: int, out: FloatArray) -> None:
    slots, values, landmarks, half_lives = counts
    last = half_lives.shape[0] - 1
    columns, chosen = (_FAST, _MID, _SLOW), (0, (last + 1) // 2, last)
    for which in range(3):
        column, h, best = columns[which], chosen[which], 1e-9
        for n in range(rows.shape[0]):
            row, total = rows[n], 0.0
            slot = slots[row] if row < slots.shape[0] else -1
            if 0 <= slot < values.shape[0]:
                total = decayed_sum(values[slot, h], landmarks[slot, h], half_lives[h], now_ms)
            out[n, column] = total
            best = max(best, total)
        for n in range(rows.shape[0]):
            if which == 2:
                out[n, _NOVELTY] = 1.0 / (1.0 + out[n, column])
            out[n, column] /= best
    for n in range(rows.shape[0]):
        out[n, _RISING] = np.log((out[n, _FAST] + _RISING_FLOOR) / (out[n, _SLOW] + _RISING_FLOOR))


@compiled
def _affinity(
    codes: NDArray[np.int32], recent: IntArray, weights: FloatArray, rows: IntArray, shares: FloatArray
) -> FloatArray:
    """Give each row's largest share of the weights by category; `shares` is room for every code, zeroed."""
    out, total = np.zeros(rows.shape[0]), 0.0
    for n in range(recent.shape[0]):
        total += weights[n]
        for place in range(codes.shape[1]):
            code = codes[recent[n], place]
            if code >= 0:
                shares[code] += weights[n]
    for n in range(rows.shape[0]):
        for place in range(codes.shape[1]):
            code = codes[rows[n], place]
            if code >= 0:
                out[n] = max(out[n], shares[code])
        out[n] /= max(total, 1e-9)
    return out


@compiled_sums
def _cosines(vectors: VectorArray, rows: IntArray, long: VectorArray, newest: VectorArray) -> VectorArray:
    """Give the products (k, 2) of the rows' vectors with two tastes."""
    out = np.empty((rows.shape[0], 2), np.float32)
    for n in range(rows.shape[0]):
        row, first, second = rows[n], np.float32(0.0), np.float32(0.0)
        for d in range(long.shape[0]):
            first += vectors[row, d] * long[d]
            second += vectors[row, d] * newest[d]
        out[n, 0], out[n, 1] = first, second
    return out


@compiled
def describe(c: Catalogue, counts: Counts, v: Visit, rows: IntArray, kinds: int) -> FloatArray:
    """Give the columns `PROFILE` of candidates (k,), shape (k, 9), each within about -3 to 3.

    Parameters
    ----------
    c, counts
        The catalogue, and the overall trends.
    v
        The visitor.
    rows
        Of the candidates (k,).
    kinds
        Number of category codes.
    """
    out = np.zeros((rows.shape[0], len(PROFILE)))
    _popularity(counts, rows, v.now_ms, out)
    if v.recent.shape[0] > 0:
        long = taste(c.vectors, v.recent, v.weights, _LONG_TASTE)
        newest = taste(c.vectors, v.recent, v.weights, 1)
        cosines = _cosines(c.vectors, rows, long, newest)
        out[:, _CONTENT], out[:, _CONTENT_LAST] = cosines[:, 0], cosines[:, 1]
        out[:, _AFFINITY] = _affinity(c.codes, v.recent, v.weights, rows, np.zeros(kinds))
    published, now_ms = c.published_at, v.now_ms
    for n in range(rows.shape[0]):
        out[n, _AGE] = np.log1p(max(0.0, (now_ms - published[rows[n]]) / _DAY_MS))
        for column in (_FAST, _MID, _SLOW, _AFFINITY, _NOVELTY):
            out[n, column] = min(1.0, max(0.0, out[n, column]))
    return out


@compiled
def click_inputs(
    inputs: FloatArray, scores: FloatArray, columns: IntArray, places: IntArray, visit: FloatArray
) -> FloatArray:
    """Give a click model's inputs (k, f): columns of the blend's inputs, -1 for those that are not of them.

    Parameters
    ----------
    inputs, scores
        Of the blend, shapes (k, F) and (k,).
    columns
        (f,) which input each is.
    places
        (4,) of position, session length, newness of the visitor, and the log share of the blend.
    visit
        (2,) session length and newness, as they are written.
    """
    out, best, total = np.zeros((inputs.shape[0], columns.shape[0])), -np.inf, 0.0
    for score in scores:
        best = max(best, score)
    for score in scores:
        total += np.exp(score - best)
    all_of_them = best + np.log(max(total, 1.0))
    for n in range(inputs.shape[0]):
        for place in range(columns.shape[0]):
            if columns[place] >= 0:
                out[n, place] = inputs[n, columns[place]]
        out[n, places[1]], out[n, places[2]] = visit[0], visit[1]
        out[n, places[3]] = scores[n] - all_of_them
    return out


def example() -> tuple[Catalogue, Counts, Visit]:
    """Return the smallest arguments of the loops, to compile them with."""
    catalogue = Catalogue(
        np.ones(1, np.bool_), np.zeros(1, np.int64), np.zeros(1, np.uint64),
        np.zeros((1, 1), np.int32), np.ones((1, 4), np.float32),
    )  # fmt: skip
    counts = Counts(np.zeros(1, np.int64), np.ones((1, 1)), np.zeros((1, 1)), np.ones(1))
    return catalogue, counts, Visit(np.zeros(1, np.int64), np.ones(1), 1)
