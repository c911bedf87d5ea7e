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
    # Not `np.isin`: for a window of ten it costs ten times the comparison.
    aim = np.where((rows[:, None] == window).any(axis=1), owed.of(rows), 0.0)
    return aim if aim.any() else None


def aimed(problem: SlateProblem, aim: FloatArray | None, uniform: float = UNIFORM_SHARE) -> SlateProblem:
    """Return a problem whose exploration goes to those who are owed, by their expected reward: `aim` (K,)."""
    if aim is None:
        return problem
    weights = explore_weights(owed_weights(aim, problem.scores), uniform)
    return problem if weights is None else dataclasses.replace(problem, explore_weights=weights)


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
    return aimed(problem, aim, logged.uniform)
