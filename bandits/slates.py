"""Slates drawn slot by slot, with the exact propensity of every slot given the slots before it.

What is drawn is what is shown: rules define each slot's eligible candidates before the draw, and nothing
reorders or drops after it. Scores, exploration and seed decide everything, so a logged decision replays bit
for bit, and its propensities recompute from scores and indices alone.
"""

from dataclasses import dataclass

import numpy as np

from bandits.arrays import BoolArray, FloatArray, IntArray
from bandits.diversity import Diversity
from bandits.exploration import Exploration
from bandits.leaders import Leaders
from bandits.problem import SlateProblem
from bandits.race import Race
from bandits.randomness import decision_seed
from bandits.rules import CategoryCap, SlotRule
from bandits.single_slot import SingleSlot
from bandits.slot_laws import SlotParts
from bandits.turns import Turns

__all__ = [
    "CategoryCap",
    "Diversity",
    "Slate",
    "SlateProblem",
    "SlotParts",
    "SlotRule",
    "decision_seed",
    "draw_slate",
    "slate_parts",
    "slate_propensities",
    "slot_distribution",
]


@dataclass(frozen=True, slots=True)
class Slate:
    """A drawn slate of k slots.

    Parameters
    ----------
    indices
        Of the candidates, by slot, shape (k,).
    propensities
        Of each slot's candidate given the slots before it, in (0, 1], shape (k,).
    explored
        Whether the slot's coin said explore, shape (k,).
    eligible
        How many candidates the slot was drawn from, shape (k,).
    """

    indices: IntArray
    propensities: FloatArray
    explored: BoolArray
    eligible: IntArray


def draw_slate(problem: SlateProblem, exploration: Exploration, seed: int) -> Slate:
    """Draw a slate.

    Parameters
    ----------
    problem
        Candidates, scores and rules.
    exploration
        The law of each slot.
    seed
        Decides the draw (`decision_seed`).

    Returns
    -------
    Slate
        Of `problem.size` slots, or fewer where candidates run out.
    """
    k = len(problem.scores)
    if is_race(problem, exploration, problem.size):
        indices, propensities, explored = _race(problem, exploration).draw(problem.size, seed)
        return Slate(indices, propensities, explored, np.arange(k, k - len(indices), -1))
    return Slate(*_turns(problem, exploration).draw(problem.size, seed))


def slate_propensities(problem: SlateProblem, indices: IntArray, exploration: Exploration) -> FloatArray:
    """Recompute the propensities of a logged slate, shape (k,); equal to those drawn with, bit for bit.

    Under another exploration than the logging one these are the target policy's propensities of the same
    slate, which may be 0.

    Parameters
    ----------
    problem
        As logged; its size is used by the mode "single_slot" alone.
    indices
        Of the slate's candidates, shape (k,).
    exploration
        Whose propensities are wanted.

    Raises
    ------
    ValueError
        If an index repeats or is out of range.
    """
    indices = np.asarray(indices, np.int64)
    k = len(problem.scores)
    if len(np.unique(indices)) != len(indices) or ((indices < 0) | (indices >= k)).any():
        msg = f"indices are {indices.tolist()}, wanted distinct numbers in [0, {k})"
        raise ValueError(msg)
    if is_race(problem, exploration, len(indices)):
        return _race(problem, exploration).propensities(indices)
    return _turns(problem, exploration).propensities(indices)


def slate_parts(problem: SlateProblem, indices: IntArray, exploration: Exploration) -> list[SlotParts]:
    """Return what each slot's propensity is made of; arguments as of `slate_propensities`."""
    return _turns(problem, exploration).parts(np.asarray(indices, np.int64))


def slot_distribution(problem: SlateProblem, prefix: IntArray, exploration: Exploration) -> FloatArray:
    """Return the propensity of every candidate at the slot after `prefix`, shape (K,).

    They sum to 1, with 0 for who is not eligible; all are 0 where nobody is.
    """
    return _turns(problem, exploration).distribution(np.asarray(prefix, np.int64))


def is_race(problem: SlateProblem, exploration: Exploration, size: int) -> bool:
    """Return whether every candidate stays eligible, and the law is a softmax or of a single slot."""
    is_free = problem.rule is None and problem.diversity is None and problem.pinned is None
    return is_free and exploration.mode == "every_slot" and (exploration.scheme != "squarecb" or size == 1)


def _race(problem: SlateProblem, exploration: Exploration) -> Race | Leaders:
    kind = Leaders if exploration.takes_best else Race
    return kind(problem.scores, problem.explore_weights, exploration)


def _turns(problem: SlateProblem, exploration: Exploration) -> Turns | SingleSlot:
    if exploration.mode == "single_slot" and exploration.is_stochastic:
        return SingleSlot(problem, exploration)
    return Turns(problem, exploration)
