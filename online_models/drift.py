"""Drift of a model on the live stream, watched by ADWIN (Bifet, Gavalda 2007)."""

from typing import Any

import numpy as np
from river import drift

from online_models.arrays import FloatArray
from online_models.prequential import log_losses


class DriftWatch:
    """Tells when a model's calibration or its loss has got worse.

    A calibrated model's errors (click minus probability) average to zero whatever the click rate does: a
    change of their mean away from zero says that the world moved. Taste can turn without moving that mean;
    then the log loss rises. Both are averaged over chunks first, at the cost of two ADWIN updates a chunk.

    Parameters
    ----------
    delta
        ADWIN's confidence: chance of a false alarm, in (0, 1).
    chunk
        Rows averaged into one observation, > 0.
    """

    def __init__(self, delta: float = 0.002, chunk: int = 64) -> None:
        if not 0 < delta < 1 or chunk < 1:
            msg = f"delta, chunk are {delta}, {chunk}, wanted 0 < delta < 1 and chunk > 0"
            raise ValueError(msg)
        self.chunk = chunk
        self._error, self._loss = _adwin(delta), _adwin(delta)
        self._pending = np.zeros((2, 0))
        self.calibration_alarms = 0
        self.loss_alarms = 0

    def update(self, probabilities: FloatArray, clicks: FloatArray) -> bool:
        """Watch a batch of predictions, both of shape (n,); True when something got worse in it."""
        rows = np.stack([clicks - probabilities, log_losses(probabilities, clicks)])
        rows = np.concatenate([self._pending, rows], axis=1)
        whole = rows.shape[1] // self.chunk * self.chunk
        self._pending = rows[:, whole:]
        before = self.calibration_alarms + self.loss_alarms
        for error, loss in rows[:, :whole].reshape(2, -1, self.chunk).mean(axis=2).T.tolist():
            self.calibration_alarms += _rose(self._error, error)
            self.loss_alarms += _rose(self._loss, loss)
        return self.calibration_alarms + self.loss_alarms > before

    @property
    def mean_error(self) -> float:
        """Mean of click minus probability since the last change, in -1..1."""
        return float(self._error.estimation)

    @property
    def mean_loss(self) -> float:
        """Mean log loss since the last change."""
        return float(self._loss.estimation)


def _adwin(delta: float) -> Any:
    # River's class is untyped; its numbers are converted where they are read.
    make: Any = drift.ADWIN
    return make(delta=delta)


def _rose(adwin: Any, value: float) -> bool:
    before = abs(adwin.estimation)
    adwin.update(value)
    # ADWIN also fires when the mean falls towards zero, which is the model learning, not the world moving.
    return bool(adwin.drift_detected) and abs(adwin.estimation) > before
