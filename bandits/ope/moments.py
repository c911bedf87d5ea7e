"""Means and covariances of a stream of vectors in constant memory, and smooth functions of the means."""

from dataclasses import dataclass

import numpy as np

from bandits.arrays import FloatArray


class Moments:
    """Count, mean and covariance of vectors; chunks and partial results add up to the same as all at once.

    Parameters
    ----------
    size
        Length m of each vector.

    References
    ----------
    Chan, Golub, LeVeque (1983), "Algorithms for computing the sample variance: analysis and recommendations".
    """

    def __init__(self, size: int) -> None:
        self.n = 0
        self.mean = np.zeros(size)
        self._scatter = np.zeros((size, size))

    @property
    def covariance(self) -> FloatArray:
        """Unbiased covariance (m, m); zeros below two vectors."""
        return self._scatter / max(self.n - 1, 1)

    @property
    def parts(self) -> tuple[int, FloatArray, FloatArray]:
        """Count, means (m,) and scatter around them (m, m): all that has to be kept."""
        return self.n, self.mean, self._scatter

    def put(self, n: int, mean: FloatArray, scatter: FloatArray) -> None:
        """Take the place of what `parts` said."""
        self.n, self.mean, self._scatter = n, np.array(mean), np.array(scatter).reshape(len(mean), -1)

    def add(self, vectors: FloatArray) -> None:
        """Take in vectors (n, m)."""
        if len(vectors):
            mean = vectors.mean(axis=0)
            centred = vectors - mean
            self._combine(len(vectors), mean, centred.T @ centred)

    def merge(self, other: "Moments") -> None:
        """Take in what another stream saw."""
        if other.n:
            self._combine(other.n, other.mean, other._scatter)

    def _combine(self, n: int, mean: FloatArray, scatter: FloatArray) -> None:
        total, step = self.n + n, mean - self.mean
        self._scatter += scatter + np.outer(step, step) * (self.n * n / total)
        self.mean = self.mean + step * (n / total)
        self.n = total


@dataclass(frozen=True, slots=True)
class Formula:
    """A function of means: the sum of some of them plus the sum of ratios of others.

    Parameters
    ----------
    terms
        Places of the means that are added.
    ratios
        Pairs of places: numerator, denominator. A ratio over 0 is 0, with an infinite standard error.
    """

    terms: tuple[int, ...] = ()
    ratios: tuple[tuple[int, int], ...] = ()

    def value(self, means: FloatArray) -> FloatArray:
        """Return the value of means (..., m), shape (...)."""
        out: FloatArray = means[..., list(self.terms)].sum(axis=-1)
        for top, bottom in self.ratios:
            out = out + _ratio(means[..., top], means[..., bottom])
        return out

    def standard_error(self, moments: Moments) -> float:
        """Return the standard error of the value by the delta method; infinite where it cannot be told."""
        if moments.n < 2 or any(moments.mean[bottom] <= 0 for _, bottom in self.ratios):
            return float("inf")
        gradient = np.zeros(len(moments.mean))
        gradient[list(self.terms)] += 1.0
        for top, bottom in self.ratios:
            gradient[top] += 1.0 / moments.mean[bottom]
            gradient[bottom] -= moments.mean[top] / moments.mean[bottom] ** 2
        variance = float(gradient @ moments.covariance @ gradient)
        return float(np.sqrt(max(variance, 0.0) / moments.n))


def _ratio(top: FloatArray, bottom: FloatArray) -> FloatArray:
    out = np.zeros_like(top)
    np.divide(top, bottom, out=out, where=bottom > 0)
    return out
