"""How heavy the weights' tail is, and whether logged propensities are the frequencies they claim to be."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from bandits.arrays import FloatArray

KEPT = 201
"""Largest weights that are remembered: the tail index is made of all but the least of them."""


class LargestWeights:
    """The largest weights of a stream.

    References
    ----------
    Hill (1975), "A simple general approach to inference about the tail of a distribution".
    """

    def __init__(self) -> None:
        self._kept = np.empty(0)

    def add(self, weights: FloatArray) -> None:
        """Take in weights (n,)."""
        if len(self._kept) == KEPT:
            weights = weights[weights > self._kept.min()]
            if not len(weights):
                return
        both = np.concatenate([self._kept, weights])
        self._kept = both if len(both) <= KEPT else np.partition(both, len(both) - KEPT)[-KEPT:]

    @property
    def kept(self) -> FloatArray:
        """The largest of them, at most `KEPT`, in no order."""
        return self._kept

    @property
    def largest(self) -> float:
        """The largest of all, 0 of none."""
        return float(self._kept.max(initial=0.0))

    def index(self) -> float:
        """Return Hill's tail index: at 2 or below the variance of the weights has no bound in sight.

        Infinite where the largest weights are all alike, or fewer than `KEPT` were seen.
        """
        if len(self._kept) < KEPT:
            return float("inf")
        ordered = np.sort(self._kept)
        if ordered[0] <= 0:
            return float("inf")
        excess = float(np.log(ordered[1:] / ordered[0]).mean())
        return 1.0 / excess if excess > 0 else float("inf")


@dataclass(frozen=True, slots=True)
class ArmCalibration:
    """Whether an arm was shown as often as its propensities say.

    Parameters
    ----------
    arm
        The arm.
    shown
        How often it was shown.
    ratio
        Sum of 1 / p over the rounds that showed it, over the rounds that could have: 1 but for chance.
    error
        Standard error of the ratio.
    """

    arm: str
    shown: int
    ratio: float
    error: float


class Calibration:
    """Sums 1 / p by arm; with right propensities each sum is about the number of rounds.

    Parameters
    ----------
    most_arms
        Arms kept apart; later ones are not looked at, so that memory is bounded.
    """

    def __init__(self, most_arms: int = 10_000) -> None:
        self._most, self._places = most_arms, dict[str, int]()
        self._shown, self._sums, self._excess = (np.zeros(most_arms) for _ in range(3))

    def add(self, arms: Sequence[str], propensities: FloatArray) -> None:
        """Take in shown arms (n,) and their propensities (n,), in (0, 1]."""
        for arm in arms:
            if arm not in self._places and len(self._places) < self._most:
                self._places[arm] = len(self._places)
        places = np.array([self._places.get(arm, -1) for arm in arms], np.int64)
        known = places >= 0
        p, places = propensities[known], places[known]
        np.add.at(self._shown, places, 1.0)
        np.add.at(self._sums, places, 1.0 / p)
        np.add.at(self._excess, places, (1.0 - p) / (p * p))

    def arms(self, rounds: int) -> list[ArmCalibration]:
        """Return each arm's calibration where it was eligible in this many rounds."""
        return [
            ArmCalibration(
                arm,
                int(self._shown[place]),
                float(self._sums[place]) / rounds,
                float(np.sqrt(self._excess[place])) / rounds,
            )
            for arm, place in self._places.items()
        ]

    def wrong(self, rounds: int, level: float = 0.99, least_shown: int = 30) -> list[ArmCalibration]:
        """Return the arms whose ratio is not 1 at this level, over all arms together (Bonferroni).

        Parameters
        ----------
        rounds
            In which each arm was eligible.
        level
            Chance of naming none where all are right, in (0, 1).
        least_shown
            Arms shown less often are not judged: their errors are too rough.
        """
        judged = [arm for arm in self.arms(rounds) if arm.shown >= least_shown]
        if not judged:
            return []
        width = float(ndtri(1.0 - (1.0 - level) / (2.0 * len(judged))))
        return [arm for arm in judged if abs(arm.ratio - 1.0) > width * arm.error]
