"""Where a Plackett-Luce draw places each candidate, exactly, from a race of exponential clocks.

Candidate i arrives at a time with rate exp(u_i); the order of arrival is a Plackett-Luce order. So a is at
place j when j others have arrived before it: an integral over a's time of a Poisson-binomial probability.
"""

import numpy as np

from bandits.arrays import FloatArray

_STEP = 0.2
"""Between nodes in log time; gamma densities are so smooth there that sums err by e^(-pi^2 / step)."""
_EARLIEST, _LATEST = -42.0, 4.5
"""Log times, relative to the slowest and the fastest clock, outside which less than 1e-17 happens."""
_DEEPEST = -60.0
"""Candidates whose log weight is further below the best are taken to be there: the rest cannot be told."""


def placement_marginals(log_weights: FloatArray, slots: int) -> FloatArray:
    """Return the probability of each candidate at each place, shape (K, slots); a place's column sums to 1.

    Parameters
    ----------
    log_weights
        u of K candidates: scores over temperature, finite, shape (K,).
    slots
        Places wanted, in [0, K].

    Raises
    ------
    ValueError
        If there are fewer candidates than slots, or a weight is not finite.

    Notes
    -----
    For K = 200 and ten slots it takes milliseconds; enumeration would take K! steps, and sampling errs by the
    square root of the draws.
    """
    weights = np.asarray(log_weights, np.float64)
    if not 0 <= slots <= len(weights):
        msg = f"slots is {slots}, wanted a number in [0, {len(weights)}]: there are so many candidates"
        raise ValueError(msg)
    if not np.isfinite(weights).all():
        index = int(np.isfinite(weights).argmin())
        msg = f"log_weights[{index}] is {weights[index]}, wanted a finite number"
        raise ValueError(msg)
    if not slots:
        return np.empty((len(weights), 0))
    relative = np.maximum(weights - weights.max(), _DEEPEST)
    nodes = np.arange(_EARLIEST - np.log(len(weights)), _LATEST - relative.min(), _STEP)
    hazards = np.exp(relative[:, None] + nodes)  # (K, T): how much of each clock has run
    arrived = -np.expm1(-hazards)
    others = _counts_without_each(arrived, slots)
    out: FloatArray = np.einsum("it,ijt->ij", hazards * np.exp(-hazards), others) * _STEP
    return out


def _counts_without_each(arrived: FloatArray, most: int) -> FloatArray:
    """Return P(j others have arrived) for each candidate, j below `most` and node: shape (K, most, T).

    Products from the front and from the back meet at each candidate: dividing one factor out of the product
    of all would lose every digit where it is small.
    """
    k, nodes = arrived.shape
    before, after = np.zeros((k, most, nodes)), np.zeros((k, most, nodes))
    before[0, 0] = after[-1, 0] = 1.0
    for i in range(1, k):
        before[i] = _one_more(before[i - 1], arrived[i - 1])
        after[k - 1 - i] = _one_more(after[k - i], arrived[k - i])
    out = np.zeros((k, most, nodes))
    for j in range(most):
        out[:, j] = (before[:, : j + 1] * after[:, j::-1]).sum(axis=1)
    return out


def _one_more(counts: FloatArray, arrived: FloatArray) -> FloatArray:
    out = counts * (1.0 - arrived)
    out[1:] += counts[:-1] * arrived
    return out
