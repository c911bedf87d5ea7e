"""Off-policy evaluation: what another policy would have earned, from this one's log, or why none can tell."""

from bandits.ope.calibration import Calibration
from bandits.ope.diagnostics import Diagnostics, Gates
from bandits.ope.estimators import Tuning
from bandits.ope.evaluation import Evaluation, Report
from bandits.ope.intervals import Estimate
from bandits.ope.marginals import placement_marginals
from bandits.ope.pseudo_inverse import SlateLaw, enumerate_slates
from bandits.ope.rounds import Rounds
from bandits.ope.sequences import BernsteinSequence
from bandits.ope.slates import SlateEvaluation, SlateRounds
from bandits.ope.strata import CoinCell, Forecast, forecast

__all__ = [
    "BernsteinSequence",
    "Calibration",
    "CoinCell",
    "Diagnostics",
    "Estimate",
    "Evaluation",
    "Forecast",
    "Gates",
    "Report",
    "Rounds",
    "SlateEvaluation",
    "SlateLaw",
    "SlateRounds",
    "Tuning",
    "enumerate_slates",
    "forecast",
    "placement_marginals",
]
