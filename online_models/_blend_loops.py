"""The loops of the retrieval blend (compiled): merge candidates, describe them, rank them, learn."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models._topk import Best, offer, sort_descending
from online_models.arrays import FloatArray, IntArray
from online_models.compiled import compiled, compiled_sums

BOOL = NDArray[np.bool_]

KNN, COVISIT, TREND, LATEST = 0, 1, 2, 3
"""Sources: session-kNN, co-visits of the session, trends, co-visits of the latest click."""
SOURCES = 4

FEATURES = (
    "knn_log",
    "knn_share",
    "knn_rank",
    "covisit_log",
    "covisit_share",
    "covisit_rank",
    "latest_log",
    "latest_share",
    "latest_rank",
    "both",
    "embedding",
    "embedding_share",
    "embedding_rank",
    "embedding_latest",
    "popular",
    "recent",
    "rising",
    "age",
    "repeat",
    "repeat_latest",
    "repeat_place",
    "repeat_times",
    "repeat_length",
    "repeat_knn",
    "knn_short",
    "covisit_short",
    "embedding_short",
    "trend_rank",
)


class Candidates(NamedTuple):
    """Candidates of one query; M = room, S = sources, N = item rows."""

    rows: IntArray  # (M,)
    share: FloatArray  # (M, S) score over the best of the source, 0 where the source is silent
    rank: FloatArray  # (M, S) 1 / sqrt(1 + rank), 0 where the source is silent
    match: FloatArray  # (M, 2) of the embedding
    inputs: FloatArray  # (M, F)
    mark: IntArray  # (N,) number of the query that met the item
    place: IntArray  # (N,)


class ItemClock(NamedTuple):
    """Decayed clicks and age of items, counted in sessions begun."""

    slow: FloatArray  # (N,) value at the item's last click
    fast: FloatArray  # (N,)
    last: IntArray  # (N,) sessions begun at the item's last click
    first: IntArray  # (N,) and at its first


@compiled
def tick(c: ItemClock, item: int, begun: int, slow: float, fast: float) -> None:
    """Count a click; `slow` and `fast` are decays in sessions."""
    if c.slow[item] == 0.0:
        c.first[item] = begun
    gap = begun - c.last[item]
    c.slow[item] = c.slow[item] * np.exp(-gap / slow) + 1.0
    c.fast[item] = c.fast[item] * np.exp(-gap / fast) + 1.0
    c.last[item] = begun


@compiled
def gather(c: Candidates, number: int, size: int, source: int, found: Best) -> int:
    """Add a source's ranked items to the candidates; return their new number."""
    for n in range(found.keys.shape[0]):
        row = found.keys[n]
        if c.mark[row] != number:
            if size == c.rows.shape[0]:
                break
            c.mark[row], c.place[row], c.rows[size] = number, size, row
            c.share[size, :], c.rank[size, :], c.match[size, :] = 0.0, 0.0, 0.0
            size += 1
        place = c.place[row]
        c.share[place, source] = found.values[n] / found.values[0]
        c.rank[place, source] = 1.0 / np.sqrt(1.0 + n)
    return size


@compiled
def _log_share(share: float) -> float:
    return float(np.log(share + 1e-4) / 9.2 + 1.0)


@compiled
def _of_sources(c: Candidates, n: int, x: FloatArray) -> None:
    for source, at in ((KNN, 0), (COVISIT, 3), (LATEST, 6)):
        x[at] = _log_share(c.share[n, source])
        x[at + 1] = min(c.share[n, source], 1.0)
        x[at + 2] = c.rank[n, source]
    x[9] = c.rank[n, KNN] * c.rank[n, COVISIT]
    x[27] = c.rank[n, TREND]


@compiled
def _of_clock(clock: ItemClock, row: int, begun: int, decays: FloatArray, x: FloatArray) -> None:
    if row >= clock.slow.shape[0] or clock.slow[row] == 0.0:
        x[14:18] = 0.0
        return
    gap = begun - clock.last[row]
    slow = clock.slow[row] * np.exp(-gap / decays[0])
    fast = clock.fast[row] * np.exp(-gap / decays[1])
    x[14] = np.log1p(slow) / 5.0
    x[15] = np.log1p(fast) / 5.0
    x[16] = np.log((fast + 0.5) / (slow * decays[1] / decays[0] + 0.5)) / 3.0
    x[17] = np.log1p(begun - clock.first[row]) / 12.0


@compiled
def _of_session(items: IntArray, row: int, x: FloatArray) -> None:
    x[18:24] = 0.0
    last, times = items.shape[0] - 1, 0
    for back in range(last + 1):
        if items[last - back] == row:
            if times == 0:
                x[18], x[20] = 1.0, 1.0 / np.sqrt(1.0 + back)
                x[19] = 1.0 if back == 0 else 0.0
            times += 1
    if times > 0:
        x[21] = np.log(float(times))
        x[22] = np.log1p(float(last)) / 3.0
        x[23] = x[1]


@compiled
def _of_embedding(c: Candidates, size: int) -> None:
    best = -1e30
    for n in range(size):
        best = max(best, c.match[n, 0])
    total = 0.0
    for n in range(size):
        total += np.exp(c.match[n, 0] - best)
    for n in range(size):
        x, above = c.inputs[n], 0
        for other in range(size):
            above += c.match[other, 0] > c.match[n, 0]
        x[10] = (c.match[n, 0] - best) / 10.0
        x[11] = np.exp(c.match[n, 0] - best) / total
        x[12] = 1.0 / np.sqrt(1.0 + above)
        x[13] = c.match[n, 1]


@compiled
def describe(
    c: Candidates, size: int, clock: ItemClock, items: IntArray, begun: int, decays: FloatArray
) -> None:
    """Fill the inputs of the first `size` candidates, in the order of `FEATURES`."""
    _of_embedding(c, size)
    short = 1.0 / max(1, items.shape[0])
    for n in range(size):
        x = c.inputs[n]
        _of_sources(c, n, x)
        _of_clock(clock, c.rows[n], begun, decays, x)
        _of_session(items, c.rows[n], x)
        x[24], x[25], x[26] = x[0] * short, x[3] * short, x[10] * short


@compiled
def rank(c: Candidates, size: int, weights: FloatArray, best: Best) -> int:
    """Write the places of the best candidates into `best`, by their linear score; return how many."""
    held = 0
    for n in range(size):
        held = offer(best, held, np.dot(c.inputs[n], weights), n)
    sort_descending(best, held)
    return held


@compiled_sums
def newton_step(inputs: FloatArray, target: int, weights: FloatArray, precision: FloatArray, keep: float) -> float:
    """One Newton step on the listwise softmax loss; return the loss before it.

    `precision` (F, F) sums the curvature of all lessons, older ones times `keep` per lesson: with the prior it
    began with, the weights follow the posterior mode of a conditional logit (Laplace, one pass).
    """
    n, size = inputs.shape
    shares = inputs @ weights
    shares = np.exp(shares - shares.max())
    shares /= shares.sum()
    mean = shares @ inputs
    slope = mean - inputs[target]
    precision *= keep
    for i in range(n):
        if shares[i] > 1e-4:
            for a in range(size):
                lean = shares[i] * (inputs[i, a] - mean[a])
                for b in range(size):
                    precision[a, b] += lean * (inputs[i, b] - mean[b])
    weights -= np.linalg.solve(precision, slope)
    return float(-np.log(shares[target] + 1e-12))
