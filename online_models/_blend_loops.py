"""The loops of the retrieval blend (compiled): describe candidates, rank them, learn."""

from typing import NamedTuple

import numpy as np

from online_models._candidate_loops import Candidates
from online_models._covisit_loops import CoVisitTables
from online_models._embedding_loops import EmbeddingRecipe, EmbeddingTables, match
from online_models._item_clock import ItemClock, describe_item
from online_models._session_score import Scratch
from online_models._topk import Best, offer, sort_descending
from online_models.arrays import FloatArray, IntArray
from online_models.compiled import compiled, compiled_sums
from online_models.sources import COVISIT, HOP, KNN

_RULE = 3
"""Place of sequential rules among the scores."""
_KNN_LOG, _COVISIT_LOG, _BOTH, _EMBEDDING, _POPULAR, _REPEAT, _SHORT = 0, 3, 6, 7, 11, 15, 21
_HOP_LOG, _RULE_LOG, _ABSENT = 24, 28, 31
FEATURES = (
    "knn_log",
    "knn_share",
    "knn_rank",
    "covisit_log",
    "covisit_share",
    "covisit_rank",
    "both_ranks",
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
    "hop_log",
    "hop_share",
    "hop_rank",
    "hop_short",
    "rule_log",
    "rule_share",
    "rule_short",
    "knn_absent",
    "covisit_absent",
    "hop_absent",
    "rule_absent",
)


class Scorers(NamedTuple):
    """Where the latest query left its scores, and what scores whatever was found."""

    near: Scratch
    around: CoVisitTables
    query: int  # number of the latest query of co-visits
    scale: float  # weight of a click of this moment, which scores of co-visits are counted in
    embedding: EmbeddingTables
    embedding_recipe: EmbeddingRecipe
    clock: ItemClock
    begun: float  # sessions begun so far


@compiled
def score_all(c: Candidates, size: int, s: Scorers, items: IntArray) -> None:
    """Fill scores and matches of the first `size` candidates."""
    t, number = s.around, s.near.number[0]
    for n in range(size):
        row = c.rows[n]
        c.score[n, :] = 0.0
        if row < s.near.item_mark.shape[0] and abs(s.near.item_mark[row]) == number:
            c.score[n, KNN] = s.near.item_score[row]
        if row < t.mark.shape[0] and t.mark[row] == s.query:
            c.score[n, COVISIT], c.score[n, _RULE] = t.score[row] / s.scale, t.next[row] / s.scale
        if row < t.mark.shape[0] and t.hop_mark[row] == s.query:
            c.score[n, HOP] = t.hop[row] / s.scale
    if items.shape[0] > 0:
        match(s.embedding, s.embedding_recipe, items, c.rows[:size], c.match[:size])
    else:
        c.match[:size] = 0.0


@compiled
def _of_repeat(items: IntArray, row: int, x: FloatArray) -> None:
    """Write whether, where and how often the session holds a row, shape (5,)."""
    x[:] = 0.0
    last, times = items.shape[0] - 1, 0
    for back in range(last + 1):
        if items[last - back] == row:
            if times == 0:
                x[0], x[1], x[2] = 1.0, 1.0 if back == 0 else 0.0, 1.0 / np.sqrt(1.0 + back)
            times += 1
    if times > 0:
        x[3] = np.log(float(times))
        x[4] = np.log1p(float(last)) / 3.0


@compiled
def _of_source(c: Candidates, size: int, source: int, at: int) -> None:
    """Write log score, score and rank of a source; scores are shares of the best item new to the session."""
    best, most = 0.0, 1e-300
    for n in range(size):
        most = max(most, c.score[n, source])
        if c.inputs[n, _REPEAT] == 0.0:
            best = max(best, c.score[n, source])
    if best == 0.0:
        best = most
    for n in range(size):
        share = c.score[n, source] / best
        c.inputs[n, at] = np.log(share + 1e-4) / 9.2 + 1.0
        c.inputs[n, at + 1] = min(share, 1.0)
        c.inputs[n, at + 2] = c.rank[n, source]
        # Silence is no small score: without an input of its own it would flatten the slope of all scores.
        c.inputs[n, _ABSENT + source] = 1.0 if c.score[n, source] == 0.0 else 0.0


