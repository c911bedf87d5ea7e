"""The retrieval blend: one linear weight vector over all sources, learnt listwise from clicks."""

import math
from dataclasses import dataclass

import numpy as np

from online_models import _blend_loops as loops
from online_models.arrays import FloatArray

FEATURES = loops.FEATURES


@dataclass(frozen=True, slots=True)
class BlendSettings:
    """How the blend learns.

    Parameters
    ----------
    prior
        Precision of the prior around the first weights, in lessons, > 0.
    memory
        Lessons over which the curvature of older lessons is forgotten by a factor e, > 0.
    """

    prior: float = 30.0
    memory: float = 20_000.0


class Blend:
    """Linear listwise-softmax ranker over `FEATURES`.

    The probability that a candidate is the next click is its share of exp(inputs @ weights) (Cao et al. 2007,
    ListNet with top-one probabilities; a conditional logit).

    Parameters
    ----------
    settings
        See `BlendSettings`.
    """

    def __init__(self, settings: BlendSettings) -> None:
        self.settings = settings
        self.weights = np.zeros(len(FEATURES))
        for name in ("knn_log", "covisit_log"):
            self.weights[FEATURES.index(name)] = 3.0
        self.precision = np.eye(len(FEATURES)) * settings.prior
        self._keep = math.exp(-1.0 / settings.memory)
        self.lessons = 0

    def learn(self, inputs: FloatArray, target: int) -> float:
        """Learn one choice: row `target` of `inputs`, shape (n, F), was clicked; return the loss before it."""
        loss = loops.newton_step(inputs, target, self.weights, self.precision, self._keep)
        self.lessons += 1
        return loss
