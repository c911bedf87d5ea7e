"""How a decision explores: an argument of each draw, never part of what a model stores."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.special import expit

from bandits.arrays import FloatArray

Scheme = Literal["greedy", "epsilon", "softmax", "optimistic", "squarecb"]
Mode = Literal["every_slot", "single_slot"]

SMALLEST_TEMPERATURE = 1e-3
_DEEPEST = -1e9
"""Utilities further below the best than this many temperatures count as equal: keeps differences exact."""


@dataclass(frozen=True, slots=True)
class Exploration:
    """The law of one slot, given the eligible candidates left: ``(1 - s) pi + (s - l) q + l / n``.

    n candidates are left, pi is the scheme's own law, q the law of exploration (uniform unless weights are
    given), ``l = min(1, n floor)`` the part that pays the floor and ``s = max(rate, l)`` the share
    explored. So the floor is paid out of the rate first, and raises it only where the rate is too small for
    it.

    Parameters
    ----------
    scheme
        What pi is: "greedy" and "epsilon" give all to the best (ties: the first), "softmax" and
        "optimistic" draw by exp(utility / temperature), "squarecb" by inverse gaps of sigmoid(utility).
        "greedy" ignores rate and floor: it is deterministic, has propensity 1 and its log says nothing
        about other slates.
    rate
        Share of slots explored, in [0, 1].
    temperature
        Of the softmax, in units of the utilities, >= 0.001.
    optimism
        Standard deviations added to the mean by the scheme "optimistic", in [0, 10].
    floor
        Least propensity of any eligible candidate at any slot, in [0, 1]; where n floor > 1 it is 1 / n.
    gamma
        Of "squarecb": how fast propensity falls with the gap to the best reward, > 0.
    mode
        "every_slot": each slot has a coin of its own. "single_slot": one coin a slate, and at most one slot,
        each as likely as the others, draws from q (`bandits.single_slot`); rate is then the share of slates.

    Raises
    ------
    ValueError
        If a value is out of its range.

    References
    ----------
    Foster, Rakhlin (2020), "Beyond UCB: optimal and efficient contextual bandits with regression oracles":
    p = 1 / (n + gamma (best - reward)) for all but the best.
    """

    scheme: Scheme = "softmax"
    rate: float = 0.02
    temperature: float = 0.1
    optimism: float = 0.5
    floor: float = 0.0
    gamma: float = 1000.0
    mode: Mode = "every_slot"

    def __post_init__(self) -> None:
        if self.scheme not in get_args(Scheme):
            msg = f"scheme is {self.scheme!r}, wanted one of {', '.join(get_args(Scheme))}"
            raise ValueError(msg)
        if self.mode not in get_args(Mode):
            msg = f"mode is {self.mode!r}, wanted one of {', '.join(get_args(Mode))}"
            raise ValueError(msg)
        for name, low, high in (
            ("rate", 0.0, 1.0),
            ("temperature", SMALLEST_TEMPERATURE, np.inf),
            ("optimism", 0.0, 10.0),
            ("floor", 0.0, 1.0),
            ("gamma", 1e-9, np.inf),
        ):
            value = getattr(self, name)
            if not (low <= value <= high and np.isfinite(value)):
                msg = f"{name} is {value}, wanted a finite number in [{low:g}, {high:g}]"
                raise ValueError(msg)

    @property
    def is_stochastic(self) -> bool:
        """Whether two draws with different seeds may differ."""
        return self.scheme != "greedy"

    @property
    def takes_best(self) -> bool:
        """Whether pi gives all to the best candidate left."""
        return self.scheme in ("greedy", "epsilon")

    @property
    def is_softmax(self) -> bool:
        """Whether pi is a softmax of the utilities."""
        return self.scheme in ("softmax", "optimistic")

    def utilities(self, mean: FloatArray, variance: FloatArray | None) -> FloatArray:
        """Return the scores to draw by (K,): the mean, for "optimistic" plus optimism standard deviations.

        Raises
        ------
        ValueError
            If the scheme is "optimistic" and there is no variance.
        """
        if self.scheme != "optimistic":
            return mean
        if variance is None:
            msg = "variance is None, wanted an array (K,): the scheme 'optimistic' needs one"
            raise ValueError(msg)
        return mean + self.optimism * np.sqrt(variance)

    def shares(self, n: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return s (explored) and l (of it, uniform for the floor) where n candidates are left, any shape."""
        nothing = np.zeros_like(n)
        if not self.is_stochastic:
            return nothing, nothing
        if not self.floor:
            return nothing + self.rate, nothing
        uniform = np.minimum(1.0, n * self.floor)
        return np.maximum(self.rate, uniform), uniform

    def log_weights(self, scores: FloatArray) -> FloatArray:
        """Return log weights of the softmax (K,): scores over temperature, the best at 0, never infinite."""
        # Places first: numpy finds them several times faster than the values.
        best = float(scores[scores.argmax()])
        if best - float(scores[scores.argmin()]) <= -_DEEPEST * self.temperature:
            shifted = scores - best
            shifted /= self.temperature
            return shifted
        with np.errstate(over="ignore"):
            return np.maximum((scores - best) / self.temperature, _DEEPEST)

    def law(self, scores: FloatArray) -> FloatArray:
        """Return pi over candidates with these scores (n,), n >= 1: not negative, sums to 1."""
        if self.takes_best:
            best: FloatArray = np.zeros(len(scores))
            best[scores.argmax()] = 1.0
            return best
        if self.scheme == "squarecb":
            return self._inverse_gaps(scores)
        weights: FloatArray = np.exp(self.log_weights(scores))
        weights /= weights.sum()
        return weights

    def _inverse_gaps(self, scores: FloatArray) -> FloatArray:
        rewards, best = expit(scores), int(scores.argmax())
        out: FloatArray = 1.0 / (len(scores) + self.gamma * (rewards[best] - rewards))
        out[best] = 0.0
        out[best] = 1.0 - out.sum()
        return out
