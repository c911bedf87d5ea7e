"""Array aliases shared by the models of this room."""

from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
DType = TypeVar("DType", bound=np.generic)
VectorArray = NDArray[np.float32]
"""Embedding vectors: single precision, as hnswlib stores them."""

_LINE = 64
"""Bytes of a line of memory cache."""


def on_cache_lines(array: NDArray[DType], rows: int) -> NDArray[DType]:
    """Copy a table into room that starts with a line of cache.

    Where each row is a whole number of lines, none shares a line with its neighbour: a loop that looks at
    rows here and there waits for fewer of them than with numpy's own alignment (docs/benchmarks.md).

    Parameters
    ----------
    array
        Shape (n, ...).
    rows
        Rows wanted, >= n.

    Returns
    -------
    Shape (rows, ...), zero from row n on.
    """
    size = rows * int(np.prod(array.shape[1:])) * array.itemsize
    memory = np.zeros(size + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    room = memory[start : start + size].view(array.dtype).reshape(rows, *array.shape[1:])
    room[: len(array)] = array
    return room


def as_clicks(sessions: ArrayLike, items: ArrayLike, at_ms: ArrayLike) -> tuple[IntArray, IntArray, IntArray]:
    """Return clicks as three arrays (n,): session keys, item rows and event times.

    Raises
    ------
    ValueError
        If an item is negative or the shapes differ.
    """
    keys, rows, times = (np.ascontiguousarray(a, dtype=np.int64) for a in (sessions, items, at_ms))
    if not keys.shape == rows.shape == times.shape or keys.ndim != 1:
        shapes = f"{keys.shape}, {rows.shape}, {times.shape}"
        msg = f"sessions, items, at_ms have shapes {shapes}, wanted one (n,)"
        raise ValueError(msg)
    if rows.min(initial=0) < 0:
        msg = f"item is {rows.min()}, wanted a row >= 0"
        raise ValueError(msg)
    return keys, rows, times
