"""Whether logged propensities are the frequencies they claim to be."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bandits.arrays import FloatArray
from bandits.ope.intervals import normal_width


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
        width = normal_width(1.0 - (1.0 - level) / len(judged))
        return [arm for arm in judged if abs(arm.ratio - 1.0) > width * arm.error]
