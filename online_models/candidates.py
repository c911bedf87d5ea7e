"""Candidates of one request: merged from their sources, filtered, and cut to size, in one compiled pass."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import FloatArray, IntArray, VectorArray
from online_models.compiled import compiled

UNAVAILABLE, SEEN, EXCLUDED, ELSEWHERE = 1, 2, 3, 4
"""Why an item was cut, in the order the reasons are looked at; 0 for kept."""


class Catalogue(NamedTuple):
    """Items as arrays by row."""

    available: NDArray[np.bool_]  # (N,) may be shown
    published_at: IntArray  # (N,) ms since 1970
    hashes: NDArray[np.uint64]  # (N,) of ids, as seen items are remembered
    codes: NDArray[np.int32]  # (N, c) category codes, -1 where an item has fewer
    vectors: VectorArray  # (N, d) unit content vectors, zero where there is none


class Wanted(NamedTuple):
    """What may be brought to a visitor."""

    excluded: IntArray  # rows that must not appear
    seen: NDArray[np.uint64]  # hashes that must not appear, in ascending order
    categories: IntArray  # codes to stay within; empty for all
    limit: int  # candidates at most


NO_CATALOGUE = Catalogue(
    np.zeros(0, np.bool_),
    np.zeros(0, np.int64),
    np.zeros(0, np.uint64),
    np.zeros((0, 1), np.int32),
    np.zeros((0, 1), np.float32),
)
"""Where every item that was ever clicked may be shown."""


class Gathered(NamedTuple):
    """Candidates, and what was cut from them."""

    rows: IntArray  # (k,) each once, in the order they were brought
    parts: NDArray[np.uint8]  # (k,) which part brought each first
    cut: IntArray  # (m,) rows, by reason, then in the order they were brought
    reasons: NDArray[np.uint8]  # (m,)


class Marks(NamedTuple):
    """Working memory: what a request knows of a row, void once its number is not the latest."""

    of: IntArray  # (N,) number of the request times 4, plus `_BROUGHT` and `_BARRED`
    number: IntArray  # (1,) of the latest request


_BROUGHT, _BARRED = 1, 2


def empty_marks(rows: int) -> Marks:
    """Make working memory for `rows` items."""
    return Marks(np.zeros(rows, np.int64), np.zeros(1, np.int64))


@compiled
def is_among(values: NDArray[np.uint64], wanted: int) -> bool:
    """Tell whether a value is in an array in ascending order."""
    low, high = 0, values.shape[0]
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return bool(low < values.shape[0] and values[low] == wanted)


@compiled
def is_inside(codes: NDArray[np.int32], row: int, categories: IntArray) -> bool:
    """Tell whether a row has one of the categories; every row has where none is asked for."""
    if categories.shape[0] == 0:
        return True
    for place in range(codes.shape[1]):
        for wanted in categories:
            if codes[row, place] == wanted:
                return True
    return False


@compiled
def gather(c: Catalogue, marks: Marks, brought: IntArray, ends: IntArray, w: Wanted) -> Gathered:
    """Merge parts of rows, drop what may not be shown, and keep the first `limit`.

    Parameters
    ----------
    c
        The catalogue.
    marks
        Working memory for as many rows.
    brought
        Rows of all parts, one part after the other, shape (n,).
    ends
        Where each part ends, shape (parts,).
    w
        What may be brought, and how much.
    """
    marks.number[0] += 1
    fresh = marks.number[0] << 2
    for row in w.excluded:
        marks.of[row] = fresh | _BARRED
    rows, reasons, parts = np.empty_like(brought), np.empty_like(brought), np.empty_like(brought)
    available, hashes, codes, of = c.available, c.hashes, c.codes, marks.of
    seen, categories, merged, part = w.seen, w.categories, 0, 0
    for n in range(brought.shape[0]):
        while n >= ends[part]:
            part += 1
        row = brought[n]
        mark = max(of[row], fresh)
        if mark & _BROUGHT:
            continue
        of[row] = mark | _BROUGHT
        rows[merged], parts[merged] = row, part
        # Not a function of its own: a call per row would count references to every array of a tuple.
        if not available[row]:
            reasons[merged] = UNAVAILABLE
        elif seen.shape[0] > 0 and is_among(seen, hashes[row]):
            reasons[merged] = SEEN
        elif mark & _BARRED:
            reasons[merged] = EXCLUDED
        elif not is_inside(codes, row, categories):
            reasons[merged] = ELSEWHERE
        else:
            reasons[merged] = 0
        merged += 1
    return _split(rows[:merged], parts[:merged], reasons[:merged], w.limit)


@compiled
def _split(rows: IntArray, parts: IntArray, reasons: IntArray, limit: int) -> Gathered:
    most = min(limit, rows.shape[0])
    kept, letters, size = np.empty(most, np.int64), np.empty(most, np.uint8), 0
    cut, why, out = np.empty_like(rows), np.empty(rows.shape[0], np.uint8), 0
    for n in range(rows.shape[0]):
        if reasons[n] == 0 and size < most:
            kept[size], letters[size] = rows[n], parts[n]
            size += 1
    for reason in range(UNAVAILABLE, ELSEWHERE + 1):
        for n in range(rows.shape[0]):
            if reasons[n] == reason:
                cut[out], why[out] = rows[n], reason
                out += 1
    return Gathered(kept[:size], letters[:size], cut[:out], why[:out])


@compiled
def look_up(keys: IntArray, values: FloatArray, wanted: IntArray) -> FloatArray:
    """Give each wanted key's value, 0 where it has none; both in about the same order, keys each once."""
    out, at = np.zeros(wanted.shape[0]), 0
    for n in range(wanted.shape[0]):
        for step in range(keys.shape[0]):
            place = at + step
            if place >= keys.shape[0]:
                place -= keys.shape[0]
            if keys[place] == wanted[n]:
                out[n], at = values[place], place + 1
                break
    return out
