"""Array aliases shared by the models of this room."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
VectorArray = NDArray[np.float32]
"""Embedding vectors: single precision, as hnswlib stores them."""


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
