"""Slates of which at most one slot explores: one coin a slate, and weights bounded by the coin's odds.

With a coin for each slot a slate of ten explores at a rate of 5 % in 40 % of all cases, and the weight of a
slate under another rate is a product over its slots. Here a share of the slates explores, in one slot each,
so the value of any other rate is linear in the rate and a slate's weight is at most the ratio of the odds.
"""

import numpy as np

from bandits.arrays import BoolArray, FloatArray, IntArray
from bandits.exploration import Exploration
from bandits.problem import SlateProblem
from bandits.randomness import uniforms
from bandits.slot_laws import SlotLaw, SlotLaws, SlotParts


class SingleSlot:
    """The slots of one slate that share one coin.

    The slate explores with probability ``s = max(rate, l)``, ``l = min(1, k K floor)``, at one of its k
    slots, each as likely: there the candidate is drawn from ``((s - l) q + l / n) / s``. All other slots are
    drawn from the scheme's own law over who is left. So each eligible candidate comes to each slot by
    exploration with probability `floor` at least.

    A slot's propensity given the slots before it follows by Bayes: what was placed before tells how likely
    it is that the slate has explored already.

    Parameters
    ----------
    problem
        Candidates, scores, rules; its size says how many slots share the coin.
    exploration
        Any stochastic scheme.
    """

    def __init__(self, problem: SlateProblem, exploration: Exploration) -> None:
        self._laws, self._k = SlotLaws(problem, exploration), len(problem.scores)
        self._slots = max(1, min(problem.size, self._k))
        self._floor = min(1.0, self._slots * self._k * exploration.floor)
        self._explores = max(exploration.rate, self._floor)

    def draw(self, size: int, seed: int) -> tuple[IntArray, FloatArray, BoolArray, IntArray]:
        """Return indices, propensities, whether a slot explored and how many were eligible, (k,) each."""
        size = min(size, self._k)
        numbers, indices = uniforms(seed, 2 + size).tolist(), np.empty(size, np.int64)
        at = int(numbers[0] / self._explores * self._slots) if numbers[0] < self._explores else -1
        by_floor = numbers[1] * self._explores < self._floor
        propensities, eligible, belief = list[float](), list[int](), 0.0
        for slot in range(size):
            law = self._laws.at(indices[:slot])
            if not law.eligible:
                break
            u = numbers[2 + slot]
            indices[slot] = index = law.explore(u, uniform=by_floor) if slot == at else law.pick(u)
            propensity, belief = self._slot(law, slot, index, belief)
            propensities.append(propensity)
            eligible.append(law.eligible)
        size = len(eligible)
        explored = np.arange(size) == at
        return indices[:size], np.array(propensities, np.float64), explored, np.array(eligible, np.int64)

    def propensities(self, indices: IntArray) -> FloatArray:
        """Return each slot's propensity given the slots before it, (k,); 0 if not eligible."""
        out, belief = np.zeros(len(indices)), 0.0
        for slot, index in enumerate(indices.tolist()):
            out[slot], belief = self._slot(self._laws.at(indices[:slot]), slot, index, belief)
        return out

    def parts(self, indices: IntArray) -> list[SlotParts]:
        """Return what each slot's propensity is made of."""
        out, belief = [], 0.0
        for slot, index in enumerate(indices.tolist()):
            law = self._laws.at(indices[:slot])
            explored, floor = self._parts(slot, belief)
            out.append(SlotParts(law.eligible, law.pi_of(index), law.q_of(index), explored, floor))
            _, belief = self._slot(law, slot, index, belief)
        return out

    def distribution(self, prefix: IntArray) -> FloatArray:
        """Return every candidate's propensity at the slot after `prefix`, (K,); zeros if none is left."""
        belief = 0.0
        for slot, index in enumerate(prefix.tolist()):
            _, belief = self._slot(self._laws.at(prefix[:slot]), slot, index, belief)
        return self._laws.at(prefix).mixed(*self._parts(len(prefix), belief))

    def _slot(self, law: SlotLaw, slot: int, index: int, belief: float) -> tuple[float, float]:
        """Return one slot's propensity, and the belief after it that the slate has explored."""
        if not law.left[index]:
            return 0.0, 1.0
        explored, floor = self._parts(slot, belief)
        pi = law.pi_of(index)
        by_exploring = (explored - floor) * law.q_of(index) + floor / law.eligible
        whole = (1.0 - explored) * pi + by_exploring
        return (whole, (belief * pi + by_exploring) / whole) if whole > 0.0 else (0.0, 1.0)

    def _parts(self, slot: int, belief: float) -> tuple[float, float]:
        """Return how likely this slot is to explore given the slots before, and the floor's part of it."""
        if slot >= self._slots or not self._explores:
            return 0.0, 0.0
        explored = (1.0 - belief) * self._explores / (self._slots - self._explores * slot)
        return explored, explored * self._floor / self._explores
