"""Probability of each of several independent random numbers to be the largest: Thompson sampling, solved.

P(a is best) is the integral of a's density times the others' distribution functions. On an even grid the
trapezoid rule converges exponentially for such smooth integrands; and what is drawn from and logged is what
was computed here, so that propensities are exact whatever the grid.
"""

import numpy as np
from scipy.special import betainc, betaincinv, betaln, expit, log_expit, log_ndtr, logit, logsumexp, polygamma

from bandits.arrays import FloatArray

_FINEST, _COARSEST = 400, 48
_STEP = 0.6
"""Of the grid, in the smallest standard deviation."""

_TAIL = 8.0
"""Standard deviations of the largest number covered."""

_NEVER = -690.0
_LOG_ROOT_TWO_PI = 0.5 * np.log(2.0 * np.pi)


def of_normals(mean: FloatArray, deviation: FloatArray) -> FloatArray:
    """Return log probabilities that each of N(mean, deviation^2) is the largest, shape (K,); finite."""
    if not len(mean):
        return mean
    deviation = np.maximum(deviation, 1e-9)
    low, high = (mean - _TAIL * deviation).max(), (mean + _TAIL * deviation).max()
    grid = _grid(low, high, float(deviation.min()))
    z = (grid[:, None] - mean) / deviation
    return _log_best(-0.5 * z * z - np.log(deviation) - _LOG_ROOT_TWO_PI, log_ndtr(z))


def of_betas(gain: FloatArray, loss: FloatArray) -> FloatArray:
    """Return log probabilities that each of Beta(gain, loss) is the largest, shape (K,); finite.

    Integrated over the logit, where densities are smooth whatever the parameters.
    """
    if not len(gain):
        return gain
    ends = np.array([1e-12, 1.0 - 1e-12])[:, None]
    low, high = np.clip(logit(betaincinv(gain, loss, ends)), -600.0, 36.0).max(axis=1)
    spread = float(np.sqrt(polygamma(1, gain) + polygamma(1, loss)).min())
    grid = _grid(low, high, spread)[:, None]
    density = gain * log_expit(grid) + loss * log_expit(-grid) - betaln(gain, loss)
    with np.errstate(divide="ignore"):
        below = np.log(betainc(gain, loss, expit(grid)))
    return _log_best(density, np.maximum(below, _NEVER))


def _grid(low: float, high: float, scale: float) -> FloatArray:
    count = int(np.clip((high - low) / (_STEP * scale), _COARSEST, _FINEST))
    return np.linspace(low, high, count)


def _log_best(density: FloatArray, below: FloatArray) -> FloatArray:
    """Return the normalised integrals, from log densities and log distribution functions (G, K)."""
    logs = density - below + below.sum(axis=1, keepdims=True)
    best: FloatArray = logsumexp(logs, axis=0)
    best -= logsumexp(best)
    return np.maximum(best, _NEVER)
