"""Whether one version of something does worse than another, told at any time and as often as one looks."""

from dataclasses import dataclass

import numpy as np

from bandits.ope.intervals import Estimate

TUNED_AT = 1000
"""Rounds at which intervals are narrowest, relative to the best possible."""
FEWEST = 50.0
"""Rounds below which nothing is said: the sequences are asymptotic."""
_MISSED = 3.0
"""Rewards that chance may have kept back: without them rare rewards look far surer than they are."""


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

    @property
    def worth(self) -> float:
        """About what one reward is worth, the larger ones counting for more; 0 without rewards."""
        return self.squares / abs(self.total) if self.total else 0.0

    def interval(self, alpha: float, worth: float = 1.0) -> tuple[float, float]:
        """Return an interval that holds the mean at all looks together, but for a chance of `alpha`.

        Everything, where there are too few rounds.

        Parameters
        ----------
        alpha
            In (0, 1).
        worth
            Of a single reward, where rewards are rare.
        """
        if self.n < FEWEST:
            return -np.inf, np.inf
        seen = max(0.0, self.squares / self.n - self.mean**2)
        error = float(np.sqrt((seen + _MISSED * worth**2 / self.n) / self.n))
        told = Estimate("mean", self.mean, error, int(self.n), np.empty(0))
        return told.confidence_sequence(1.0 - alpha, TUNED_AT)


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
    worth = max(now.worth, before.worth) or 1.0
    highest, lowest = now.interval(alpha / 2.0, worth)[1], before.interval(alpha / 2.0, worth)[0]
    return bool(highest < (1.0 - by) * lowest)


def is_above(successes: float, n: float, most: float, alpha: float) -> bool:
    """Return whether a share is surely above `most`, said wrongly with a chance of at most `alpha`."""
    return bool(Sums(n, successes, successes).interval(alpha)[0] > most)
