"""Intervals that may be looked at after every round and acted upon at any time, in constant memory.

=====================  ================================================================================
`robbins`              asymptotic; Robbins' normal mixture, narrowest at a number of rounds told before
`delayed`              asymptotic; nobody looks before a first number of rounds, so all later ones are
                       narrower
`mixture_p_value`      always-valid p-value of the mixture sequential probability ratio test (mSPRT)
`BernsteinSequence`    exact at any n for values in [0, 1]: empirical Bernstein, predictable plug-in
=====================  ================================================================================

References
----------
Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas (2024), "Time-uniform central limit theory and asymptotic
confidence sequences"; Robbins, Siegmund (1970), "Boundary crossing probabilities for the Wiener process and
sample sums"; Johari, Koomen, Pekelis, Walsh (2022), "Always valid inference: continuous monitoring of A/B
tests"; Waudby-Smith, Ramdas (2024), "Estimating means of bounded random variables by betting", theorem 2.
"""

from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from bandits.arrays import FloatArray


def robbins(n: float, level: float, tuned_at: float) -> float:
    """Return how many standard errors wide one side is after n rounds, > 0.

    Parameters
    ----------
    n
        Rounds so far, > 0.
    level
        Asymptotic chance that the truth is inside at all looks, in (0, 1).
    tuned_at
        Rounds at which it is narrowest relative to the best possible, >= 1; fixed in advance.
    """
    alpha = 1.0 - level
    rho2 = (-2.0 * np.log(alpha) + np.log(1.0 - 2.0 * np.log(alpha))) / tuned_at
    grown = n * rho2 + 1.0
    return float(np.sqrt(2.0 * grown / (n * rho2) * np.log(np.sqrt(grown) / alpha)))


def delayed(n: float, level: float, first: float) -> float:
    """Return how many standard errors wide one side is after n rounds; infinite before the first look.

    Parameters
    ----------
    n
        Rounds so far, > 0.
    level
        Asymptotic chance that the truth is inside at all looks, in (0, 1).
    first
        Rounds before which nobody decides anything, > 0; fixed in advance. Two fifths of the planned number
        is a good choice.

    Notes
    -----
    A Wiener process crosses sqrt(t (a^2 + log(t / first))) at some t >= first with probability
    2 (1 - Phi(a) + a phi(a)).
    """
    return float(np.sqrt(_edge(level) ** 2 + np.log(n / first))) if n >= first else float("inf")


@lru_cache(maxsize=64)
def _edge(level: float) -> float:
    def excess(a: float) -> float:
        density = np.exp(-a * a / 2.0) / np.sqrt(2.0 * np.pi)
        return float(2.0 * (1.0 - ndtr(a) + a * density) - (1.0 - level))

    return float(brentq(excess, 0.5, 20.0))


def mixture_p_value(value: float, standard_error: float, effect: float) -> float:
    """Return the p-value of "the value is 0", valid at any time if the least of all looks is kept.

    Parameters
    ----------
    value
        Estimated difference.
    standard_error
        Of it now; infinite where it cannot be told.
    effect
        Standard deviation of the effects the test is made for, > 0; fixed in advance.

    Raises
    ------
    ValueError
        If the effect is not positive.
    """
    if not effect > 0:
        msg = f"effect is {effect}, wanted a number > 0"
        raise ValueError(msg)
    if not np.isfinite(standard_error):
        return 1.0
    noise, prior = standard_error**2, effect**2
    if noise <= 0:
        return 1.0 if value == 0 else 0.0
    log_ratio = 0.5 * np.log(noise / (noise + prior)) + value**2 * prior / (2.0 * noise * (noise + prior))
    return float(np.exp(-max(0.0, log_ratio)))


class BernsteinSequence:
    """Empirical-Bernstein confidence sequence of a mean of values in [0, 1]: covers at every n.

    Parameters
    ----------
    level
        Chance that the truth is inside at all looks, in (0, 1).
    largest_bet
        Bets are cut here, in (0, 1).
    """

    def __init__(self, level: float = 0.95, largest_bet: float = 0.5) -> None:
        if not 0 < level < 1:
            msg = f"level is {level}, wanted a number in (0, 1)"
            raise ValueError(msg)
        self.n, self._cut = 0, largest_bet
        self._log = float(np.log(2.0 / (1.0 - level)))
        self._sum = self._squares = 0.0
        self._bets = self._bet_values = self._spent = 0.0

    def add(self, values: FloatArray) -> None:
        """Take in values (n,) in the order in which they came.

        Raises
        ------
        ValueError
            If one is out of [0, 1]; its place is named.
        """
        wrong = ~((values >= 0) & (values <= 1))
        if wrong.any():
            place = int(wrong.argmax())
            msg = f"values[{place}] is {values[place]}, wanted a number in [0, 1]"
            raise ValueError(msg)
        if not len(values):
            return
        at = self.n + np.arange(1, len(values) + 1)
        sums = self._sum + np.cumsum(values)
        means = (0.5 + sums) / (at + 1.0)
        squares = self._squares + np.cumsum((values - means) ** 2)
        variances = (0.25 + squares) / (at + 1.0)
        # Each bet and each centre is made of what came before its value.
        known_means = np.concatenate(([(0.5 + self._sum) / (self.n + 1.0)], means[:-1]))
        known = np.concatenate(([(0.25 + self._squares) / (self.n + 1.0)], variances[:-1]))
        bets = np.minimum(np.sqrt(2.0 * self._log / (known * at * np.log(1.0 + at))), self._cut)
        self._bets += float(bets.sum())
        self._bet_values += float((bets * values).sum())
        self._spent += float(((values - known_means) ** 2 * (-np.log1p(-bets) - bets)).sum())
        self.n, self._sum, self._squares = int(at[-1]), float(sums[-1]), float(squares[-1])

    def interval(self) -> tuple[float, float]:
        """Return the interval of now, inside [0, 1]."""
        if not self.n:
            return 0.0, 1.0
        centre, half = self._bet_values / self._bets, (self._log + self._spent) / self._bets
        return max(0.0, centre - half), min(1.0, centre + half)
