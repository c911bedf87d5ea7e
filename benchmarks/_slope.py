"""How a measured series changes with time, and how sure that is."""

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike
from scipy import stats

HOUR_S = 3_600.0
BLOCKS = 24
WARM_SHARE = 1 / 3


class Slope(Struct, frozen=True):
    """A straight line through a series, the warm-up left out.

    Attributes
    ----------
    mean
        Of the series.
    per_hour, low, high
        Change an hour with its 95 % interval, in the series' unit.
    share_per_hour
        Change an hour as a share of the mean.
    samples
        Of the series, warm-up included.
    """

    mean: float
    per_hour: float
    low: float
    high: float
    share_per_hour: float
    samples: int

    @property
    def is_flat(self) -> bool:
        """Return whether no growth is seen: the interval reaches down to zero."""
        return self.low <= 0.0


def slope(times_s: ArrayLike, values: ArrayLike, blocks: int = BLOCKS) -> Slope:
    """Return the slope of a series by least squares on the means of equal stretches of it.

    Neighbouring samples are alike; means of stretches are less so, and the interval is honest about how many
    there are.

    Parameters
    ----------
    times_s, values
        Of the samples, n, in order of time.
    blocks
        Stretches, at least three.

    Raises
    ------
    ValueError
        If there are too few samples.
    """
    times, series = np.asarray(times_s, float), np.asarray(values, float)
    start = int(len(times) * WARM_SHARE)
    at, found = times[start:], series[start:]
    count = min(blocks, len(at))
    if count < 3:
        raise ValueError(f"{len(times)} samples; wished: at least three")
    hours = np.array([part.mean() for part in np.array_split(at, count)]) / HOUR_S
    means = np.array([part.mean() for part in np.array_split(found, count)])
    line = stats.linregress(hours, means)
    half = float(stats.t.ppf(0.975, count - 2) * line.stderr)
    mean, change = float(found.mean()), float(line.slope)
    share = change / mean if mean else 0.0
    return Slope(mean, change, change - half, change + half, share, len(times))
