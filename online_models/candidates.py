"""What may be shown to whom: the catalogue as arrays, a request's wishes, and the tests of one row."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import IntArray, VectorArray
from online_models.compiled import compiled_borrowing

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


@compiled_borrowing
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


@compiled_borrowing
def is_inside(codes: NDArray[np.int32], row: int, categories: IntArray) -> bool:
    """Tell whether a row has one of the categories; every row has where none is asked for."""
    if categories.shape[0] == 0:
        return True
    for place in range(codes.shape[1]):
        for wanted in categories:
            if codes[row, place] == wanted:
                return True
    return False
