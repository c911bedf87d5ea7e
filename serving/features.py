"""The numbers a candidate is ranked by, computed for all candidates at once."""

import numpy as np
from msgspec import Struct

from bandits.ranking import ARM_DIM
from online_models.ranking import Visit, describe, ranking_registry
from serving.candidates import Asked, Found
from serving.live import LiveState
from state.packing import FloatArray

_ARMS = ("knn", "knn_rank", "content", "content_last", "trend_fast", "trend_slow", "affinity", "novelty")
_BLEND = ranking_registry().place("blend")
_ARM_COLUMNS = [ranking_registry().place(name) for name in _ARMS]


class Visitor(Struct, frozen=True):
    """What features need to know of the subject: folded events, session length, whether it is new."""

    events: int
    session_length: int
    is_new: bool


def feature_matrix(live: LiveState, asked: Asked, found: Found, visitor: Visitor) -> FloatArray:
    """Return the click model's inputs (k, f) for candidates, at position 0."""
    inputs = blend_inputs(live, asked, found, visitor)
    blended = live.blend_scorer.logits(inputs)
    inputs[:, _BLEND] = blended - blended.max(initial=-np.inf)
    return inputs


def blend_inputs(live: LiveState, asked: Asked, found: Found, visitor: Visitor) -> FloatArray:
    """Return what the blend is made of: the click model's inputs (k, f) before the blend is among them."""
    visit = Visit(
        asked.recent, asked.weights, asked.now_ms, float(visitor.session_length), float(visitor.is_new)
    )
    kinds = len(live.items.category_codes)
    return describe(live.items.arrays(), live.trends.counts(), visit, found.rows, found.votes, kinds)


def policy_context(visitor: Visitor, found: Found) -> FloatArray:
    """Return the bandit's context (context_dim,)."""
    has_neighbours = float(found.votes.knn.max(initial=0.0) > 0)
    return np.array(
        [
            1.0,
            float(visitor.is_new),
            np.log1p(visitor.session_length) / 4.0,
            np.log1p(visitor.events) / 8.0,
            has_neighbours,
        ]
    )


def policy_arms(features: FloatArray) -> FloatArray:
    """Return the bandit's item features (k, ARM_DIM): a constant and what sets candidates apart."""
    arms = np.ones((len(features), ARM_DIM))
    arms[:, 1:] = features[:, _ARM_COLUMNS]
    return arms
