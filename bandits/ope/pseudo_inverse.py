"""Weights of the pseudo-inverse estimator: unbiased where slots add up, however they are drawn together.

If a slate is worth the sum of what each item is worth at its place, its value under another policy needs no
ratio of whole slates: w(s) = q_e^T G^+ 1_s, where 1_s marks which item stands where, G = E_b[1_s 1_s^T] under
the logging policy and q_e = E_e[1_s] under the target. Swaminathan, Krishnamurthy, Agarwal, Dudik, Langford,
Jose, Zitouni (2017), "Off-policy evaluation for slate recommendation", equation 5.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import perm

import numpy as np

from bandits.arrays import FloatArray, IntArray

MOST_SLATES = 20_000
"""More orders than this are not enumerated: use sniips, which needs the marginals alone."""

NextLaw = Callable[[IntArray], FloatArray]
"""The propensity of every candidate (K,) at the slot after a prefix, as `slot_distribution` gives it."""


@dataclass(frozen=True, slots=True)
class SlateLaw:
    """All slates a policy can draw for one request.

    Parameters
    ----------
    slates
        Candidates by slot, shape (S, k).
    propensities
        Of whole slates, shape (S,), sums to 1.
    candidates
        K.
    """

    slates: IntArray
    propensities: FloatArray
    candidates: int

    def marginals(self) -> FloatArray:
        """Return the probability of each candidate at each slot, shape (k, K)."""
        marks = self._marks(self.slates)
        out: FloatArray = (self.propensities @ marks).reshape(self.slates.shape[1], self.candidates)
        return out

    def pairs(self) -> FloatArray:
        """Return G: how often two placements come together, shape (k K, k K)."""
        marks = self._marks(self.slates)
        out: FloatArray = (marks * self.propensities[:, None]).T @ marks
        return out

    def _marks(self, slates: IntArray) -> FloatArray:
        out = np.zeros((len(slates), slates.shape[1] * self.candidates))
        columns = slates + self.candidates * np.arange(slates.shape[1])
        np.put_along_axis(out, columns, 1.0, axis=1)
        return out

    def weights(self, target: FloatArray, slates: IntArray) -> FloatArray:
        """Return w of logged slates under a target policy, shape (n,); some are negative.

        Parameters
        ----------
        target
            q_e: the target's marginals, shape (k, K).
        slates
            As logged under this law, shape (n, k).

        Raises
        ------
        ValueError
            If the target places a candidate where this law never does: then no weights are unbiased. If a
            shape differs, or a slate holds what is no candidate.
        """
        slates = self._checked(target, np.asarray(slates, np.int64))
        unseen = float(target[self.marginals() <= 0].sum())
        if unseen > 1e-12:
            msg = f"target has mass {unseen:.3g} on placements that were never logged, wanted 0"
            raise ValueError(msg)
        solved = target.reshape(-1) @ np.linalg.pinv(self.pairs(), rcond=1e-10, hermitian=True)
        out: FloatArray = self._marks(slates) @ solved
        return out

    def _checked(self, target: FloatArray, slates: IntArray) -> IntArray:
        k = self.slates.shape[1]
        if target.shape != (k, self.candidates):
            msg = f"target has shape {target.shape}, wanted ({k}, {self.candidates})"
            raise ValueError(msg)
        if slates.ndim != 2 or slates.shape[1] != k:
            msg = f"slates has shape {slates.shape}, wanted (n, {k})"
            raise ValueError(msg)
        wrong = (slates < 0) | (slates >= self.candidates)
        if wrong.any():
            row, slot = np.argwhere(wrong)[0].tolist()
            msg = (
                f"slates[{row}][{slot}] is {slates[row, slot]}, wanted a candidate in [0, {self.candidates})"
            )
            raise ValueError(msg)
        return slates


def enumerate_slates(next_law: NextLaw, candidates: int, slots: int) -> SlateLaw:
    """Return the law of whole slates of a policy that draws slot by slot.

    Raises
    ------
    ValueError
        If there are more than `MOST_SLATES` of them.
    """
    count = perm(candidates, slots)
    if count > MOST_SLATES:
        msg = f"{candidates} candidates on {slots} slots have {count} orders, wanted {MOST_SLATES} at most"
        raise ValueError(msg)
    prefixes, chances = np.zeros((1, 0), np.int64), np.ones(1)
    for _ in range(slots):
        laws = np.array([next_law(prefix) for prefix in prefixes])
        at, chosen = np.nonzero(laws > 0)
        prefixes = np.concatenate([prefixes[at], chosen[:, None]], axis=1)
        chances = chances[at] * laws[at, chosen]
    return SlateLaw(prefixes, chances, candidates)


def independent_weights(ratios: FloatArray) -> FloatArray:
    """Return w (n,) where slots are drawn independently, as from sets of their own: sum of ratios - k + 1.

    Parameters
    ----------
    ratios
        pi_e / pi_b of each slot's candidate, shape (n, k).
    """
    out: FloatArray = ratios.sum(axis=1) - ratios.shape[1] + 1.0
    return out
