"""Slates drawn one slot after the other: for rules, diversity, and laws that are no softmax."""

import numpy as np

from bandits.arrays import BoolArray, FloatArray, IntArray
from bandits.exploration import Exploration
from bandits.exploring import pick
from bandits.problem import SlateProblem
from bandits.randomness import uniforms
from bandits.slot_laws import SlotLaws, SlotParts, share


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
        self._laws, self._weights = SlotLaws(problem, exploration), problem.explore_weights
        self._k = len(problem.scores)
        self._explored, self._floor = exploration.shares(np.arange(self._k + 1.0))

    def draw(self, size: int, seed: int) -> tuple[IntArray, FloatArray, BoolArray, IntArray]:
        """Return indices, propensities, whether a slot explored and how many were eligible, (k,) each."""
        size = min(size, self._k)
        numbers = uniforms(seed, 2 * size).tolist()
        indices, explored = np.empty(size, np.int64), np.zeros(size, np.bool_)
        left = np.zeros((size, self._k), np.bool_)
        for slot in range(size):
            left[slot] = self._laws.left(indices[:slot])
            n = int(np.count_nonzero(left[slot]))
            if not n:
                size = slot
                break
            coin = numbers[2 * slot]
            explored[slot] = coin < self._explored[n]
            law = self._law(left[slot], indices[:slot], (coin, n))
            indices[slot] = pick(law, numbers[2 * slot + 1])
        indices, left = indices[:size], left[:size]
        return indices, self._given(indices, left), explored[:size], np.count_nonzero(left, axis=1)

    def _law(self, left: BoolArray, placed: IntArray, fate: tuple[float, int]) -> FloatArray:
        """Return the law that a slot's coin chose: the floor's, that of exploration, or the scheme's own."""
        coin, n = fate
        if coin < self._floor[n]:
            return left.astype(np.float64)
        return self._laws.q(left) if coin < self._explored[n] else self._laws.pi(left, placed)

    def propensities(self, indices: IntArray) -> FloatArray:
        """Return each slot's propensity given the slots before it, (k,); 0 if not eligible."""
        left = np.zeros((len(indices), self._k), np.bool_)
        for slot in range(len(indices)):
            left[slot] = self._laws.left(indices[:slot])
        return self._given(indices, left)

    def distribution(self, prefix: IntArray) -> FloatArray:
        """Return every candidate's propensity at the slot after `prefix`, (K,); zeros if none is left."""
        left = self._laws.left(prefix)
        n = int(np.count_nonzero(left))
        if not n:
            return np.zeros(len(left))
        pi, q = self._laws.pi(left, prefix), self._laws.q(left)
        explored, floor = self._explored[n], self._floor[n]
        law: FloatArray = (1.0 - explored) * (pi / pi.sum()) + (explored - floor) * (q / q.sum()) + floor / n
        return law * left

    def parts(self, indices: IntArray) -> list[SlotParts]:
        """Return what each slot's propensity is made of."""
        out = []
        for slot, index in enumerate(indices.tolist()):
            left = self._laws.left(indices[:slot])
            n = int(np.count_nonzero(left))
            pi, q = self._laws.pi(left, indices[:slot]), self._laws.q(left)
            shares = share(pi, index), share(q, index)
            out.append(SlotParts(n, *shares, float(self._explored[n]), float(self._floor[n])))
        return out

    def _given(self, indices: IntArray, left: BoolArray) -> FloatArray:
        """Return the propensity of each slot's index among those left at it (k, K), shape (k,)."""
        out = np.zeros(len(indices))
        for slot, index in enumerate(indices.tolist()):
            row = left[slot]
            if row[index]:
                n = int(np.count_nonzero(row))
                pi, explored, floor = self._laws.pi(row, indices[:slot]), self._explored[n], self._floor[n]
                q = 1.0 / n if self._weights is None else share(self._laws.q(row), index)
                out[slot] = (1.0 - explored) * share(pi, index) + (explored - floor) * q + floor / n
        return out
