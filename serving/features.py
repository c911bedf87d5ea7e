"""The numbers a candidate is ranked by, computed for all candidates at once."""

import math

import numpy as np
from msgspec import Struct

from bandits.ranking import ARM_DIM, ARMS
from online_models.ranking import ranking_registry
from serving.candidates import Found
from serving.live import LiveState
from state.packing import FloatArray

_CATEGORY = ranking_registry().place("category")
_ARM_COLUMNS = np.array([ranking_registry().place(name) for name in ARMS[1:]])


class Visitor(Struct, frozen=True):
    """What features need to know of the subject: folded events, session length, whether it is new."""

    events: int
    session_length: int
    is_new: bool


def feature_matrix(live: LiveState, found: Found, visitor: Visitor) -> FloatArray:
    """Return the click model's inputs (k, f) for candidates, at position 0."""
    length = float(visitor.session_length)
    features = live.click_inputs.of(found.inputs, found.scores, length, is_new=visitor.is_new)
    features[:, _CATEGORY] = live.items.kinds[found.rows]
    return features


def policy_context(visitor: Visitor, found: Found) -> FloatArray:
    """Return the bandit's context (context_dim,)."""
    return np.array(
        [
            1.0,
            float(visitor.is_new),
            math.log1p(visitor.session_length) / 4.0,
            math.log1p(visitor.events) / 8.0,
            float(found.has_neighbours),
        ]
    )


def policy_arms(features: FloatArray) -> FloatArray:
    """Return the bandit's item features (k, ARM_DIM): a constant and what sets candidates apart."""
    arms = np.empty((len(features), ARM_DIM))
    arms[:, 0] = 1.0
    features.take(_ARM_COLUMNS, axis=1, out=arms[:, 1:], mode="clip")
    return arms
