"""Slates of which at most one slot explores: one coin a slate, and weights bounded by the coin's odds.

With a coin for each slot a slate of ten explores at a rate of 5 % in 40 % of all cases, and the weight of a
slate under another rate is a product over its slots. Here a share of the slates explores, in one slot each,
so the value of any other rate is linear in the rate and a slate's weight is at most the ratio of the odds.
"""

import numpy as np

from bandits.arrays import BoolArray, FloatArray, IntArray
from bandits.exploration import Exploration
from bandits.exploring import pick
from bandits.problem import SlateProblem
from bandits.randomness import uniforms
from bandits.slot_laws import SlotLaws, SlotParts, share


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
        numbers = uniforms(seed, 2 + size).tolist()
        at = int(numbers[0] / self._explores * self._slots) if numbers[0] < self._explores else -1
        by_floor = numbers[1] * self._explores < self._floor
        indices, eligible = np.empty(size, np.int64), np.zeros(size, np.int64)
        for slot in range(size):
            left = self._laws.left(indices[:slot])
            eligible[slot] = np.count_nonzero(left)
            if not eligible[slot]:
                size = slot
                break
            law = self._laws.pi(left, indices[:slot])
            if slot == at:
                law = left.astype(np.float64) if by_floor else self._laws.q(left)
            indices[slot] = pick(law, numbers[2 + slot])
        indices = indices[:size]
        return indices, self.propensities(indices), np.arange(size) == at, eligible[:size]

    def propensities(self, indices: IntArray) -> FloatArray:
        """Return each slot's propensity given the slots before it, (k,); 0 if not eligible."""
        out, belief = np.zeros(len(indices)), 0.0
        for slot, index in enumerate(indices.tolist()):
            out[slot], belief = self._slot(indices[:slot], index, belief)
        return out

    def parts(self, indices: IntArray) -> list[SlotParts]:
        """Return what each slot's propensity is made of."""
        out, belief = [], 0.0
        for slot, index in enumerate(indices.tolist()):
            placed = indices[:slot]
            left = self._laws.left(placed)
            explored, floor = self._parts(slot, belief)
            pi, q = share(self._laws.pi(left, placed), index), share(self._laws.q(left), index)
            out.append(SlotParts(int(np.count_nonzero(left)), pi, q, explored, floor))
            _, belief = self._slot(placed, index, belief)
        return out

    def distribution(self, prefix: IntArray) -> FloatArray:
        """Return every candidate's propensity at the slot after `prefix`, (K,); zeros if none is left."""
        belief = 0.0
        for slot, index in enumerate(prefix.tolist()):
            _, belief = self._slot(prefix[:slot], index, belief)
        left = self._laws.left(prefix)
        if not left.any():
            return np.zeros(len(left))
        pi, q = self._laws.pi(left, prefix), self._laws.q(left)
        explored, floor = self._parts(len(prefix), belief)
        law: FloatArray = (1.0 - explored) * (pi / pi.sum()) + (explored - floor) * (q / q.sum())
        return (law + floor / np.count_nonzero(left)) * left

    def _slot(self, placed: IntArray, index: int, belief: float) -> tuple[float, float]:
        """Return one slot's propensity, and the belief after it that the slate has explored."""
        left = self._laws.left(placed)
        if not left[index]:
            return 0.0, 1.0
        explored, floor = self._parts(len(placed), belief)
        pi, q = share(self._laws.pi(left, placed), index), share(self._laws.q(left), index)
        by_exploring = (explored - floor) * q + floor / np.count_nonzero(left)
        whole = (1.0 - explored) * pi + by_exploring
        return (whole, (belief * pi + by_exploring) / whole) if whole > 0.0 else (0.0, 1.0)

    def _parts(self, slot: int, belief: float) -> tuple[float, float]:
        """Return how likely this slot is to explore given the slots before, and the floor's part of it."""
        if slot >= self._slots or not self._explores:
            return 0.0, 0.0
        explored = (1.0 - belief) * self._explores / (self._slots - self._explores * slot)
        return explored, explored * self._floor / self._explores
