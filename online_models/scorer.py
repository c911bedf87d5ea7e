"""What a server needs of a click model: its weights, and one compiled loop over candidates."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import FloatArray, IntArray
from online_models.compiled import compiled, compiled_borrowing
from online_models.hashing import BUCKETS, Hashing, bucket, buckets


def sigmoid(logits: FloatArray) -> FloatArray:
    """1 / (1 + exp(-x)) without overflow, any shape."""
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, small) / (1.0 + small)


class _Weights(NamedTuple):
    """A model as the loop takes it."""

    linear: FloatArray
    products: FloatArray
    crosses: IntArray
    table: FloatArray
    latents: FloatArray


@compiled
def _logits(inputs: FloatArray, w: _Weights, hashing: Hashing, intercept: float) -> FloatArray:
    out = np.full(inputs.shape[0], intercept)
    _add_logits(inputs, w, hashing, out)
    return out


@compiled_borrowing
def _add_logits(inputs: FloatArray, w: _Weights, hashing: Hashing, out: FloatArray) -> None:
    for n in range(inputs.shape[0]):
        x = inputs[n]
        for column in range(w.linear.shape[0]):
            out[n] += x[column] * w.linear[column]
        for cross in range(w.products.shape[0]):
            out[n] += x[w.crosses[cross, 0]] * x[w.crosses[cross, 1]] * w.products[cross]
        for cross in range(hashing.seeds.shape[0]):
            place = bucket(x, hashing, cross)
            if place >= 0:
                out[n] += w.table[place]
        for factor in range(w.latents.shape[1]):
            total, squares = 0.0, 0.0
            for column in range(w.linear.shape[0]):
                part = x[column] * w.latents[column, factor]
                total += part
                squares += part * part
            out[n] += 0.5 * (total * total - squares)


_NO_HASHING = Hashing.of([])
_NO_TABLE: FloatArray = np.zeros(0)
_NO_LATENTS: FloatArray = np.zeros((0, 0))


@dataclass(frozen=True, slots=True)
class CompiledScorer:
    """Weights of a click model, ready to score.

    Parameters
    ----------
    weights
        Of the features, shape (f,).
    cross_weights
        Of the crosses, shape (c,).
    crosses
        Columns multiplied by each cross, shape (c, 2).
    intercept
        Added to every logit.
    fingerprint
        Of the feature registry the weights were learnt with.
    hashing, table
        Hashed crosses (h of them), and the weight of each bucket.
    latents
        Of a factorisation machine, shape (f, factors); (0, 0) for a model without.
    slope, shift
        Correction of the calibration: the logit is slope * raw logit + shift.
    """

    weights: FloatArray
    cross_weights: FloatArray
    crosses: NDArray[np.int64]
    intercept: float
    fingerprint: str
    hashing: Hashing = field(default=_NO_HASHING)
    table: FloatArray = field(default_factory=lambda: _NO_TABLE)
    latents: FloatArray = field(default_factory=lambda: _NO_LATENTS)
    slope: float = 1.0
    shift: float = 0.0

    @classmethod
    def from_snapshot(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        """Make the scorer of a `ClickModel.snapshot`."""
        crosses = np.asarray(arrays["crosses"], np.int64).reshape(-1, 2)
        weights = np.asarray(arrays["weights"], np.float64)
        f = len(weights) - len(crosses)
        table = np.zeros(BUCKETS)
        table[arrays["buckets"]] = arrays["bucket_weights"]
        hashing = Hashing(
            np.asarray(arrays["hashed_places"], np.int64),
            np.asarray(arrays["hashed_codes"], np.bool_),
            np.asarray(arrays["hashed_seeds"], np.uint64),
        )
        return cls(
            weights[:f],
            weights[f:],
            crosses,
            float(arrays["intercept"][0]),
            str(meta["fingerprint"]),
            hashing,
            table,
            np.asarray(arrays["latents"], np.float64),
            *(float(value) for value in arrays["correction"]),
        )

    def logits(self, inputs: FloatArray) -> FloatArray:
        """Log odds of a click; `inputs` by `FeatureRegistry.matrix`, shape (K, f) -> (K,)."""
        raw = self.raw_logits(inputs)
        return raw if self.slope == 1.0 and self.shift == 0.0 else self.slope * raw + self.shift

    def raw_logits(self, inputs: FloatArray) -> FloatArray:
        """Log odds before their correction, (K, f) -> (K,)."""
        w = _Weights(self.weights, self.cross_weights, self.crosses, self.table, self.latents)
        return _logits(inputs, w, self.hashing, self.intercept)

    def probabilities(self, inputs: FloatArray) -> FloatArray:
        """Probability of a click, (K, f) -> (K,)."""
        return sigmoid(self.logits(inputs))

    @property
    def base(self) -> float:
        """What every logit begins with, whatever the features."""
        return self.slope * self.intercept + self.shift

    def contributions(self, inputs: FloatArray) -> FloatArray:
        """Share of each feature, cross and hashed cross in the logit, (K, f) -> (K, f + c + h).

        `base` is left out; with it they add up to the logit. A pair of a factorisation machine is shared
        evenly by its two features.
        """
        single = inputs * self.weights
        if self.latents.size:
            parts = inputs[:, :, None] * self.latents
            single = single + 0.5 * (parts * (parts.sum(axis=1, keepdims=True) - parts)).sum(axis=2)
        products = inputs[:, self.crosses[:, 0]] * inputs[:, self.crosses[:, 1]] * self.cross_weights
        places = buckets(inputs, self.hashing)
        hashed = (
            np.where(places >= 0, self.table[np.maximum(places, 0)], 0.0) if places.size else places * 0.0
        )
        return self.slope * np.concatenate([single, products, hashed], axis=1)


def mean_logits(scorers: list[CompiledScorer], inputs: FloatArray) -> FloatArray:
    """Mean log odds (K,) of models of separate lanes, whatever their kinds."""
    if len(scorers) == 1:
        return scorers[0].logits(inputs)
    total: FloatArray = np.sum([scorer.logits(inputs) for scorer in scorers], axis=0)
    return total / len(scorers)
