"""Whether a log can tell at all: the health of its weights, and gates that refuse."""

from dataclasses import dataclass

import numpy as np

from bandits.ope.intervals import normal_width


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """The weights of a log.

    Parameters
    ----------
    n
        Rounds.
    effective
        Effective sample size (sum w)^2 / sum w^2, in rounds.
    largest_weight
        Greatest w.
    largest_share
        Its share of the sum of all weights, in [0, 1].
    mean_weight, mean_weight_error
        Mean of w, which is 1 but for chance where propensities are right and supported; and its standard
        error.
    unsupported
        Mean mass that the target gives to what the log could not show, in [0, 1]; 0 where it was not logged.

    References
    ----------
    Kong (1992), "A note on importance sampling using standardized weights".
    """

    n: int
    effective: float
    largest_weight: float
    largest_share: float
    mean_weight: float
    mean_weight_error: float
    unsupported: float


@dataclass(frozen=True, slots=True)
class Gates:
    """What a log must pass before an estimate that trusts its weights is shown.

    Parameters
    ----------
    least_effective
        Effective sample size, in rounds.
    least_effective_share
        The same as a share of all rounds; the stricter of both counts.
    largest_share
        Greatest share of the weights that one round may have.
    mean_weight_level
        Level of the interval around the mean weight that must contain 1.
    largest_unsupported
        Greatest mean mass without support.
    """

    least_effective: float = 200.0
    least_effective_share: float = 0.01
    largest_share: float = 0.05
    mean_weight_level: float = 0.99
    largest_unsupported: float = 0.01

    def reasons(self, seen: Diagnostics) -> tuple[str, ...]:
        """Return why a log cannot tell, one sentence each; empty if it can."""
        least = max(self.least_effective, self.least_effective_share * seen.n)
        error = normal_width(self.mean_weight_level) * seen.mean_weight_error
        mean = f"{seen.mean_weight:.4g} +- {error:.2g}"
        found = (
            (
                seen.effective < least,
                f"effective sample size is {seen.effective:.1f}, wanted {least:g} or more",
            ),
            (
                seen.largest_share > self.largest_share,
                f"one round has {seen.largest_share:.1%} of the weight, wanted {self.largest_share:.1%}",
            ),
            (
                not abs(seen.mean_weight - 1.0) <= error,
                f"mean weight is {mean}, wanted 1 inside: propensities are wrong or lack support",
            ),
            (
                seen.unsupported > self.largest_unsupported,
                f"{seen.unsupported:.1%} of the target is unsupported, wanted {self.largest_unsupported:.1%}",
            ),
        )
        return tuple(reason for fails, reason in found if fails)


def diagnose(n: int, mean: float, variance: float, largest: float, unsupported: float) -> Diagnostics:
    """Return the diagnostics of n weights with this mean, sample variance and greatest one."""
    square = variance * (n - 1) / n + mean * mean if n else 0.0
    return Diagnostics(
        n=n,
        effective=n * mean * mean / square if square > 0 else 0.0,
        largest_weight=largest,
        largest_share=largest / (n * mean) if n * mean > 0 else 1.0,
        mean_weight=mean,
        mean_weight_error=float(np.sqrt(variance / n)) if n > 1 else float("inf"),
        unsupported=unsupported,
    )
