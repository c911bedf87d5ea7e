"""What a slate is drawn from, checked."""

from dataclasses import dataclass

import numpy as np

from bandits.arrays import FloatArray, IntArray, is_finite
from bandits.diversity import Diversity
from bandits.rules import SlotRule


@dataclass(frozen=True, slots=True)
class SlateProblem:
    """What a slate is drawn from.

    Parameters
    ----------
    scores
        Of K candidates, optimism included (`Exploration.utilities`), finite, shape (K,).
    size
        Slots wanted, >= 0; the slate is shorter where fewer candidates are eligible.
    explore_weights
        Of the law of exploration q, proportional, >= 0, shape (K,); None for uniform. Where all that is left
        weighs nothing, q is uniform.
    rule
        Says who is eligible; None for everybody.
    diversity
        What likeness to those already placed takes off a score; None for nothing.
    pinned
        Candidates whose places in the slate are given, shape (p,): they are not drawn, and rule and diversity
        take them for placed before every slot; None for nobody.

    Raises
    ------
    ValueError
        If a score is not finite (the index is named), a weight negative, the size negative or lengths differ.
    """

    scores: FloatArray
    size: int
    explore_weights: FloatArray | None = None
    rule: SlotRule | None = None
    diversity: Diversity | None = None
    pinned: IntArray | None = None

    def __post_init__(self) -> None:
        if self.scores.ndim != 1:
            msg = f"scores has shape {self.scores.shape}, wanted (K,)"
            raise ValueError(msg)
        if len(self.scores) and not is_finite(self.scores):
            index = int(np.isfinite(self.scores).argmin())
            msg = f"scores[{index}] is {self.scores[index]}, wanted a finite number"
            raise ValueError(msg)
        if self.size < 0:
            msg = f"size is {self.size}, wanted at least 0"
            raise ValueError(msg)
        if self.explore_weights is not None:
            self._check_weights(self.explore_weights)

    def _check_weights(self, weights: FloatArray) -> None:
        if weights.shape != self.scores.shape:
            msg = f"explore_weights has shape {weights.shape}, wanted {self.scores.shape}: one for each score"
            raise ValueError(msg)
        if len(weights) and not (weights[weights.argmin()] >= 0 and is_finite(weights)):
            index = int((~((weights >= 0) & (weights < np.inf))).argmax())
            msg = f"explore_weights[{index}] is {weights[index]}, wanted a finite number >= 0"
            raise ValueError(msg)
