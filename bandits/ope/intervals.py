"""Intervals around an estimate: for one look, for any law of bounded rewards, and for every look at once."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from bandits.arrays import FloatArray
from bandits.ope.sequences import delayed, mixture_p_value, robbins


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with what is needed to put intervals around it.

    Parameters
    ----------
    name
        Of the estimator.
    value
        Estimated reward per round.
    standard_error
        By the delta method; infinite where it cannot be told.
    n
        Rounds it rests on.
    replicates
        Values in bootstrap replicates, shape (B,); empty without a bootstrap.
    """

    name: str
    value: float
    standard_error: float
    n: int
    replicates: FloatArray

    def normal(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval of the central limit theorem: for large n, one look and light weights."""
        half = normal_width(level) * self.standard_error
        return self.value - half, self.value + half

    def bootstrap(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval between quantiles of the replicates.

        Raises
        ------
        ValueError
            If there are no replicates.
        """
        if not len(self.replicates):
            msg = "replicates is empty, wanted some: ask the evaluation for a bootstrap"
            raise ValueError(msg)
        tail = (1.0 - _checked(level)) / 2.0
        low, high = np.quantile(self.replicates, [tail, 1.0 - tail])
        return float(low), float(high)

    def empirical_bernstein(self, span: float, level: float = 0.95) -> tuple[float, float]:
        """Return an interval that covers at any n and for any law of values in a range this wide.

        Parameters
        ----------
        span
            Width of the range (`Tuning.span`), known before the log is read.
        level
            Coverage, in (0, 1).

        References
        ----------
        Maurer, Pontil (2009), "Empirical Bernstein bounds and sample variance penalization", theorem 4,
        both sides.
        """
        if self.n < 2:
            return -np.inf, np.inf
        log = float(np.log(4.0 / (1.0 - _checked(level))))
        half = self.standard_error * np.sqrt(2.0 * log) + 7.0 * span * log / (3.0 * (self.n - 1))
        return float(self.value - half), float(self.value + half)

    def confidence_sequence(self, level: float = 0.95, tuned_at: int = 10_000) -> tuple[float, float]:
        """Return an interval that may be looked at after every round and acted upon at any time.

        Parameters
        ----------
        level
            Asymptotic chance that the truth is inside at all looks, in (0, 1).
        tuned_at
            Number of rounds at which it is narrowest relative to the best possible, >= 1; fixed in advance.

        References
        ----------
        Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas (2024), "Time-uniform central limit theory and asymptotic
        confidence sequences", theorem 2.2: Robbins' normal mixture around an average.
        """
        if not np.isfinite(self.standard_error):
            return -np.inf, np.inf
        half = self.standard_error * robbins(self.n, _checked(level), tuned_at)
        return self.value - half, self.value + half

    def delayed_sequence(self, first: int, level: float = 0.95) -> tuple[float, float]:
        """Return an interval for every look from a first number of rounds on; infinite before it.

        Parameters
        ----------
        first
            Rounds before which nobody looks, >= 1; fixed in advance.
        level
            Asymptotic chance that the truth is inside at all looks, in (0, 1).
        """
        if not np.isfinite(self.standard_error) or self.n < first:
            return -np.inf, np.inf
        half = self.standard_error * delayed(self.n, _checked(level), first)
        return self.value - half, self.value + half

    def p_value(self, effect: float) -> float:
        """Return mSPRT's p-value of "the value is 0" now; the least of all looks is valid at any time.

        Parameters
        ----------
        effect
            Standard deviation of the effects the test is made for, > 0.
        """
        return mixture_p_value(self.value, self.standard_error, effect)


def normal_width(level: float) -> float:
    """Return how many standard errors wide one side of a normal interval is, > 0; level in (0, 1)."""
    return float(ndtri(0.5 + _checked(level) / 2.0))


def _checked(level: float) -> float:
    if not 0 < level < 1:
        msg = f"level is {level}, wanted a number in (0, 1)"
        raise ValueError(msg)
    return level
