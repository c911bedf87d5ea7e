"""Slates drawn one slot after the other: for rules, diversity, and laws that are no softmax."""

import numpy as np

from bandits.arrays import BoolArray, FloatArray, IntArray
from bandits.exploration import Exploration
from bandits.problem import SlateProblem
from bandits.randomness import uniforms
from bandits.slot_laws import SlotLaw, SlotLaws, SlotParts


class Turns:
    """The slots of one slate, each with a coin of its own.

    Parameters
    ----------
    problem
        Candidates, scores, rules.
    exploration
        Any scheme, of the mode "every_slot".
    """

    def __init__(self, problem: SlateProblem, exploration: Exploration) -> None:
        self._laws, self._k = SlotLaws(problem, exploration), len(problem.scores)
        self._explored, self._floor = (part.tolist() for part in exploration.shares(np.arange(self._k + 1.0)))

    def draw(self, size: int, seed: int) -> tuple[IntArray, FloatArray, BoolArray, IntArray]:
        """Return indices, propensities, whether a slot explored and how many were eligible, (k,) each."""
        size = min(size, self._k)
        numbers, indices = uniforms(seed, 2 * size).tolist(), np.empty(size, np.int64)
        propensities, explored, eligible = list[float](), list[bool](), list[int]()
        for slot in range(size):
            law = self._laws.at(indices[:slot])
            n = law.eligible
            if not n:
                break
            coin, u = numbers[2 * slot : 2 * slot + 2]
            explores = coin < self._explored[n]
            index = law.explore(u, uniform=coin < self._floor[n]) if explores else law.pick(u)
            indices[slot] = index
            propensities.append(self._parts(law, index).propensity)
            explored.append(explores)
            eligible.append(n)
        return (
            indices[: len(eligible)],
            np.array(propensities, np.float64),
            np.array(explored, np.bool_),
            np.array(eligible, np.int64),
        )

    def propensities(self, indices: IntArray) -> FloatArray:
        """Return each slot's propensity given the slots before it, (k,); 0 if not eligible."""
        out = np.zeros(len(indices))
        for slot, index in enumerate(indices.tolist()):
            law = self._laws.at(indices[:slot])
            if law.left[index]:
                out[slot] = self._parts(law, index).propensity
        return out

    def distribution(self, prefix: IntArray) -> FloatArray:
        """Return every candidate's propensity at the slot after `prefix`, (K,); zeros if none is left."""
        law = self._laws.at(prefix)
        return law.mixed(self._explored[law.eligible], self._floor[law.eligible])

    def parts(self, indices: IntArray) -> list[SlotParts]:
        """Return what each slot's propensity is made of."""
        return [
            self._parts(self._laws.at(indices[:slot]), index) for slot, index in enumerate(indices.tolist())
        ]

    def _parts(self, law: SlotLaw, index: int) -> SlotParts:
        n = law.eligible
        return SlotParts(n, law.pi_of(index), law.q_of(index), self._explored[n], self._floor[n])
