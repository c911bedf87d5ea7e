"""Whether one version of something does worse than another, told at any time and as often as one looks."""

from dataclasses import dataclass

import numpy as np

from bandits.ope.sequences import robbins

TUNED_AT = 1000.0
"""Rounds at which intervals are narrowest, relative to the best possible."""
FEWEST = 50.0
"""Rounds below which nothing is said: the sequences are asymptotic."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Rewards of independent rounds: how many, their sum and the sum of their squares."""

    n: float
    total: float
    squares: float

    @property
    def mean(self) -> float:
        """Mean reward; 0 without rounds."""
        return self.total / self.n if self.n else 0.0

    def interval(self, alpha: float) -> tuple[float, float]:
        """Return an interval that holds the mean at all looks together, but for a chance of `alpha`.

        Everything, where there are too few rounds.
        """
        if self.n < FEWEST:
            return -np.inf, np.inf
        variance = max(0.0, self.squares / self.n - self.mean**2)
        # Without any spread seen, a round or so of another reward may still be hidden.
        spread = np.sqrt(max(variance, 1.0 / self.n**2) / self.n)
        half = robbins(self.n, 1.0 - alpha, TUNED_AT) * spread
        return self.mean - half, self.mean + half


def is_worse(now: Sums, before: Sums, by: float, alpha: float) -> bool:
    """Return whether the mean of `now` is surely below that of `before` by more than a share of it.

    Parameters
    ----------
    now, before
        Rewards under both versions.
    by
        Share of the mean before that may be lost, >= 0.
    alpha
        Chance of saying so wrongly, however often one looks, in (0, 1).
    """
    highest, lowest = now.interval(alpha / 2.0)[1], before.interval(alpha / 2.0)[0]
    return bool(highest < (1.0 - by) * lowest)


def is_above(successes: float, n: float, most: float, alpha: float) -> bool:
    """Return whether a share is surely above `most`, said wrongly with a chance of at most `alpha`."""
    return bool(Sums(n, successes, successes).interval(alpha)[0] > most)