@compiled
def _of_embedding(c: Candidates, size: int) -> None:
    """Write log odds, share and rank among the items new to the session, and the cosine with its latest."""
    best, total = -1e300, 1e-300
    for n in range(size):
        if c.inputs[n, _REPEAT] == 0.0:
            best = max(best, c.match[n, 0])
    if best == -1e300:
        best = 0.0
    for n in range(size):
        if c.inputs[n, _REPEAT] == 0.0:
            total += np.exp(c.match[n, 0] - best)
    for n in range(size):
        x, above = c.inputs[n, _EMBEDDING:], 0
        for other in range(size):
            above += c.match[other, 0] > c.match[n, 0] and c.inputs[other, _REPEAT] == 0.0
        x[0] = (c.match[n, 0] - best) / 10.0
        x[1] = min(1.0, np.exp(min(0.0, c.match[n, 0] - best)) / total)
        x[2] = 1.0 / np.sqrt(1.0 + above)
        x[3] = c.match[n, 1]


@compiled
def describe(c: Candidates, size: int, s: Scorers, items: IntArray) -> None:
    """Fill the inputs of the first `size` candidates, in the order of `FEATURES`."""
    score_all(c, size, s, items)
    for n in range(size):
        _of_repeat(items, c.rows[n], c.inputs[n, _REPEAT : _REPEAT + 5])
        describe_item(s.clock, c.rows[n], s.begun, c.inputs[n, _POPULAR : _POPULAR + 4])
    _of_source(c, size, KNN, _KNN_LOG)
    _of_source(c, size, COVISIT, _COVISIT_LOG)
    _of_source(c, size, HOP, _HOP_LOG)
    _of_source(c, size, _RULE, _RULE_LOG)
    _of_embedding(c, size)
    short = 1.0 / max(1, items.shape[0])
    for n in range(size):
        x = c.inputs[n]
        x[_BOTH] = x[_KNN_LOG + 2] * x[_COVISIT_LOG + 2]
        x[_REPEAT + 5] = x[_REPEAT] * x[_KNN_LOG + 1]
        x[_SHORT] = x[_KNN_LOG] * short
        x[_SHORT + 1] = x[_COVISIT_LOG] * short
        x[_HOP_LOG + 3] = x[_HOP_LOG] * short
        x[_RULE_LOG + 2] = x[_RULE_LOG] * short
        x[_SHORT + 2] = x[_EMBEDDING] * short


@compiled_sums
def rank(c: Candidates, size: int, weights: FloatArray, novel_only: bool, best: Best) -> int:
    """Write the places of the best candidates into `best`, by their linear score; return how many."""
    held = 0
    for n in range(size):
        if not novel_only or c.inputs[n, _REPEAT] == 0.0:
            logit = 0.0
            for f in range(weights.shape[0]):
                logit += c.inputs[n, f] * weights[f]
            held = offer(best, held, logit, n)
    sort_descending(best, held)
    return held


@compiled_sums
def newton_step(
    inputs: FloatArray, target: int, weights: FloatArray, precision: FloatArray, keep: float
) -> float:
    """One Newton step on the listwise softmax loss; return the loss before it.

    `precision` (F, F) is the prior's plus the curvature of all lessons, older ones times `keep` per lesson:
    the weights follow the posterior mode of a conditional logit (Laplace, one pass).
    """
    n, size = inputs.shape
    shares = inputs @ weights
    shares = np.exp(shares - shares.max())
    shares /= shares.sum()
    mean = shares @ inputs
    precision *= keep
    for i in range(n):
        if shares[i] > 1e-4:
            for a in range(size):
                lean = shares[i] * (inputs[i, a] - mean[a])
                for b in range(size):
                    precision[a, b] += lean * (inputs[i, b] - mean[b])
    weights -= np.linalg.solve(precision, mean - inputs[target])
    return float(-np.log(shares[target] + 1e-12))
