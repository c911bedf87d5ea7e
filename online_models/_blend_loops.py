"""The loops of the retrieval blend (compiled): describe candidates, rank them, learn."""

from typing import NamedTuple

import numpy as np

from online_models._candidate_loops import Candidates
from online_models._covisit_loops import BEGUN, MARK, NEXT, SCORE, scale_now
from online_models._embedding_loops import match
from online_models._item_clock import describe_item
from online_models._machine import Machine
from online_models._session_votes import recall
from online_models._topk import Best, offer, sort_descending
from online_models.arrays import FloatArray, IntArray
from online_models.compiled import Held, compiled, compiled_borrowing, compiled_sums
from online_models.sources import COVISIT, HOP, KNN

_RULE = 3
"""Place of sequential rules among the scores."""
_KNN_LOG, _COVISIT_LOG, _BOTH, _EMBEDDING, _POPULAR, _REPEAT, _SHORT = 0, 3, 6, 7, 11, 15, 21
_HOP_LOG, _RULE_LOG, _ABSENT = 24, 28, 31
_NO_SHARE = float(np.log(1e-4) / 9.2 + 1.0)
"""Log score of an item that a source says nothing of."""
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


class Ranked(NamedTuple):
    """The best of the candidates, best first; m of them."""

    rows: IntArray  # (m,)
    scores: FloatArray  # (m,)
    inputs: FloatArray  # (m, F)
    first: IntArray  # (m,) code of the source that brought each first
    sources: IntArray  # (m,) bits of all that did


@compiled_borrowing
def score_all(m: Machine, size: int, items: IntArray) -> None:
    """Fill scores and matches of the first `size` candidates."""
    c, t, scale = m.candidates, m.models.covisits, scale_now(m.models.covisits, m.models.covisit_recipe)
    rows, scores, query = c.rows, c.score, t.number[0]
    around, further = t.around, t.further
    recall(m.models.sessions, m.scratch, m.recipe, rows[:size], scores[:size, KNN])
    for n in range(size):
        row = rows[n]
        is_around = row < around.shape[0] and around[row, MARK] == query
        scores[n, COVISIT] = around[row, SCORE] / scale if is_around else 0.0
        scores[n, _RULE] = around[row, NEXT] / scale if is_around else 0.0
        is_further = row < further.shape[0] and further[row, MARK] == query
        scores[n, HOP] = further[row, SCORE] / scale if is_further else 0.0
    if items.shape[0] > 0:
        match(m.models.embedding, m.models.embedding_recipe, items, rows[:size], c.match[:size])
    else:
        c.match[:size] = 0.0


@compiled_borrowing
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


@compiled_borrowing
def _of_source(c: Candidates, size: int, source: int, at: int) -> None:
    """Write log score, score and rank of a source; scores are shares of the best item new to the session."""
    x, scores, ranks, best, most = c.inputs, c.score, c.rank, 0.0, 1e-300
    for n in range(size):
        most = max(most, scores[n, source])
        if x[n, _REPEAT] == 0.0:
            best = max(best, scores[n, source])
    if best == 0.0:
        best = most
    for n in range(size):
        is_absent = scores[n, source] == 0.0
        share = scores[n, source] / best
        x[n, at] = _NO_SHARE if is_absent else np.log(share + 1e-4) / 9.2 + 1.0
        x[n, at + 1] = min(share, 1.0)
        x[n, at + 2] = ranks[n, source]
        # Silence is no small score: without an input of its own it would flatten the slope of all scores.
        x[n, _ABSENT + source] = 1.0 if is_absent else 0.0


@compiled
def _of_embedding(c: Candidates, size: int) -> None:
    """Write log odds, share and rank among the items new to the session, and the cosine with its latest."""
    x, odds, fresh, new = c.inputs, c.match, np.empty(size), 0
    for n in range(size):
        if x[n, _REPEAT] == 0.0:
            fresh[new] = odds[n, 0]
            new += 1
    fresh = fresh[:new]
    best, total = fresh.max() if new > 0 else 0.0, 1e-300
    for value in fresh:
        total += np.exp(value - best)
    fresh.sort()
    for n in range(size):
        gap = odds[n, 0] - best
        x[n, _EMBEDDING] = gap / 10.0
        x[n, _EMBEDDING + 1] = min(1.0, np.exp(min(0.0, gap)) / total)
        above = new - np.searchsorted(fresh, odds[n, 0], side="right")
        x[n, _EMBEDDING + 2] = 1.0 / np.sqrt(1.0 + above)
        x[n, _EMBEDDING + 3] = odds[n, 1]


@compiled_borrowing
def describe(m: Machine, size: int, items: IntArray) -> None:
    """Fill the inputs of the first `size` candidates, in the order of `FEATURES`."""
    score_all(m, size, items)
    c, clock, begun = m.candidates, m.models.clock, m.models.covisits.moment[BEGUN]
    for n in range(size):
        _of_repeat(items, c.rows[n], c.inputs[n, _REPEAT : _REPEAT + 5])
        describe_item(clock, c.rows[n], begun, c.inputs[n, _POPULAR : _POPULAR + 4])
    _of_source(c, size, KNN, _KNN_LOG)
    _of_source(c, size, COVISIT, _COVISIT_LOG)
    _of_source(c, size, HOP, _HOP_LOG)
    _of_source(c, size, _RULE, _RULE_LOG)
    _of_embedding(c, size)
    x, short = c.inputs, 1.0 / max(1, items.shape[0])
    for n in range(size):
        x[n, _BOTH] = x[n, _KNN_LOG + 2] * x[n, _COVISIT_LOG + 2]
        x[n, _REPEAT + 5] = x[n, _REPEAT] * x[n, _KNN_LOG + 1]
        x[n, _SHORT] = x[n, _KNN_LOG] * short
        x[n, _SHORT + 1] = x[n, _COVISIT_LOG] * short
        x[n, _HOP_LOG + 3] = x[n, _HOP_LOG] * short
        x[n, _RULE_LOG + 2] = x[n, _RULE_LOG] * short
        x[n, _SHORT + 2] = x[n, _EMBEDDING] * short


@compiled_sums
def rank(held: Held, size: int, weights: FloatArray, novel_only: bool, limit: int) -> Ranked:
    """Rank the first `size` candidates by their linear score, `limit` at most."""
    c, kept = held.tables.candidates, 0
    best = Best(np.empty(min(size, limit)), np.empty(min(size, limit), np.int64))
    for n in range(size):
        if not novel_only or c.inputs[n, _REPEAT] == 0.0:
            logit = 0.0
            for f in range(weights.shape[0]):
                logit += c.inputs[n, f] * weights[f]
            kept = offer(best, kept, logit, n)
    sort_descending(best, kept)
    places = best.keys[:kept]
    inputs = np.empty((kept, weights.shape[0]))
    rows, first, sources = np.empty_like(places), np.empty_like(places), np.empty_like(places)
    for n in range(kept):
        at = places[n]
        rows[n], first[n], sources[n] = c.rows[at], c.first[at], c.sources[at]
        inputs[n] = c.inputs[at]
    return Ranked(rows, best.values[:kept], inputs, first, sources)


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
