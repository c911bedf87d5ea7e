"""Whether a row may be shown to a visitor, asked inside compiled loops (compiled)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models._topk import Best, room_for, sort_descending
from online_models.arrays import IntArray
from online_models.candidates import ELSEWHERE, EXCLUDED, SEEN, UNAVAILABLE, is_among, is_inside
from online_models.compiled import compiled, compiled_borrowing

MARK = 0
"""Column of the number of the query that met a row, times 4, plus bits."""
BARRED = 1
"""Bit of a mark: the row is excluded."""


class Door(NamedTuple):
    """What lets rows of one query through; N = item rows."""

    available: NDArray[np.bool_]  # of the catalogue, as are the next two; empty where there is none
    hashes: NDArray[np.uint64]
    codes: NDArray[np.int32]
    seen: NDArray[np.uint64]
    categories: IntArray
    met: IntArray  # (N, 2) `fresh` | `BARRED` in column `MARK` where a row is excluded
    fresh: int
    everything: bool  # whether every row may be shown


@compiled
def open_to_all() -> Door:
    """Let every row through."""
    none, hashes, rows = np.zeros(0, np.bool_), np.zeros(0, np.uint64), np.zeros(0, np.int64)
    return Door(none, hashes, np.zeros((0, 1), np.int32), hashes, rows, np.zeros((0, 2), np.int64), 0, True)


@compiled_borrowing
def reason_against(d: Door, row: int) -> int:
    """Say why a row may not be shown, 0 where it may."""
    reason = 0
    if d.available.shape[0] > 0:
        if row >= d.available.shape[0] or not d.available[row]:
            return UNAVAILABLE
        if d.seen.shape[0] > 0 and is_among(d.seen, d.hashes[row]):
            return SEEN
        reason = 0 if is_inside(d.codes, row, d.categories) else ELSEWHERE
    is_barred = row < d.met.shape[0] and d.met[row, MARK] >= d.fresh and d.met[row, MARK] & BARRED
    return EXCLUDED if is_barred else reason


class Selection(NamedTuple):
    """The best rows a source found, and those that were as good and may not be shown."""

    best: Best
    barred: Best
    sizes: IntArray  # (2,)


def selection_of(limit: int) -> Selection:
    """Make room for the best `limit` rows."""
    return Selection(room_for(limit), room_for(limit), np.zeros(2, np.int64))


@compiled
def select_all(best: Best) -> Selection:
    """Select into `best`, where every row may be shown."""
    return Selection(best, Best(best.values[:0], best.keys[:0]), np.zeros(2, np.int64))


@compiled_borrowing
def settle(s: Selection, size: int, lost: int, floor: float) -> None:
    """Sort a selection, and keep of what may not be shown only what is worth as much."""
    s.sizes[0], s.sizes[1] = size, lost
    sort_descending(s.best, size)
    sort_descending(s.barred, lost)
    while s.sizes[1] > 0 and s.barred.values[s.sizes[1] - 1] < floor:
        s.sizes[1] -= 1
