"""A policy that only watches: its value from the live policy's slates, in constant memory, at any time.

Each decision is logged with the shadow's prefix weights W_j, the products of its conditional propensities
over the logged ones down to slot j. Its value is the self-normalised RIPS estimate with one norm for all
slots, ``mean of sum_j W_j r_j / mean of (sum_j W_j / k)``: a slot may depend on those above it. What the live
policy earned on the same decisions stands beside it.

References
----------
McInerney, Brost, Chandar, Mehrotra, Carterette (2020), "Counterfactual evaluation of slate recommendations
with sequential reward interactions".
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bandits.arrays import FloatArray
from bandits.ope.diagnostics import Diagnostics, Gates, diagnose
from bandits.ope.intervals import Estimate
from bandits.ope.moments import Formula, Moments

_LIVE, _MINUS_LIVE, _CASCADE, _NORM, _WHOLE = range(5)
_STATISTICS = 5
_FORMULAS = {
    "live": Formula((_LIVE,)),
    "shadow": Formula((), ((_CASCADE, _NORM),)),
    "lift": Formula((_MINUS_LIVE,), ((_CASCADE, _NORM),)),
}
TUNED_AT = 10_000
"""Decisions at which a scoreboard's intervals are narrowest relative to the best possible."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a shadow stands beside the live policy.

    Parameters
    ----------
    live, shadow, lift
        Reward a decision of both, and how much more the shadow's is.
    diagnostics
        Of the weights of whole slates.
    reasons
        Why the shadow's value must not be shown; empty where it may.
    """

    live: Estimate
    shadow: Estimate
    lift: Estimate
    diagnostics: Diagnostics
    reasons: tuple[str, ...]

    def is_better(self, level: float = 0.95) -> bool:
        """Return whether the shadow's interval lies above the live one's, at any time this is asked.

        Strict: both rest on the same decisions, so the interval of `lift` leaves 0 behind far earlier. Where
        that interval is a quarter as wide as the two together, 16 times the decisions are needed.
        """
        low = self.shadow.confidence_sequence(level, TUNED_AT)[0]
        return not self.reasons and low > self.live.confidence_sequence(level, TUNED_AT)[1]


class ShadowEvaluation:
    """Sums of one shadow's decisions."""

    def __init__(self) -> None:
        self._moments, self._largest = Moments(_STATISTICS), 0.0

    @property
    def n(self) -> int:
        """Decisions so far."""
        return self._moments.n

    def add(self, weights: FloatArray, rewards: FloatArray) -> None:
        """Take in one decision.

        Parameters
        ----------
        weights
            W_j, >= 0, shape (k,), k >= 1.
        rewards
            Of the same slots, shape (k,).
        """
        live, whole = float(rewards.sum()), weights[-1:]
        row = [live, -live, float(weights @ rewards), float(weights.mean()), float(whole[0])]
        self._moments.add(np.array([row]))
        self._largest = max(self._largest, float(whole[0]))

    def merge(self, other: "ShadowEvaluation") -> None:
        """Take in what another lane saw."""
        self._moments.merge(other._moments)
        self._largest = max(self._largest, other._largest)

    def standing(self, gates: Gates | None = None) -> Standing:
        """Return how the shadow stands now."""
        moments = self._moments
        told = {
            name: Estimate(
                name, float(one.value(moments.mean)), one.standard_error(moments), self.n, np.empty(0)
            )
            for name, one in _FORMULAS.items()
        }
        variance = float(moments.covariance[_WHOLE, _WHOLE])
        seen = diagnose(self.n, float(moments.mean[_WHOLE]), variance, self._largest, 0.0)
        reasons = (gates or Gates()).reasons(seen)
        return Standing(told["live"], told["shadow"], told["lift"], seen, reasons)

    def snapshot(self) -> dict[str, FloatArray]:
        """Return everything it is made of."""
        n, mean, scatter = self._moments.parts
        return {
            "n": np.array([float(n)]),
            "mean": mean,
            "scatter": scatter,
            "largest": np.array([self._largest]),
        }

    @classmethod
    def restore(cls, arrays: Mapping[str, FloatArray]) -> "ShadowEvaluation":
        """Return what a snapshot was made of."""
        made = cls()
        made._moments.put(int(arrays["n"][0]), arrays["mean"], arrays["scatter"])
        made._largest = float(arrays["largest"].max(initial=0.0))
        return made
