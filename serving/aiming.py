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
from state.packing import FloatArray, from_base64, to_base64


def budgeted(live: LiveState, surface: str, chosen: Chosen, now_ms: int) -> Chosen:
    """Return the exploration that the budgets leave of what a document wishes."""
    share = live.ledger.allowed(surface, chosen.document, live.budget.cost_per_hour, now_ms)
    if share >= 1.0 or not chosen.law.is_stochastic:
        return chosen
    law = dataclasses.replace(chosen.law, rate=share * chosen.law.rate)
    return replace(chosen, law=law, is_held_back=True)


def aim_at(owed: Owed, rows: IntArray, scores: FloatArray) -> FloatArray | None:
    """Return what each candidate is owed, by its expected reward (k,); None where nobody is."""
    if not len(owed.rows):
        return None
    aim = owed_weights(owed.of(rows), scores)
    return aim if aim.any() else None


def aimed(problem: SlateProblem, aim: FloatArray | None, uniform: float = UNIFORM_SHARE) -> SlateProblem:
    """Return a problem whose exploration goes to those who are owed: `aim` (K,)."""
    weights = None if aim is None else explore_weights(aim, uniform)
    return problem if weights is None else dataclasses.replace(problem, explore_weights=weights)


def to_log(aim: FloatArray | None) -> Aimed | None:
    """Return what is logged of it."""
    if aim is None:
        return None
    places = np.flatnonzero(aim)
    return Aimed(places.tolist(), to_base64(aim[places]), UNIFORM_SHARE)


def as_logged(problem: SlateProblem, logged: Aimed | None) -> SlateProblem:
    """Return the problem with what was logged of whom exploration aimed at."""
    if logged is None:
        return problem
    aim = np.zeros(len(problem.scores))
    aim[logged.places] = from_base64(logged.owed)
    return aimed(problem, aim, logged.uniform)
