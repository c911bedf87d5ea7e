"""The numbers a candidate is ranked by, computed for all candidates at once."""

import numpy as np
from msgspec import Struct

from bandits.ranking import ARM_DIM
from serving.candidates import Asked, Found, taste
from serving.live import LiveState
from state.packing import FloatArray

_DAY_MS = 86_400_000


class Visitor(Struct, frozen=True):
    """What features need to know of the subject: folded events, session length, whether it is new."""

    events: int
    session_length: int
    is_new: bool


def feature_matrix(live: LiveState, asked: Asked, found: Found, visitor: Visitor) -> FloatArray:
    """Return the click model's inputs (k, f) for candidates, at position 0."""
    rows = found.rows
    trends = live.trends.scores(rows, asked.now_ms)
    shares = trends / np.maximum(trends.max(axis=0, initial=0.0), 1e-9)
    values: dict[str, FloatArray | float] = {
        "knn": found.knn / max(float(found.knn.max(initial=0.0)), 1e-12),
        "knn_rank": _inverse_rank(found.knn),
        "content": _similarity(live, asked, found, last=50),
        "content_last": _similarity(live, asked, found, last=1),
        "trend_fast": shares[:, 0],
        "trend_mid": shares[:, shares.shape[1] // 2],
        "trend_slow": shares[:, -1],
        "rising": np.log((shares[:, 0] + 0.05) / (shares[:, -1] + 0.05)),
        "affinity": _affinity(live, asked, found),
        "novelty": 1.0 / (1.0 + trends[:, -1]),
        "item_age": np.maximum(0.0, (asked.now_ms - live.items.published_at[rows]) / _DAY_MS),
        "repeat": np.isin(rows, asked.recent).astype(np.float64) if len(asked.recent) else 0.0,
        "session_length": float(visitor.session_length),
        "new_user": float(visitor.is_new),
    }
    return live.registry.matrix(values, len(rows))


def policy_context(visitor: Visitor, found: Found) -> FloatArray:
    """Return the bandit's context (context_dim,)."""
    has_neighbours = float(found.knn.max(initial=0.0) > 0)
    return np.array(
        [
            1.0,
            float(visitor.is_new),
            np.log1p(visitor.session_length) / 4.0,
            np.log1p(visitor.events) / 8.0,
            has_neighbours,
        ]
    )


def policy_arms(live: LiveState, features: FloatArray) -> FloatArray:
    """Return the bandit's item features (k, ARM_DIM): a constant and what sets candidates apart."""
    names = ("knn", "knn_rank", "content", "content_last", "trend_fast", "trend_slow", "affinity", "novelty")
    arms = np.ones((len(features), ARM_DIM))
    for column, name in enumerate(names, start=1):
        arms[:, column] = features[:, live.registry.place(name)]
    return arms


def _inverse_rank(scores: FloatArray) -> FloatArray:
    ranks = np.empty(len(scores))
    ranks[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    return np.where(scores > 0, 1.0 / np.sqrt(1.0 + ranks), 0.0)


def _similarity(live: LiveState, asked: Asked, found: Found, *, last: int) -> FloatArray:
    if not len(asked.recent):
        return np.zeros(len(found.rows))
    cosines: FloatArray = (live.items.vectors[found.rows] @ taste(live, asked, last)).astype(np.float64)
    return cosines


def _affinity(live: LiveState, asked: Asked, found: Found) -> FloatArray:
    if not len(asked.recent):
        return np.zeros(len(found.rows))
    codes = live.items.codes[asked.recent]
    # The last place is for -1, "no category": whatever it collects is taken out again.
    weights = np.zeros(len(live.items.category_codes) + 1)
    np.add.at(weights, codes, np.broadcast_to(asked.weights[:, None], codes.shape))
    weights[-1] = 0.0
    shares: FloatArray = weights[live.items.codes[found.rows]].max(axis=1)
    return shares / max(float(asked.weights.sum()), 1e-9)
