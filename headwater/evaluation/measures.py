"""What ranked lists were worth: HR, MRR, NDCG by the next click, Recall and MAP by all that follow."""

import math

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import FloatArray, IntArray
from online_models.compiled import compiled

CUTS = (5, 10, 20)
LONGEST = CUTS[-1]
NAMES = tuple(f"{measure}{cut}" for cut in CUTS for measure in ("hr", "mrr", "ndcg", "recall", "map"))
_CUTS = np.array(CUTS)
Z95 = 1.959963984540054


@compiled
def judge(rows: IntArray, rest: IntArray, recall: FloatArray, precision: FloatArray) -> int:
    """Judge a list (best first) against the clicks that followed, the next one first.

    Parameters
    ----------
    rows
        Items shown, each once, shape (m,).
    rest
        Items clicked from then on, shape (r,), r > 0; repeated ones count once.
    recall, precision
        Room for recall and average precision at each of `CUTS`, shape (3,).

    Returns
    -------
    Rank of the next item, from 1; 0 where the list has not got it.
    """
    wanted = 0
    for n in range(rest.shape[0]):
        is_first = True
        for m in range(n):
            is_first = is_first and rest[m] != rest[n]
        wanted += is_first
    rank, hits, gain, cut = 0, 0, 0.0, 0
    for place in range(_CUTS[-1]):
        if place < rows.shape[0]:
            if rows[place] == rest[0]:
                rank = place + 1
            for n in range(rest.shape[0]):
                if rest[n] == rows[place]:
                    hits += 1
                    gain += hits / (place + 1)
                    break
        if place + 1 == _CUTS[cut]:
            recall[cut] = hits / wanted
            precision[cut] = gain / min(wanted, place + 1)
            cut += 1
    return rank


def table(ranks: IntArray, recall: FloatArray, precision: FloatArray) -> FloatArray:
    """Every measure of every list: (n,) ranks and (n, 3) values by `judge` -> (n, len(NAMES))."""
    columns: list[FloatArray] = []
    for n, cut in enumerate(CUTS):
        hit = (ranks > 0) & (ranks <= cut)
        safe = np.maximum(ranks, 1)
        columns += [hit.astype(np.float64), hit / safe, hit / np.log2(safe + 1.0)]
        columns += [recall[:, n].astype(np.float64), precision[:, n].astype(np.float64)]
    return np.column_stack(columns)


def half_widths(values: FloatArray, clusters: IntArray) -> FloatArray:
    """Half widths of 95 % intervals of means whose rows come in independent clusters.

    Parameters
    ----------
    values
        Shape (n, m).
    clusters
        Cluster of each row, shape (n,): the rows of a session stand or fall together.

    Returns
    -------
    Shape (m,): the linearised variance of a ratio of sums over clusters (Cochran 1977, eq. 6.13);
    nan with fewer than two clusters.
    """
    _, place = np.unique(clusters, return_inverse=True)
    count = np.bincount(place).astype(np.float64)
    drawn = len(count)
    if drawn < 2:
        return np.full(values.shape[1], math.nan)
    off = np.column_stack([np.bincount(place, column) for column in values.T])
    off -= count[:, None] * values.mean(axis=0)
    variance = drawn / (drawn - 1) * (off**2).sum(axis=0) / len(values) ** 2
    widths: FloatArray = Z95 * np.sqrt(variance)
    return widths


def difference(first: FloatArray, second: FloatArray, clusters: IntArray) -> tuple[FloatArray, FloatArray]:
    """Mean of `second` - `first`, judged on the same lists, with the half width of its 95 % interval."""
    gaps = second - first
    return gaps.mean(axis=0), half_widths(gaps, clusters)


def popularity_bias(shown: NDArray[np.int32], popularity: IntArray) -> float:
    """Mean share of clicked items that are clicked less than an item shown (ties half); chance gives 0.5."""
    clicked = np.sort(popularity[popularity > 0])
    below = np.searchsorted(clicked, popularity, "left") + np.searchsorted(clicked, popularity, "right")
    rows = shown[shown >= 0]
    return float(below[rows].mean() / 2 / len(clicked)) if len(rows) and len(clicked) else math.nan


def coverage(shown: NDArray[np.int32], popularity: IntArray) -> float:
    """Share of all clicked items that were shown at least once."""
    return len(np.unique(shown[shown >= 0])) / max(1, int(np.count_nonzero(popularity)))
