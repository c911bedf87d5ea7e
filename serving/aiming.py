"""What budgets and new items make of exploration: its rate, and at whom it aims; as drawn and as logged."""

import dataclasses

import numpy as np
from msgspec.structs import replace

from bandits.budgets import UNIFORM_SHARE, explore_weights, owed_weights
from bandits.slates import SlateProblem
from serving.exploring import Chosen
from serving.items import IntArray
from serving.live import LiveState
from serving.newcomers import Owed
from state.events import Aimed
from state.packing import FloatArray


def budgeted(live: LiveState, surface: str, chosen: Chosen, now_ms: int) -> Chosen:
    """Return the exploration that the budgets leave of what a document wishes."""
    share = live.ledger.allowed(surface, chosen.document, live.budget.cost_per_hour, now_ms)
    if share >= 1.0 or not chosen.law.is_stochastic:
        return chosen
    law = dataclasses.replace(chosen.law, rate=share * chosen.law.rate)
    return replace(chosen, law=law, is_held_back=True)


def aim_at(owed: Owed, window: IntArray, rows: IntArray) -> FloatArray | None:
    """Return how many impressions candidates of the window are owed, (k,); None where nobody is."""
    if not len(window):
        return None
    which, places = (rows == window[:, None]).nonzero()
    owed_each = owed.of(window[which])
    if not np.count_nonzero(owed_each):
        return None
    aim = np.zeros(len(rows))
    aim[places] = owed_each
    return aim


def aimed(aim: FloatArray | None, scores: FloatArray, uniform: float = UNIFORM_SHARE) -> FloatArray | None:
    """Return the law of exploration that goes to who is owed, by expected reward, (K,); None for uniform."""
    return None if aim is None else explore_weights(owed_weights(aim, scores), uniform)


def to_log(aim: FloatArray | None) -> Aimed | None:
    """Return what is logged of it."""
    if aim is None:
        return None
    places = np.flatnonzero(aim)
    return Aimed(places.tolist(), aim[places].astype(np.int64).tolist(), UNIFORM_SHARE)


def as_logged(problem: SlateProblem, logged: Aimed | None) -> SlateProblem:
    """Return the problem with what was logged of whom exploration aimed at."""
    if logged is None:
        return problem
    aim = np.zeros(len(problem.scores))
    aim[logged.places] = logged.owed
    weights = aimed(aim, problem.scores, logged.uniform)
    return problem if weights is None else dataclasses.replace(problem, explore_weights=weights)
