"""Drift of a model on the live stream, watched by ADWIN (Bifet, Gavalda 2007)."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from online_models.adwin import Adwin
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
        self._error, self._loss = Adwin(delta), Adwin(delta)
        self._pending: FloatArray = np.zeros((2, 0))
        self.calibration_alarms = 0
        self.loss_alarms = 0

    def update(self, probabilities: FloatArray, clicks: FloatArray, losses: FloatArray | None = None) -> bool:
        """Watch a batch of predictions, all of shape (n,); True when something got worse in it."""
        losses = log_losses(probabilities, clicks) if losses is None else losses
        rows = np.concatenate([self._pending, [clicks - probabilities, losses]], axis=1)
        whole = rows.shape[1] // self.chunk * self.chunk
        self._pending = rows[:, whole:].copy()
        before = self.alarms
        for error, loss in rows[:, :whole].reshape(2, -1, self.chunk).mean(axis=2).T.tolist():
            self.calibration_alarms += _rose(self._error, error)
            self.loss_alarms += _rose(self._loss, loss)
        return self.alarms > before

    @property
    def alarms(self) -> int:
        """Alarms of both kinds so far."""
        return self.calibration_alarms + self.loss_alarms

    @property
    def mean_error(self) -> float:
        """Mean of click minus probability since the last change, in -1..1."""
        return self._error.mean

    @property
    def mean_loss(self) -> float:
        """Mean log loss since the last change."""
        return self._loss.mean

    def snapshot(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """State as arrays and JSON-ready values."""
        error, error_meta = self._error.snapshot()
        loss, loss_meta = self._loss.snapshot()
        meta = {
            "chunk": self.chunk,
            "error": error_meta,
            "loss": loss_meta,
            "alarms": [self.calibration_alarms, self.loss_alarms],
        }
        return {"error": error, "loss": loss, "pending": self._pending}, meta

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        """Rebuild the watch of a snapshot, to the last bit."""
        watch = cls(meta["error"]["delta"], meta["chunk"])
        watch._error = Adwin.restore(arrays["error"], meta["error"])
        watch._loss = Adwin.restore(arrays["loss"], meta["loss"])
        watch._pending = np.array(arrays["pending"], np.float64)
        watch.calibration_alarms, watch.loss_alarms = meta["alarms"]
        return watch


def _rose(adwin: Adwin, value: float) -> bool:
    before = abs(adwin.mean)
    # ADWIN also cuts when the mean falls towards zero, which is the model learning, not the world moving.
    return adwin.update(value) and abs(adwin.mean) > before
