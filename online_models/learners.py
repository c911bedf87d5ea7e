"""River's models behind the click model, taking arrays where River wants dicts and data frames."""

import collections
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from river import facto, linear_model, optim, utils

from online_models.arrays import FloatArray, IntArray
from online_models.features import FeatureRegistry
from online_models.hashing import buckets
from online_models.scorer import sigmoid

LATENT_SQUARES = 0.05
BUCKET_SQUARES = 0.002
"""What a bucket's sum of squared gradients begins with: AdaGrad's first step would be the whole rate."""


class Learner(Protocol):
    """What a click model asks of the River model behind it."""

    @property
    def river(self) -> Any:
        """The River model, over `FeatureRegistry.columns` and bucket numbers."""

    @property
    def steps(self) -> int:
        """Gradient steps taken."""

    def learn(self, inputs: FloatArray, clicks: FloatArray) -> None:
        """Take one step on the mean gradient of rows (n, f) and clicks (n,)."""

    def scale_memory(self, kept: float) -> None:
        """Forget of past gradients all but a share `kept`, so that steps grow."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """State; the same names for every kind."""

    def load(self, arrays: Mapping[str, NDArray[Any]], steps: int) -> None:
        """Take up a state of `arrays`."""


class ArrayRegression(linear_model.LogisticRegression):
    """River's logistic regression, taking arrays where `learn_many` wants a data frame.

    Wrapping and unwrapping data frames costs ten times as much as the gradient step they carry.
    """

    def learn_arrays(self, inputs: FloatArray, columns: Sequence[Any], clicks: FloatArray) -> None:
        """Take one step on the mean gradient of a batch, exactly as `learn_many` does.

        Parameters
        ----------
        inputs, columns
            Numbers, shape (n, f), and the names of the f columns.
        clicks
            1 for a click, else 0; shape (n,).
        """
        river: Any = self  # its methods are untyped
        saved = river._enter_learn_mode(set(columns))
        try:
            with np.errstate(over="ignore"):  # River's loss takes exp of the logit; 1 / infinity is right
                river._fit(x=columns, y=clicks, w=1.0, get_grad=partial(river._eval_gradient_many, inputs))
        finally:
            river._exit_learn_mode(saved)


class LinearLearner:
    """Logistic regression over features, products and hashed crosses, by AdaGrad.

    Parameters
    ----------
    registry
        Defines the columns.
    learning_rate, intercept_learning_rate, l2
        As `ClickModelSettings` says.
    """

    def __init__(
        self, registry: FeatureRegistry, learning_rate: float, intercept_learning_rate: float, l2: float
    ) -> None:
        self._registry, self._columns = registry, list(registry.columns)
        self._model = ArrayRegression(
            optimizer=optim.AdaGrad(learning_rate), l2=l2, intercept_lr=intercept_learning_rate
        )
        self._known: set[int] = set()  # buckets met so far
        self._model._weights.update(dict.fromkeys(registry.offsets, 1.0))

    @property
    def river(self) -> Any:
        """The River model."""
        return self._model

    @property
    def steps(self) -> int:
        """Gradient steps taken."""
        return int(self._model.optimizer.n_iterations)

    def learn(self, inputs: FloatArray, clicks: FloatArray) -> None:
        """Take one step on the mean gradient of rows (n, f) and clicks (n,)."""
        wide, columns = self._registry.expand(inputs), list[Any](self._columns)
        if self._registry.hashed:
            met, marks = one_hot(buckets(inputs, self._registry.hashing))
            self._meet(met)
            wide, columns = np.concatenate([wide, marks], axis=1), columns + met
        self._model.learn_arrays(wide, columns, clicks)
        for name in self._registry.offsets:
            self._model._weights[name] = 1.0

    def _meet(self, met: Sequence[int]) -> None:
        if self._known.issuperset(met):
            return
        squares = self._model.optimizer.g2
        for bucket in met:
            squares.setdefault(bucket, BUCKET_SQUARES)
        self._known.update(met)

    def scale_memory(self, kept: float) -> None:
        """Forget of past gradients all but a share `kept`."""
        squares = self._model.optimizer.g2
        for name in squares:
            squares[name] *= kept

    def arrays(self) -> dict[str, NDArray[Any]]:
        """State; weights of features and products first, then those of the buckets met."""
        held, squares = self._model._weights, self._model.optimizer.g2
        names, met = self._columns, sorted(self._known)
        return {
            "weights": _values(held, names),
            "squares": _values(squares, names),
            "intercept": np.array([self._model.intercept], np.float64),
            "buckets": np.array(met, np.int32),
            "bucket_weights": _values(held, met),
            "bucket_squares": _values(squares, met),
            "latents": np.zeros((0, 0)),
            "latent_squares": np.zeros((0, 0)),
        }

    def load(self, arrays: Mapping[str, NDArray[Any]], steps: int) -> None:
        """Take up a state of `arrays`."""
        names: list[Any] = [*self._columns, *arrays["buckets"].tolist()]
        self._known = set(names[len(self._columns) :])
        both = {k: [*arrays[k].tolist(), *arrays[f"bucket_{k}"].tolist()] for k in ("weights", "squares")}
        # River has no public way to set weights; its own optimizers write through the same VectorDict.
        self._model._weights = utils.VectorDict(dict(zip(names, both["weights"], strict=True)))
        self._model.intercept = float(arrays["intercept"][0])
        squares = dict(zip(names, both["squares"], strict=True))
        self._model.optimizer.g2 = collections.defaultdict(float, squares)
        self._model.optimizer.n_iterations = steps


class ArrayAdaGrad(optim.base.Optimizer):
    """AdaGrad (Duchi, Hazan, Singer 2011) for one array of weights; River's own takes dicts only.

    Parameters
    ----------
    rate
        Learning rate, > 0.
    """

    def __init__(self, rate: float) -> None:
        super().__init__(rate)
        self.squares: FloatArray = np.zeros(0)

    def _step_with_vector(self, w: Any, g: Any) -> Any:
        self.squares += g**2
        w -= self.learning_rate / np.sqrt(self.squares) * g
        return w


class ArrayMachine(facto.FMClassifier):
    """River's factorisation machine, taking arrays.

    River learns it a row at a time in Python loops over features, a thousand rows a second; here a batch
    takes one step on its mean gradient. A batch of one row is exactly `learn_one`.
    """

    def learn_arrays(self, inputs: FloatArray, columns: Sequence[str], clicks: FloatArray) -> None:
        """Take one step on the mean gradient of numbers (n, f), their f names, and clicks (n,)."""
        river: Any = self
        factors = river.factors
        weights = np.array([self.weights[name] for name in columns])
        sums = inputs @ factors
        pairs = 0.5 * (sums**2 - inputs**2 @ factors**2).sum(axis=1)
        errors = sigmoid(self.intercept + inputs @ weights + pairs) - clicks
        scaled = inputs * errors[:, None] / len(inputs)
        gradient = (scaled.sum(axis=0) + self.l2_weight * weights).tolist()
        step: Any = dict(zip(columns, gradient, strict=True))
        self.intercept -= self.intercept_lr.get(self.weight_optimizer.n_iterations) * float(errors.mean())
        river.weights = self.weight_optimizer.step(w=self.weights, g=step)
        own = (scaled * inputs).sum(axis=0)[:, None] * factors
        # `latents` are rows of this array: River reads what is changed here in place.
        self.latent_optimizer.step(w=factors, g=scaled.T @ sums - own + self.l2_latent * factors)


class MachineLearner:
    """Factorisation machine over the features, by AdaGrad: what features measure differs by their scale.

    Codes, products and hashed crosses are left out: pairs are what it learns by itself.

    Parameters
    ----------
    registry
        Defines the columns.
    machine
        A River model that has learnt nothing yet.
    """

    def __init__(self, registry: FeatureRegistry, machine: ArrayMachine) -> None:
        self._registry, self._names, self._model = registry, list(registry.names), machine
        self._optimizer: Any = machine.weight_optimizer
        self._latent: Any = machine.latent_optimizer
        self._amounts = np.ones(len(registry))
        self._amounts[registry.codes] = 0.0
        rng = np.random.default_rng(machine.seed)
        factors = rng.normal(0.0, 0.05, (len(registry), machine.n_factors)) * self._amounts[:, None]
        self._bind(factors, np.full(factors.shape, LATENT_SQUARES))
        self._model.weights.update(dict.fromkeys(registry.offsets, 1.0))

    def _bind(self, factors: FloatArray, squares: FloatArray) -> None:
        river: Any = self._model
        river.factors = np.ascontiguousarray(factors)
        self._latent.squares = np.array(squares)
        for name, row in zip(self._names, river.factors, strict=True):
            self._model.latents[name] = row

    @property
    def river(self) -> Any:
        """The River model."""
        return self._model

    @property
    def steps(self) -> int:
        """Gradient steps taken."""
        return int(self._optimizer.n_iterations)

    def learn(self, inputs: FloatArray, clicks: FloatArray) -> None:
        """Take one step on the mean gradient of rows (n, f) and clicks (n,)."""
        self._model.learn_arrays(inputs * self._amounts, self._names, clicks)
        for name in self._registry.offsets:
            self._model.weights[name] = 1.0

    def scale_memory(self, kept: float) -> None:
        """Forget of past gradients all but a share `kept`."""
        squares = self._optimizer.g2
        for name in squares:
            squares[name] *= kept
        self._latent.squares *= kept

    def arrays(self) -> dict[str, NDArray[Any]]:
        """State; without buckets."""
        river: Any = self._model
        return {
            "weights": _values(self._model.weights, self._names),
            "squares": _values(self._optimizer.g2, self._names),
            "intercept": np.array([self._model.intercept], np.float64),
            "buckets": np.zeros(0, np.int32),
            "bucket_weights": np.zeros(0),
            "bucket_squares": np.zeros(0),
            "latents": river.factors.copy(),
            "latent_squares": self._latent.squares.copy(),
        }

    def load(self, arrays: Mapping[str, NDArray[Any]], steps: int) -> None:
        """Take up a state of `arrays`."""
        weights = dict(zip(self._names, arrays["weights"].tolist(), strict=True))
        self._model.weights = collections.defaultdict(float, weights)
        self._model.intercept = float(arrays["intercept"][0])
        squares = dict(zip(self._names, arrays["squares"].tolist(), strict=True))
        self._optimizer.g2 = collections.defaultdict(float, squares)
        self._optimizer.n_iterations = steps
        self._bind(arrays["latents"], arrays["latent_squares"])


def one_hot(places: IntArray) -> tuple[list[int], FloatArray]:
    """Return the buckets met, in order, and how often each row (n, h) met each of them, shape (n, met)."""
    met, inverse = np.unique(places, return_inverse=True)
    marks = np.zeros((len(places), len(met)))
    np.add.at(marks, (np.arange(len(places))[:, None], inverse.reshape(places.shape)), 1.0)
    first = int(len(met) > 0 and met[0] < 0)
    return met[first:].tolist(), marks[:, first:]


def _values(held: Any, names: Sequence[Any]) -> FloatArray:
    return np.array([held.get(name, 0.0) for name in names], np.float64)
