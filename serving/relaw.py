"""What a logged decision was drawn from and by, rebuilt from the log alone."""

import msgspec
import numpy as np

from bandits.arrays import FloatArray, IntArray
from bandits.budgets import UNIFORM_SHARE, explore_weights
from bandits.exploration import Exploration
from bandits.slates import SlateProblem
from state.events import Aimed, Decision
from state.packing import from_base64, to_base64


def law_of(decision: Decision) -> Exploration:
    """Return the law of the draw."""
    return msgspec.convert(decision.exploration, Exploration)


def problem_of(decision: Decision) -> SlateProblem:
    """Return candidates, scores and law of exploration of the draw."""
    scores = from_base64(decision.candidates.scores)
    return SlateProblem(scores, len(decision.slots), _weights(decision.aimed, len(scores)))


def to_aimed(aim: FloatArray) -> Aimed:
    """Return what is logged of a law of exploration that aims at those who are owed: `aim` (K,)."""
    places = np.flatnonzero(aim)
    return Aimed(places.tolist(), to_base64(aim[places]), UNIFORM_SHARE)


def _weights(aimed: Aimed | None, count: int) -> FloatArray | None:
    if aimed is None:
        return None
    owed = np.zeros(count)
    owed[aimed.places] = from_base64(aimed.owed)
    return explore_weights(owed, aimed.uniform)


def slots_of(decision: Decision) -> IntArray:
    """Return the candidate of each slot, shape (k,)."""
    places = {item_id: n for n, item_id in reversed([*enumerate(decision.candidates.item_ids)])}
    return np.array([places[slot.item_id] for slot in decision.slots], np.int64)
