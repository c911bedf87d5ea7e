"""Progressive validation: every prediction is judged before its outcome is learnt."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import FloatArray

_CLIP = 1e-12
_BINS, _WIDTH = 96, 0.25
"""Probabilities are counted by their log odds, in bins of this width around 0."""
_GROUPS = 10


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
    window_rows
        Weight of the rows the following look at: each counts less by a factor e after `window` more rows.
    window_log_loss, window_auc
        Mean log loss of the latest rows, and their area under the ROC curve (nan while one class is missing).
    calibration
        Sum of probabilities / sum of clicks over the latest rows; 1 is right, above 1 promises too much.
    calibration_error
        Expected calibration error over the latest rows, ten bins of about equal size, in 0..1.
    """

    rows: int
    log_loss: float
    base_log_loss: float
    window_rows: float
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


class Prequential:
    """Running judgement of probabilities against clicks, in bounded memory.

    Parameters
    ----------
    window
        Rows over which the windowed measures forget by a factor e, > 0.

    Examples
    --------
    >>> judge = Prequential(window=400)
    >>> judge.update(np.array([0.9, 0.1, 0.8, 0.2]), np.array([1.0, 0.0, 1.0, 0.0]))
    >>> judge.report().window_auc
    1.0
    """

    def __init__(self, window: int = 20_000) -> None:
        if window < 1:
            msg = f"window is {window}, wanted a whole number > 0"
            raise ValueError(msg)
        self.window = window
        self._rows, self._loss, self._clicks = 0, 0.0, 0.0
        self._recent_loss = 0.0
        # Rows, probabilities and clicks of the latest rows by bin.
        self._bins: FloatArray = np.zeros((3, _BINS))

    def update(self, probabilities: FloatArray, clicks: FloatArray, losses: FloatArray | None = None) -> None:
        """Judge a batch; all of shape (n,), probabilities made before any of these clicks was learnt."""
        losses = log_losses(probabilities, clicks) if losses is None else losses
        loss, kept = float(losses.sum()), math.exp(-len(clicks) / self.window)
        self._rows += len(clicks)
        self._loss += loss
        self._clicks += float(clicks.sum())
        self._recent_loss = self._recent_loss * kept + loss
        places = _places(probabilities)
        self._bins *= kept
        self._bins[0] += np.bincount(places, minlength=_BINS)
        self._bins[1] += np.bincount(places, probabilities, _BINS)
        self._bins[2] += np.bincount(places, clicks, _BINS)

    @property
    def rows(self) -> int:
        """Rows judged."""
        return self._rows

    @property
    def click_rate(self) -> float:
        """Clicks of the latest rows over their number; nan where there are none."""
        rows, _, clicks = self._bins.sum(axis=1).tolist()
        return clicks / rows if rows else math.nan

    def rate_from(self, prior: float, weight: float) -> float:
        """Share of the latest rows that were clicked, with a prior rate that counts for `weight` > 0 rows."""
        rows, _, clicks = self._bins.sum(axis=1).tolist()
        rate: float = (clicks + weight * prior) / (rows + weight)
        return rate

    def report(self) -> Report:
        """Measures so far; nan where nothing was judged."""
        rate = self._clicks / self._rows if self._rows else math.nan
        rows, promised, clicked = self._bins.sum(axis=1).tolist()
        return Report(
            rows=self._rows,
            log_loss=self._loss / self._rows if self._rows else math.nan,
            base_log_loss=float(log_losses(np.array([rate]), np.array([rate]))[0]),
            window_rows=rows,
            window_log_loss=self._recent_loss / rows if rows else math.nan,
            window_auc=_roc_auc(self._bins[0] - self._bins[2], self._bins[2]),
            calibration=promised / clicked if clicked else math.nan,
            calibration_error=_calibration_error(self._bins),
        )

    def snapshot(self) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """State as counts by bin (3, bins) and JSON-ready values."""
        meta = {
            "window": self.window,
            "rows": self._rows,
            "loss": self._loss,
            "clicks": self._clicks,
            "recent_loss": self._recent_loss,
        }
        return self._bins.copy(), meta

    @classmethod
    def restore(cls, bins: NDArray[np.float64], meta: Mapping[str, Any]) -> Self:
        """Rebuild the judgement of a snapshot, to the last bit."""
        judge = cls(meta["window"])
        judge._bins = np.array(bins, np.float64)
        judge._rows, judge._loss = int(meta["rows"]), float(meta["loss"])
        judge._clicks, judge._recent_loss = float(meta["clicks"]), float(meta["recent_loss"])
        return judge


def _places(probabilities: FloatArray) -> NDArray[np.int64]:
    kept = np.clip(probabilities, _CLIP, 1.0 - _CLIP)
    places = np.floor(np.log(kept / (1.0 - kept)) / _WIDTH).astype(np.int64) + _BINS // 2
    return np.clip(places, 0, _BINS - 1)


def _roc_auc(negatives: FloatArray, positives: FloatArray) -> float:
    """Area under the ROC curve of counts by bin, pairs inside a bin counted half."""
    pairs = float(negatives.sum() * positives.sum())
    if pairs <= 0:
        return math.nan
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2.0)).sum()) / pairs


def _calibration_error(bins: FloatArray) -> float:
    """Mean distance of probability and click rate over groups of neighbouring bins of about equal size."""
    rows, promised, clicked = bins
    total = float(rows.sum())
    if total <= 0:
        return math.nan
    groups = np.minimum((np.cumsum(rows) - rows / 2.0) / total * _GROUPS, _GROUPS - 1).astype(np.int64)
    gaps = np.bincount(groups, promised, _GROUPS) - np.bincount(groups, clicked, _GROUPS)
    return float(np.abs(gaps).sum()) / total
