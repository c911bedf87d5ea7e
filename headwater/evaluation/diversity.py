"""How unlike each other the items of a list are: by category, or by co-occurrence where there is none."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from headwater.evaluation.clicks import Clicks
from online_models.arrays import FloatArray, IntArray

SAMPLE = 2_000
"""Lists looked at, spread evenly over the run; 190 pairs each."""


class Unlikeness:
    """Mean dissimilarity of the pairs within a list, 0 (all alike) to 1.

    By category two items are alike (1) or not (0). By co-occurrence their likeness is the cosine of the
    sessions they occur in.

    Parameters
    ----------
    clicks
        Whose sessions are counted.
    categories
        (N,) -1 where unknown; empty to go by co-occurrence.
    """

    def __init__(self, clicks: Clicks, categories: IntArray) -> None:
        self.by = "category" if len(categories) else "co-occurrence"
        self._categories = categories
        if not len(categories):
            self._sessions = _normal_columns(clicks)

    def mean(self, shown: NDArray[np.int32]) -> float:
        """Return the mean over lists, shape (n, k) with -1 where a list is shorter; nan without pairs."""
        lists = shown[np.linspace(0, len(shown) - 1, min(SAMPLE, len(shown))).astype(int)]
        left, right = np.triu_indices(shown.shape[1], 1)
        first, second = lists[:, left].ravel(), lists[:, right].ravel()
        held = (first >= 0) & (second >= 0)
        pairs = first[held].astype(np.int64), second[held].astype(np.int64)
        return float(1.0 - self._alike(*pairs).mean()) if held.any() else math.nan

    def _alike(self, first: IntArray, second: IntArray) -> FloatArray:
        if len(self._categories):
            same = self._categories[first] == self._categories[second]
            known: FloatArray = (same & (self._categories[first] >= 0)).astype(np.float64)
            return known
        both = self._sessions[:, first].multiply(self._sessions[:, second])
        return np.asarray(both.sum(axis=0), np.float64).ravel()


def _normal_columns(clicks: Clicks) -> sparse.csc_array:
    """Sessions x items, each column of length 1."""
    shape = int(clicks.sessions.max(initial=0)) + 1, int(clicks.items.max(initial=0)) + 1
    ones = np.ones(len(clicks), np.float32)
    held = sparse.coo_array((ones, (clicks.sessions, clicks.items)), shape=shape).tocsc()
    held.data[:] = 1.0
    counts = np.diff(held.indptr)
    held.data /= np.sqrt(np.repeat(counts, counts)).astype(np.float32)
    return held
