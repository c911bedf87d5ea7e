"""What a logged decision was drawn from and by, rebuilt from the log alone."""

from dataclasses import replace

import msgspec
import numpy as np

from bandits.arrays import IntArray
from bandits.exploration import Exploration
from bandits.slates import SlateProblem
from serving.aiming import as_logged
from serving.placing import problem_of as logged_problem
from state.events import Decision
from state.packing import from_base64


def law_of(decision: Decision) -> Exploration:
    """Return the law of the draw."""
    return msgspec.convert(decision.exploration, Exploration)


def problem_of(decision: Decision) -> SlateProblem:
    """Return candidates, scores, rules, pins and law of exploration of the draw."""
    scores = from_base64(decision.candidates.scores)
    drawn = drawn_slots(decision)
    problem = logged_problem(scores, len(drawn), decision.placing)
    if len(drawn) < len(decision.slots):
        problem = replace(problem, pinned=slots_of(decision)[pinned_slots(decision)])
    return as_logged(problem, decision.aimed)


def drawn_slots(decision: Decision) -> list[int]:
    """Return the slots that were drawn."""
    return [n for n, slot in enumerate(decision.slots) if slot.flag != "pinned"]


def pinned_slots(decision: Decision) -> list[int]:
    """Return the slots whose items were given."""
    return [n for n, slot in enumerate(decision.slots) if slot.flag == "pinned"]


def slots_of(decision: Decision) -> IntArray:
    """Return the candidate of each slot, shape (k,)."""
    places = {item_id: n for n, item_id in reversed([*enumerate(decision.candidates.item_ids)])}
    return np.array([places[slot.item_id] for slot in decision.slots], np.int64)
