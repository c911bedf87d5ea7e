"""What a server needs of a click model: the weights, and a product of two matrices."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import FloatArray, IntArray
from online_models.compiled import compiled


def sigmoid(logits: FloatArray) -> FloatArray:
    """1 / (1 + exp(-x)) without overflow, any shape."""
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, small) / (1.0 + small)


@compiled
def _logits(
    inputs: FloatArray, weights: FloatArray, cross_weights: FloatArray, crosses: IntArray, intercept: float
) -> FloatArray:
    out = np.full(inputs.shape[0], intercept)
    for n in range(inputs.shape[0]):
        x = inputs[n]
        for column in range(weights.shape[0]):
            out[n] += x[column] * weights[column]
        for cross in range(cross_weights.shape[0]):
            out[n] += x[crosses[cross, 0]] * x[crosses[cross, 1]] * cross_weights[cross]
    return out


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
    """

    weights: FloatArray
    cross_weights: FloatArray
    crosses: NDArray[np.int64]
    intercept: float
    fingerprint: str

    @classmethod
    def from_snapshot(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        """Make the scorer of a `ClickModel.snapshot`."""
        crosses = np.asarray(arrays["crosses"], np.int64).reshape(-1, 2)
        weights = np.asarray(arrays["weights"], np.float64)
        f = len(weights) - len(crosses)
        return cls(weights[:f], weights[f:], crosses, float(arrays["intercept"][0]), str(meta["fingerprint"]))

    @classmethod
    def mean(cls, scorers: list[Self]) -> Self:
        """Average of scorers learnt on separate lanes with one registry.

        Raises
        ------
        ValueError
            If there is none or their fingerprints differ.
        """
        prints = sorted({scorer.fingerprint for scorer in scorers})
        if len(prints) != 1:
            msg = f"scorers have fingerprints {prints}, wanted one"
            raise ValueError(msg)
        return cls(
            np.mean([s.weights for s in scorers], axis=0),
            np.mean([s.cross_weights for s in scorers], axis=0),
            scorers[0].crosses,
            float(np.mean([s.intercept for s in scorers])),
            prints[0],
        )

    def logits(self, inputs: FloatArray) -> FloatArray:
        """Log odds of a click; `inputs` by `FeatureRegistry.matrix`, shape (K, f) -> (K,)."""
        return _logits(inputs, self.weights, self.cross_weights, self.crosses, self.intercept)

    def probabilities(self, inputs: FloatArray) -> FloatArray:
        """Probability of a click, (K, f) -> (K,)."""
        return sigmoid(self.logits(inputs))

    def contributions(self, inputs: FloatArray) -> FloatArray:
        """Share of each feature and cross in the logit, (K, f) -> (K, f + c); the intercept is left out."""
        products = inputs[:, self.crosses[:, 0]] * inputs[:, self.crosses[:, 1]] * self.cross_weights
        return np.concatenate([inputs * self.weights, products], axis=1)
