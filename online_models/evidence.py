"""Whether one model is better than another: a confidence sequence on the difference of their losses."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from online_models.arrays import FloatArray

FEWEST = 200
"""Outcomes before an interval is given: it rests on the central limit theorem."""
_TIGHTEST_AT = 5_000.0


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference and the interval that covers it at all times at once.

    Parameters
    ----------
    outcomes
        Differences behind it.
    mean
        Challenger's loss less champion's, in nats a slot; below 0 the challenger is better.
    low, high
        Ends of the interval; minus and plus infinity while there are too few outcomes.
    """

    outcomes: int
    mean: float
    low: float
    high: float

    @property
    def is_decided(self) -> bool:
        """Whether it leaves out zero."""
        return self.low > 0.0 or self.high < 0.0


class Comparison:
    """Running difference of two models' log losses, outcome by outcome.

    Slots of one outcome share a visitor and a moment, so an outcome is one observation: its mean difference.
    The interval is an asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas 2021,
    equation 5): it may be looked at after every outcome and acted upon at any time, and still errs with
    probability `alpha` in all. Under drift it covers the mean of the differences so far.
    """

    def __init__(self) -> None:
        self._outcomes, self._sum, self._squares = 0, 0.0, 0.0

    def update(self, differences: FloatArray) -> None:
        """Take in mean differences of outcomes, shape (n,): challenger's loss less champion's."""
        self._outcomes += len(differences)
        self._sum += float(differences.sum())
        self._squares += float(differences @ differences)

    def interval(self, alpha: float = 0.05) -> Interval:
        """Return the interval as of now, with an error probability `alpha` in (0, 1) over all times."""
        return pooled([self], alpha)

    def totals(self) -> dict[str, Any]:
        """State as JSON-ready values."""
        return {"outcomes": self._outcomes, "sum": self._sum, "squares": self._squares}

    @classmethod
    def restore(cls, totals: Mapping[str, Any]) -> Self:
        """Rebuild the comparison of `totals`."""
        one = cls()
        one._outcomes, one._sum = int(totals["outcomes"]), float(totals["sum"])
        one._squares = float(totals["squares"])
        return one


def pooled(parts: list[Comparison], alpha: float = 0.05) -> Interval:
    """Return the interval of several lanes' comparisons of the same two models together."""
    n = sum(part._outcomes for part in parts)
    total, squares = sum(part._sum for part in parts), sum(part._squares for part in parts)
    if n < FEWEST:
        return Interval(n, total / n if n else 0.0, -math.inf, math.inf)
    mean = total / n
    variance = max(squares / n - mean**2, 0.0)
    log_alpha = -2.0 * math.log(alpha)
    tightness = (log_alpha + math.log(log_alpha) + 1.0) / _TIGHTEST_AT
    grown = n * tightness + 1.0
    radius = math.sqrt(variance * 2.0 * grown / (n**2 * tightness) * math.log(math.sqrt(grown) / alpha))
    return Interval(n, mean, mean - radius, mean + radius)


def by_outcome(losses: FloatArray, owners: np.ndarray[Any, np.dtype[np.int64]], outcomes: int) -> FloatArray:
    """Return the mean (outcomes,) of rows' losses (n,) by the outcome (n,) each row belongs to."""
    counts = np.bincount(owners, minlength=outcomes)
    return np.bincount(owners, losses, outcomes) / np.maximum(counts, 1)
