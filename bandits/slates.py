"""Slates drawn slot by slot, with the exact propensity of every slot given the slots before it.

What is drawn is what is shown: rules define each slot's eligible candidates before the draw, and nothing
reorders or drops after it. Scores, exploration and seed decide everything, so a logged decision replays bit
for bit, and its propensities recompute from scores and indices alone.
"""

from dataclasses import dataclass

import numpy as np

from bandits.arrays import BoolArray, FloatArray, IntArray
from bandits.exploration import Exploration
from bandits.race import Race, pick
from bandits.randomness import decision_seed, uniforms
from bandits.rules import CategoryCap, SlotRule

__all__ = [
    "CategoryCap",
    "Slate",
    "SlateProblem",
    "SlotRule",
    "decision_seed",
    "draw_slate",
    "slate_propensities",
    "slot_distribution",
]


@dataclass(frozen=True, slots=True)
class SlateProblem:
    """What a slate is drawn from.

    Parameters
    ----------
    scores
        Of K candidates, optimism included (`Exploration.utilities`), finite, shape (K,).
    size
        Slots wanted, >= 0; the slate is shorter where fewer candidates are eligible.
    explore_weights
        Of the law of exploration q, proportional, >= 0, shape (K,); None for uniform. Where all that is left
        weighs nothing, q is uniform.
    rule
        Says who is eligible; None for everybody.

    Raises
    ------
    ValueError
        If a score is not finite (the index is named), a weight negative, the size negative or lengths differ.
    """

    scores: FloatArray
    size: int
    explore_weights: FloatArray | None = None
    rule: SlotRule | None = None

    def __post_init__(self) -> None:
        if self.scores.ndim != 1:
            msg = f"scores has shape {self.scores.shape}, wanted (K,)"
            raise ValueError(msg)
        finite = np.isfinite(self.scores)
        if not finite.all():
            index = int(finite.argmin())
            msg = f"scores[{index}] is {self.scores[index]}, wanted a finite number"
            raise ValueError(msg)
        if self.size < 0:
            msg = f"size is {self.size}, wanted at least 0"
            raise ValueError(msg)
        if self.explore_weights is not None:
            self._check_weights(self.explore_weights)

    def _check_weights(self, weights: FloatArray) -> None:
        if weights.shape != self.scores.shape:
            msg = f"explore_weights has shape {weights.shape}, wanted {self.scores.shape}: one for each score"
            raise ValueError(msg)
        wrong = ~((weights >= 0) & (weights < np.inf))
        if wrong.any():
            index = int(wrong.argmax())
            msg = f"explore_weights[{index}] is {weights[index]}, wanted a finite number >= 0"
            raise ValueError(msg)


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
    if not _is_race(problem, exploration):
        return _draw_in_turn(problem, exploration, seed)
    k, race = len(problem.scores), Race(problem.scores, problem.explore_weights, exploration)
    indices, explored = race.draw(problem.size, seed)
    return Slate(indices, race.propensities(indices), explored, np.arange(k, k - len(indices), -1))


def slate_propensities(problem: SlateProblem, indices: IntArray, exploration: Exploration) -> FloatArray:
    """Recompute the propensities of a logged slate, shape (k,); equal to those drawn with, bit for bit.

    Under another exploration than the logging one these are the target policy's propensities of the same
    slate, which may be 0.

    Parameters
    ----------
    problem
        As logged; its size is not used.
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
    if _is_race(problem, exploration):
        return Race(problem.scores, problem.explore_weights, exploration).propensities(indices)
    slots = [slot_distribution(problem, indices[:j], exploration)[i] for j, i in enumerate(indices)]
    return np.array(slots, np.float64)


def slot_distribution(problem: SlateProblem, prefix: IntArray, exploration: Exploration) -> FloatArray:
    """Return the propensity of every candidate at the slot after `prefix`, shape (K,).

    They sum to 1, with 0 for who is not eligible; all are 0 where nobody is.
    """
    out = np.zeros(len(problem.scores))
    left = _left(problem, prefix)
    if len(left):
        parts, shares = _mixture(problem, left, exploration)
        out[left] = shares @ parts
    return out


def _is_race(problem: SlateProblem, exploration: Exploration) -> bool:
    return problem.rule is None and exploration.scheme != "squarecb"


def _left(problem: SlateProblem, prefix: IntArray) -> IntArray:
    if problem.rule is None:
        eligible = np.ones(len(problem.scores), np.bool_)
    else:
        eligible = np.array(problem.rule.eligible(prefix), np.bool_)
    eligible[prefix] = False
    return np.flatnonzero(eligible)


def _mixture(
    problem: SlateProblem, left: IntArray, exploration: Exploration
) -> tuple[FloatArray, FloatArray]:
    """Return the laws that a slot mixes, (3, n): uniform, q, pi; and their shares (3,)."""
    n = len(left)
    uniform = np.full(n, 1.0 / n)
    q = uniform
    if problem.explore_weights is not None:
        weights = problem.explore_weights[left]
        q = weights / weights.sum() if weights.any() else uniform
    explored, floor = exploration.shares(np.array(float(n)))
    shares = np.array([floor, explored - floor, 1.0 - explored])
    return np.stack((uniform, q, exploration.law(problem.scores, left))), shares


def _draw_in_turn(problem: SlateProblem, exploration: Exploration, seed: int) -> Slate:
    size = min(problem.size, len(problem.scores))
    numbers = uniforms(seed, 2 * size)
    indices, explored, eligible = np.empty(size, np.int64), np.zeros(size, np.bool_), np.zeros(size, np.int64)
    propensities = np.empty(size)
    for j in range(size):
        left = _left(problem, indices[:j])
        if not len(left):
            size = j
            break
        parts, shares = _mixture(problem, left, exploration)
        part = pick(shares, float(numbers[2 * j]))
        place = pick(parts[part], float(numbers[2 * j + 1]))
        indices[j], propensities[j] = left[place], (shares @ parts)[place]
        explored[j], eligible[j] = part < 2, len(left)
    return Slate(indices[:size], propensities[:size], explored[:size], eligible[:size])
