"""Off-policy evaluation: what another policy would have earned, from this one's log, or why none can tell."""

from bandits.ope.diagnostics import Diagnostics, Gates
from bandits.ope.estimators import Tuning
from bandits.ope.evaluation import Evaluation, Report
from bandits.ope.intervals import Estimate
from bandits.ope.rounds import Rounds
from bandits.ope.slates import SlateEvaluation, SlateRounds

__all__ = [
    "Diagnostics",
    "Estimate",
    "Evaluation",
    "Gates",
    "Report",
    "Rounds",
    "SlateEvaluation",
    "SlateRounds",
    "Tuning",
]
