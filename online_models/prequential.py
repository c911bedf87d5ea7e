"""Progressive validation: every prediction is judged before its outcome is learnt."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import FloatArray

_CLIP = 1e-12


@dataclass(frozen=True, slots=True)
class Report:
    """What a stream of predictions was worth.

    Parameters
    ----------
    rows
        Predictions judged since the start.
    log_loss, base_log_loss
        Mean since the start of the model's log loss, and of the entropy of the overall click rate: a model
        worth anything is below it.
    window_rows, window_log_loss, window_auc
        The same over the latest rows, and their area under the ROC curve (nan while one class is missing).
    calibration
        Sum of probabilities / sum of clicks over the latest rows; 1 is right, above 1 promises too much.
    calibration_error
        Expected calibration error over the latest rows, ten bins of equal size, in 0..1.
    """

    rows: int
    log_loss: float
    base_log_loss: float
    window_rows: int
    window_log_loss: float
    window_auc: float
    calibration: float
    calibration_error: float

    def as_dict(self) -> dict[str, float]:
        """Give the report as JSON-ready values."""
        return asdict(self)


def log_losses(probabilities: FloatArray, clicks: FloatArray) -> FloatArray:
    """Log loss of each row, shape (n,); probabilities are kept `1e-12` away from 0 and 1."""
    p = np.clip(probabilities, _CLIP, 1.0 - _CLIP)
    return -(clicks * np.log(p) + (1.0 - clicks) * np.log1p(-p))


def roc_auc(probabilities: FloatArray, clicks: FloatArray) -> float:
    """Area under the ROC curve by ranks, ties counted half; nan when only one class is there."""
    positives = int(np.count_nonzero(clicks > 0.5))
    negatives = len(clicks) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    _, inverse, counts = np.unique(probabilities, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2.0
    rank_sum = float(ranks[inverse][clicks > 0.5].sum())
    return (rank_sum - positives * (positives + 1) / 2.0) / (positives * negatives)


def calibration_error(probabilities: FloatArray, clicks: FloatArray, bins: int = 10) -> float:
    """Mean distance of probability and click rate over `bins` groups of rows sorted by probability."""
    if len(clicks) == 0:
        return float("nan")
    order = np.argsort(probabilities, kind="stable")
    groups = [group for group in np.array_split(order, bins) if len(group)]
    gaps = [abs(float(probabilities[g].mean() - clicks[g].mean())) * len(g) for g in groups]
    return sum(gaps) / len(clicks)


class Prequential:
    """Running judgement of probabilities against clicks.

    Parameters
    ----------
    window
        Latest rows the windowed measures look at, > 0.

    Examples
    --------
    >>> judge = Prequential(window=4)
    >>> judge.update(np.array([0.9, 0.1, 0.8, 0.2]), np.array([1.0, 0.0, 1.0, 0.0]))
    >>> judge.report().window_auc
    1.0
    """

    def __init__(self, window: int = 20_000) -> None:
        if window < 1:
            msg = f"window is {window}, wanted a whole number > 0"
            raise ValueError(msg)
        self._ring: NDArray[np.float64] = np.zeros((2, window))
        self._rows, self._loss, self._clicks = 0, 0.0, 0.0
        self._seen = 0

    def update(self, probabilities: FloatArray, clicks: FloatArray) -> None:
        """Judge a batch; both of shape (n,), probabilities made before any of these clicks was learnt."""
        self._loss += float(log_losses(probabilities, clicks).sum())
        self._clicks += float(clicks.sum())
        window = self._ring.shape[1]
        kept = min(window, len(clicks))
        places = (self._seen + len(clicks) - kept + np.arange(kept)) % window
        self._ring[0, places], self._ring[1, places] = probabilities[-kept:], clicks[-kept:]
        self._rows += len(clicks)
        self._seen += len(clicks)

    def report(self) -> Report:
        """Measures so far; nan where nothing was judged."""
        held = min(self._seen, self._ring.shape[1])
        p, y = self._ring[0, :held], self._ring[1, :held]
        rate = self._clicks / self._rows if self._rows else float("nan")
        return Report(
            rows=self._rows,
            log_loss=self._loss / self._rows if self._rows else float("nan"),
            base_log_loss=float(log_losses(np.array([rate]), np.array([rate]))[0]),
            window_rows=held,
            window_log_loss=float(log_losses(p, y).mean()) if held else float("nan"),
            window_auc=roc_auc(p, y),
            calibration=float(p.sum() / y.sum()) if y.any() else float("nan"),
            calibration_error=calibration_error(p, y),
        )

    def totals(self) -> dict[str, float]:
        """Give the sums since the start, JSON-ready; the window is not kept across restarts."""
        return {"rows": self._rows, "loss": self._loss, "clicks": self._clicks}

    def resume(self, totals: dict[str, float]) -> None:
        """Go on from `totals` with an empty window."""
        self._rows, self._seen = int(totals["rows"]), 0
        self._loss, self._clicks = float(totals["loss"]), float(totals["clicks"])
