"""Correction of a model's calibration, learnt online from its own predictions (Platt 1999)."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import FloatArray
from online_models.scorer import sigmoid

_SLOPES = (0.2, 5.0)


@dataclass(frozen=True, slots=True)
class CorrectionSettings:
    """How fast a correction follows.

    Parameters
    ----------
    after
        Rows before the first correction, >= 0: a model that has only begun mends its own calibration within
        its first thousands of rows, and both at once would mend it twice.
    memory
        Rows over which older rows are forgotten by a factor e, > 0.
    slope_prior, shift_prior
        Precision of the prior that nothing needs to be corrected, > 0. A row at a click rate of 5 % adds .43
        to the slope's and .05 to the shift's: both count for some 200 rows.
    """

    after: int = 10_000
    memory: float = 50_000.0
    slope_prior: float = 100.0
    shift_prior: float = 10.0

    def __post_init__(self) -> None:
        for name in ("memory", "slope_prior", "shift_prior"):
            if not getattr(self, name) > 0:
                msg = f"{name} is {getattr(self, name)}, wanted a number > 0"
                raise ValueError(msg)


class Correction:
    """Slope and shift of logits, by one Newton step a batch of a logistic regression that forgets.

    A slope above 0 leaves the order of candidates alone; what changes is how far the numbers can be believed:
    by the policy, which adds to them, and by heads, whose probabilities are weighed against each other.

    Parameters
    ----------
    settings
        See `CorrectionSettings`.
    """

    def __init__(self, settings: CorrectionSettings | None = None) -> None:
        self.settings = settings or CorrectionSettings()
        self._prior: FloatArray = np.diag([self.settings.slope_prior, self.settings.shift_prior])
        self._precision = self._prior.copy()
        self._rows = 0
        self._said = asdict(self.settings)
        self.values: FloatArray = np.array([1.0, 0.0])

    def apply(self, logits: FloatArray) -> FloatArray:
        """Corrected logits, shape (n,)."""
        slope, shift = self.values.tolist()
        return logits * float(slope) + float(shift)

    def learn(self, logits: FloatArray, clicks: FloatArray) -> None:
        """Learn from raw logits made before these clicks were learnt, both of shape (n,)."""
        self._rows += len(logits)
        if self._rows <= self.settings.after:
            return
        p = sigmoid(self.apply(logits))
        weights, errors = p * (1.0 - p), clicks - p
        kept = math.exp(-len(clicks) / self.settings.memory)
        weighted = weights * logits
        seen = np.array(
            [[float(weighted @ logits), float(weighted.sum())], [float(weighted.sum()), float(weights.sum())]]
        )
        self._precision = kept * self._precision + (1.0 - kept) * self._prior + seen
        pull = (1.0 - kept) * self._prior @ (np.array([1.0, 0.0]) - self.values)
        gradient = np.array([float(errors @ logits), float(errors.sum())]) + pull
        step = _solved(self._precision, gradient)
        self.values = self.values + step
        self.values[0] = min(max(self.values[0], _SLOPES[0]), _SLOPES[1])

    def snapshot(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """State as arrays and JSON-ready values."""
        meta = {"settings": self._said, "rows": self._rows}
        return {"correction": self.values.copy(), "correction_precision": self._precision.copy()}, meta

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        """Rebuild the correction of a snapshot, to the last bit."""
        correction = cls(CorrectionSettings(**meta["settings"]))
        correction._rows = int(meta["rows"])
        correction.values = np.array(arrays["correction"], np.float64)
        correction._precision = np.array(arrays["correction_precision"], np.float64)
        return correction


def _solved(matrix: FloatArray, vector: FloatArray) -> FloatArray:
    (a, b), (_, d) = matrix.tolist()
    u, v = vector.tolist()
    size = a * d - b * b
    return np.array([(d * u - b * v) / size, (a * v - b * u) / size])
