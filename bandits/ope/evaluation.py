"""Evaluating a policy over a stream of logged rounds, in memory that does not grow with it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bandits.ope.bootstrap import PoissonBootstrap
from bandits.ope.diagnostics import Diagnostics, Gates, diagnose
from bandits.ope.estimators import FORMULAS, STATISTICS, UNSUPPORTED, WEIGHT, Tuning
from bandits.ope.intervals import Estimate
from bandits.ope.moments import Moments
from bandits.ope.rounds import Rounds

ALWAYS_SHOWN = ("dros",)
"""What is shown of a log that fails the gates: its weights are bounded, and its worst case is the mildest."""

_CHUNK = 4096
"""Rounds taken in at once, so that memory does not follow the length of a log."""


@dataclass(frozen=True, slots=True)
class Report:
    """What may be shown of an evaluation.

    Parameters
    ----------
    is_decidable
        Whether the log passed the gates.
    reasons
        Why not, one sentence each.
    estimates
        By name: all where decidable, else only those of `ALWAYS_SHOWN`.
    diagnostics
        Of the log's weights.
    """

    is_decidable: bool
    reasons: tuple[str, ...]
    estimates: Mapping[str, Estimate]
    diagnostics: Diagnostics


class Evaluation:
    """Estimates of a target policy's reward per round.

    Parameters
    ----------
    tuning
        Where weights are cut or shrunk.
    gates
        What the log must pass.
    replicates
        Of the bootstrap; 0 for none.
    seed
        Of the bootstrap.
    """

    def __init__(
        self, tuning: Tuning | None = None, gates: Gates | None = None, replicates: int = 0, seed: int = 0
    ) -> None:
        self.tuning, self.gates = tuning or Tuning(), gates or Gates()
        self._moments = Moments(STATISTICS)
        self._bootstrap = PoissonBootstrap(replicates, STATISTICS, seed)
        self._largest = 0.0

    def add(self, rounds: Rounds) -> None:
        """Take in logged rounds; how a log is cut into calls changes estimates by rounding only.

        Replicates of the bootstrap depend on the cut as on another seed.
        """
        for start in range(0, len(rounds), _CHUNK):
            statistics = self.tuning.statistics(rounds, slice(start, start + _CHUNK))
            self._largest = float(statistics[:, WEIGHT].max(initial=self._largest))
            self._moments.add(statistics)
            self._bootstrap.add(statistics)

    def estimates(self) -> dict[str, Estimate]:
        """Return all estimates by name, whether or not the log can bear them (`report` knows)."""
        means = self._bootstrap.means()
        return {
            name: Estimate(
                name,
                float(formula.value(self._moments.mean)),
                formula.standard_error(self._moments),
                self._moments.n,
                formula.value(means),
            )
            for name, formula in FORMULAS.items()
        }

    def diagnostics(self) -> Diagnostics:
        """Return the health of the weights seen so far."""
        mean, variance = self._moments.mean, np.diagonal(self._moments.covariance)
        return diagnose(
            self._moments.n,
            float(mean[WEIGHT]),
            float(variance[WEIGHT]),
            self._largest,
            float(mean[UNSUPPORTED]),
        )

    def report(self) -> Report:
        """Return what may be shown: everything, or what is robust and why the rest is withheld."""
        diagnostics, estimates = self.diagnostics(), self.estimates()
        reasons = self.gates.reasons(diagnostics)
        shown = {name: one for name, one in estimates.items() if not reasons or name in ALWAYS_SHOWN}
        return Report(not reasons, reasons, shown, diagnostics)
