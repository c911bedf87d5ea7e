"""Click model: River's logistic regression, learnt from outcomes, scored by plain numpy."""

import collections
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from river import linear_model, optim, utils

from online_models.arrays import FloatArray
from online_models.drift import DriftWatch
from online_models.features import FeatureRegistry
from online_models.prequential import Prequential, Report
from online_models.scorer import CompiledScorer, sigmoid

VERSION = 1
"""Version of the snapshot's layout."""


@dataclass(frozen=True, slots=True)
class ClickModelSettings:
    """How the click model learns.

    Parameters
    ----------
    learning_rate
        Of AdaGrad, > 0. AdaGrad beat SGD, Adam and RMSProp on drifting streams of unscaled features, and
        makes a scaler needless.
    intercept_learning_rate
        Constant rate of the intercept, >= 0.
    l2
        Weight of the L2 penalty, >= 0.
    sub_batch
        Rows per gradient step, > 0. River takes one step on the mean gradient of a batch: 25 rows learn a
        little better than 64, 200 clearly worse, and throughput grows with the size.
    memory_rows
        Rows over which AdaGrad's sum of squared gradients is forgotten by a factor e, > 0: without it the
        steps shrink for ever and a model that has learnt for a year no longer follows its world.
    window
        Rows the rolling measures look at, > 0.
    """

    learning_rate: float = 0.4
    intercept_learning_rate: float = 0.5
    l2: float = 0.0
    sub_batch: int = 64
    memory_rows: float = 1_000_000.0
    window: int = 20_000

    def __post_init__(self) -> None:
        for name in ("learning_rate", "sub_batch", "memory_rows", "window"):
            if not getattr(self, name) > 0:
                msg = f"{name} is {getattr(self, name)}, wanted a number > 0"
                raise ValueError(msg)


class ArrayRegression(linear_model.LogisticRegression):
    """River's logistic regression, taking arrays where `learn_many` wants a data frame.

    Wrapping and unwrapping data frames costs ten times as much as the gradient step they carry.
    """

    def learn_arrays(self, inputs: FloatArray, columns: Sequence[str], clicks: FloatArray) -> None:
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
            river._fit(x=columns, y=clicks, w=1.0, get_grad=partial(river._eval_gradient_many, inputs))
        finally:
            river._exit_learn_mode(saved)


class ClickModel:
    """Probability of a click from named features, learnt one batch of slots at a time.

    Parameters
    ----------
    registry
        Defines the columns of every batch.
    settings
        See `ClickModelSettings`.
    """

    def __init__(self, registry: FeatureRegistry, settings: ClickModelSettings | None = None) -> None:
        self.registry = registry
        self.settings = settings or ClickModelSettings()
        self.drift = DriftWatch()
        self._judge = Prequential(self.settings.window)
        self._columns = list(registry.columns)
        self._river = ArrayRegression(
            optimizer=optim.AdaGrad(self.settings.learning_rate),
            l2=self.settings.l2,
            intercept_lr=self.settings.intercept_learning_rate,
        )

    @property
    def river(self) -> linear_model.LogisticRegression:
        """The River model behind it, over `registry.columns`."""
        return self._river

    @property
    def rows(self) -> int:
        """Rows learnt so far."""
        return self.report().rows

    def learn_many(self, inputs: FloatArray, clicks: FloatArray) -> FloatArray:
        """Predict a batch, judge the predictions, then learn it.

        Parameters
        ----------
        inputs
            Features by `registry.matrix`, shape (n, f).
        clicks
            1 for a click, else 0; shape (n,).

        Returns
        -------
        Probabilities before learning, shape (n,).

        Raises
        ------
        ValueError
            If the shapes do not fit or a number is not finite.
        """
        self._check(inputs, clicks)
        wide = self.registry.expand(inputs)
        probabilities = sigmoid(wide @ self._weights() + self._river.intercept)
        self._judge.update(probabilities, clicks)
        self.drift.update(probabilities, clicks)
        self._forget(len(wide))
        parts = -(-len(wide) // self.settings.sub_batch)
        for rows, targets in zip(np.array_split(wide, parts), np.array_split(clicks, parts), strict=True):
            self._river.learn_arrays(rows, self._columns, targets)
        return probabilities

    def report(self) -> Report:
        """Progressive validation so far."""
        return self._judge.report()

    def scorer(self) -> CompiledScorer:
        """Make a numpy scorer with the weights of this moment."""
        return CompiledScorer.from_snapshot(*self.snapshot())

    def snapshot(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """State as arrays and JSON-ready values; `restore` and `CompiledScorer.from_snapshot` read it."""
        squares = self._river.optimizer.g2
        arrays: dict[str, NDArray[Any]] = {
            "weights": self._weights(),
            "intercept": np.array([self._river.intercept], np.float64),
            "squares": np.array([squares.get(c, 0.0) for c in self._columns], np.float64),
            "crosses": self.registry.cross_places.copy(),
        }
        meta = {
            "version": VERSION,
            "fingerprint": self.registry.fingerprint(),
            "columns": self._columns,
            "settings": asdict(self.settings),
            "steps": int(self._river.optimizer.n_iterations),
            "judged": self._judge.totals(),
        }
        return arrays, meta

    @classmethod
    def restore(
        cls, registry: FeatureRegistry, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]
    ) -> Self:
        """Rebuild the model of a snapshot; the rolling window and the drift detector start empty.

        Raises
        ------
        ValueError
            If the snapshot has another version or other features.
        """
        if meta["version"] != VERSION or meta["fingerprint"] != registry.fingerprint():
            msg = (
                f"snapshot has version {meta['version']} and features {meta['fingerprint']}, "
                f"wanted {VERSION} and {registry.fingerprint()}"
            )
            raise ValueError(msg)
        model = cls(registry, ClickModelSettings(**meta["settings"]))
        river = model._river
        # River has no public way to set weights; its own optimizers write through the same VectorDict.
        river._weights = utils.VectorDict(_by_name(model._columns, arrays["weights"]))
        river.intercept = float(arrays["intercept"][0])
        river.optimizer.g2 = collections.defaultdict(float, _by_name(model._columns, arrays["squares"]))
        river.optimizer.n_iterations = meta["steps"]
        model._judge.resume(meta["judged"])
        return model

    def _weights(self) -> FloatArray:
        held = self._river.weights
        return np.array([held.get(column, 0.0) for column in self._columns], np.float64)

    def _forget(self, rows: int) -> None:
        kept = math.exp(-rows / self.settings.memory_rows)
        squares = self._river.optimizer.g2
        for column in squares:
            squares[column] *= kept

    def _check(self, inputs: FloatArray, clicks: FloatArray) -> None:
        if inputs.ndim != 2 or inputs.shape[1] != len(self.registry) or clicks.shape != inputs.shape[:1]:
            wish = f"wanted (n, {len(self.registry)}), (n,)"
            msg = f"inputs, clicks have shapes {inputs.shape}, {clicks.shape}, {wish}"
            raise ValueError(msg)
        if len(clicks) == 0 or not np.all(np.isfinite(inputs)) or not np.all((clicks == 0) | (clicks == 1)):
            msg = (
                f"batch of {len(clicks)} rows holds numbers that are not finite or clicks other than 0 and 1"
            )
            raise ValueError(msg)


def _by_name(columns: list[str], values: NDArray[Any]) -> dict[str, float]:
    return dict(zip(columns, values.tolist(), strict=True))
