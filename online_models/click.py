"""Click model: a River model learnt from outcomes, judged before it learns, and scored by a compiled loop."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from river import optim

from online_models.arrays import FloatArray
from online_models.correction import Correction
from online_models.drift import DriftWatch
from online_models.features import FeatureRegistry
from online_models.learners import ArrayAdaGrad, ArrayMachine, Learner, LinearLearner, MachineLearner
from online_models.prequential import Prequential, Report, log_losses
from online_models.scorer import CompiledScorer, sigmoid

VERSION = 2
"""Version of the snapshot's layout."""
KINDS = ("linear", "fm")
SHORTENING, SHORTEST = 0.03, 5_000.0
"""What a drift alarm leaves of the memory, and the rows it never goes below."""
RECOVERY = 4.0
"""A shortened memory has grown by a factor e after so many times its own length."""

LARGEST = 1e6
"""Inputs of one row: the products of larger ones could leave the range of numbers."""

Arrays = dict[str, NDArray[Any]]


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
        steps shrink for ever and a model that has learnt for a year no longer follows its world. A drift
        alarm shortens it for a while.
    first_squares
        What the sum of squared gradients of every column begins with, > 0, where a model begins with weights:
        the gradient of 64 rows is about .02, so that with .05 the first steps are noise as large as a fifth
        of what thousands of rows could justify.
    window
        Rows the rolling measures look at, > 0.
    kind
        ``linear`` (logistic regression) or ``fm`` (factorisation machine).
    factors, latent_rate, seed
        Of a factorisation machine: latent factors a feature, > 0, their learning rate, > 0, and what their
        first values are drawn with.
    """

    learning_rate: float = 0.4
    intercept_learning_rate: float = 0.5
    l2: float = 0.0
    sub_batch: int = 64
    memory_rows: float = 1_000_000.0
    first_squares: float = 0.05
    window: int = 20_000
    kind: str = "linear"
    factors: int = 8
    latent_rate: float = 0.05
    seed: int = 1

    def __post_init__(self) -> None:
        for name in (
            "learning_rate", "sub_batch", "memory_rows", "first_squares", "window", "factors", "latent_rate",
        ):  # fmt: skip
            if not getattr(self, name) > 0:
                msg = f"{name} is {getattr(self, name)}, wanted a number > 0"
                raise ValueError(msg)
        if self.kind not in KINDS:
            msg = f"kind is {self.kind!r}, wanted one of {KINDS}"
            raise ValueError(msg)


class ClickModel:
    """Probability of a click from named features, learnt one batch of slots at a time.

    Parameters
    ----------
    registry
        Defines the columns of every batch, and what is crossed.
    settings
        See `ClickModelSettings`.
    """

    def __init__(self, registry: FeatureRegistry, settings: ClickModelSettings | None = None) -> None:
        self.registry = registry
        self.settings = settings or ClickModelSettings()
        self.drift = DriftWatch()
        self.correction = Correction()
        self.memory_rows = self.settings.memory_rows
        self._raw, self._corrected = (Prequential(self.settings.window) for _ in range(2))
        self._learner = _learner(registry, self.settings)
        self._said = asdict(self.settings)
        self._held: Arrays | None = None  # the weights as arrays, until the next step

    @classmethod
    def begin(
        cls,
        registry: FeatureRegistry,
        settings: ClickModelSettings,
        weights: Mapping[str, float],
        intercept: float,
    ) -> Self:
        """Make a model that begins with weights by column, and moves on from them.

        Columns that are not named begin at 0, offsets at 1.
        """
        model = cls(registry, settings)
        arrays = model._learner.arrays()
        columns = model._columns()
        first = dict.fromkeys(registry.offsets, 1.0) | dict(weights)
        held = np.array([first.get(name, 0.0) for name in columns])
        # AdaGrad's first steps would jump past the weights if its sums of squares began at zero.
        squares = np.full(len(columns), settings.first_squares)
        given = {"weights": held, "squares": squares, "intercept": np.array([intercept])}
        model._learner.load(arrays | given, 0)
        model._held = None
        return model

    @classmethod
    def warm(
        cls,
        registry: FeatureRegistry,
        settings: ClickModelSettings,
        arrays: Mapping[str, NDArray[Any]],
        meta: Mapping[str, Any],
    ) -> Self:
        """Make a model that begins with what the model of a snapshot has learnt, column by column.

        Features, crosses and kind may differ: a column both have keeps its weight and how sure it is, another
        begins at 0; buckets and latent factors are kept where they mean the same. So is the correction: the
        weights it corrects are kept.
        """
        model = cls.begin(registry, settings, {}, float(arrays["intercept"][0]))
        held, places = model._learner.arrays(), {name: n for n, name in enumerate(meta["columns"])}
        for place, name in enumerate(model._columns()):
            if name in places and name not in registry.offsets:
                for part in ("weights", "squares"):
                    held[part][place] = arrays[part][places[name]]
        if [list(parts) for parts in registry.hashed] == meta["hashed"] and settings.kind == "linear":
            held |= {name: arrays[name] for name in ("buckets", "bucket_weights", "bucket_squares")}
        if held["latents"].shape == arrays["latents"].shape and meta["columns"] == model._columns():
            held |= {name: arrays[name] for name in ("latents", "latent_squares")}
        model._learner.load(held, 0)
        model.correction = Correction.restore(arrays, meta["correction"])
        model._held = None
        return model

    def _columns(self) -> list[str]:
        return list(self.registry.columns if self.settings.kind == "linear" else self.registry.names)

    @property
    def river(self) -> Any:
        """The River model behind it, over `registry.columns` and bucket numbers."""
        return self._learner.river

    @property
    def rows(self) -> int:
        """Rows learnt so far."""
        return self._corrected.rows

    @property
    def steps(self) -> int:
        """Gradient steps taken so far."""
        return self._learner.steps

    @property
    def click_rate(self) -> float:
        """Share of the latest rows that were clicked; nan before any was."""
        return self._corrected.click_rate

    def rate_from(self, prior: float, weight: float) -> float:
        """Share of the latest rows that were clicked, with a prior rate that counts for `weight` rows."""
        return self._corrected.rate_from(prior, weight)

    def predict(self, inputs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give raw logits and corrected probabilities of inputs (n, f), both of shape (n,)."""
        logits = self.scorer().raw_logits(inputs)
        return logits, sigmoid(self.correction.apply(logits))

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
        Corrected probabilities before learning, shape (n,).

        Raises
        ------
        ValueError
            If the shapes do not fit or a number is not finite.
        """
        self._check(inputs, clicks)
        logits, corrected = self.predict(inputs)
        losses = log_losses(corrected, clicks)
        self._raw.update(sigmoid(logits), clicks)
        self._corrected.update(corrected, clicks, losses)
        has_drifted = self.drift.update(corrected, clicks, losses)
        self.correction.learn(logits, clicks)
        self._forget(len(inputs), has_drifted=has_drifted)
        self._held = None
        parts = -(-len(inputs) // self.settings.sub_batch)
        for rows, targets in zip(np.array_split(inputs, parts), np.array_split(clicks, parts), strict=True):
            self._learner.learn(rows, targets)
        return corrected

    def report(self) -> Report:
        """Progressive validation so far, of corrected probabilities."""
        return self._corrected.report()

    def raw_report(self) -> Report:
        """Progressive validation so far, of probabilities before their correction."""
        return self._raw.report()

    def scorer(self) -> CompiledScorer:
        """Make a compiled scorer with the weights of this moment."""
        return CompiledScorer.from_snapshot(self._weights(), {"fingerprint": self.registry.fingerprint()})

    def _weights(self) -> Arrays:
        if self._held is None:
            self._held = self._taken()
        return self._held

    def _taken(self) -> Arrays:
        linear, hashing = self.settings.kind == "linear", self.registry.hashing
        some = slice(None) if linear else slice(0)
        return self._learner.arrays() | {
            "crosses": self.registry.cross_places[some].copy(),
            "hashed_places": hashing.places[some].copy(),
            "hashed_codes": hashing.is_code[some].copy(),
            "hashed_seeds": hashing.seeds[some].copy(),
            "correction": self.correction.values.copy(),
        }

    def snapshot(self) -> tuple[Arrays, dict[str, Any]]:
        """State as arrays and JSON-ready values; `restore` and `CompiledScorer.from_snapshot` read it."""
        corrected, correction = self.correction.snapshot()
        drift, drift_meta = self.drift.snapshot()
        (raw_bins, raw), (bins, judged) = self._raw.snapshot(), self._corrected.snapshot()
        arrays = self._weights() | corrected | {f"drift_{name}": values for name, values in drift.items()}
        meta = {
            "version": VERSION,
            "fingerprint": self.registry.fingerprint(),
            "crosses": [list(pair) for pair in self.registry.crosses],
            "hashed": [list(parts) for parts in self.registry.hashed],
            "columns": self._columns(),
            "settings": self._said,
            "steps": self.steps,
            "memory_rows": self.memory_rows,
            "correction": correction,
            "drift": drift_meta,
            "judged": judged,
            "judged_raw": raw,
        }
        return arrays | {"judged_bins": bins, "judged_raw_bins": raw_bins}, meta

    @classmethod
    def restore(
        cls, registry: FeatureRegistry, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]
    ) -> Self:
        """Rebuild the model of a snapshot, to the last bit, measures and drift detectors included.

        Its crosses are the snapshot's, whatever the registry declares.

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
        own = registry.variant([(left, right) for left, right in meta["crosses"]], meta["hashed"])
        model = cls(own, ClickModelSettings(**meta["settings"]))
        model._learner.load(arrays, int(meta["steps"]))
        model.memory_rows = float(meta["memory_rows"])
        model.correction = Correction.restore(arrays, meta["correction"])
        drift = {name[len("drift_") :]: a for name, a in arrays.items() if name.startswith("drift_")}
        model.drift = DriftWatch.restore(drift, meta["drift"])
        model._raw = Prequential.restore(arrays["judged_raw_bins"], meta["judged_raw"])
        model._corrected = Prequential.restore(arrays["judged_bins"], meta["judged"])
        return model

    def _forget(self, rows: int, *, has_drifted: bool) -> None:
        kept = math.exp(-rows / self.memory_rows)
        if has_drifted:
            known = min(self.memory_rows, float(self.rows))
            self.memory_rows = max(SHORTENING * known, min(SHORTEST, self.settings.memory_rows))
            # As if the model had lived no longer than its new memory: the next steps grow at once.
            kept *= min(1.0, self.memory_rows / max(known, 1.0))
        elif self.memory_rows < self.settings.memory_rows:
            grown = self.memory_rows * math.exp(rows / (RECOVERY * self.memory_rows))
            self.memory_rows = min(self.settings.memory_rows, grown)
        self._learner.scale_memory(kept)

    def _check(self, inputs: FloatArray, clicks: FloatArray) -> None:
        if inputs.ndim != 2 or inputs.shape[1] != len(self.registry) or clicks.shape != inputs.shape[:1]:
            wish = f"wanted (n, {len(self.registry)}), (n,)"
            msg = f"inputs, clicks have shapes {inputs.shape}, {clicks.shape}, {wish}"
            raise ValueError(msg)
        amounts = np.abs(inputs).max(axis=0, initial=0.0)
        amounts[self.registry.codes] = 0.0
        if len(clicks) == 0 or not np.all(amounts <= LARGEST) or not np.all((clicks == 0) | (clicks == 1)):
            held = f"numbers that are not finite or beyond {LARGEST:g}, or clicks other than 0 and 1"
            msg = f"batch of {len(clicks)} rows holds {held}"
            raise ValueError(msg)


def _learner(registry: FeatureRegistry, settings: ClickModelSettings) -> Learner:
    rates = (settings.learning_rate, settings.intercept_learning_rate)
    if settings.kind == "linear":
        return LinearLearner(registry, *rates, settings.l2)
    machine = ArrayMachine(
        n_factors=settings.factors,
        weight_optimizer=optim.AdaGrad(rates[0]),
        latent_optimizer=ArrayAdaGrad(settings.latent_rate),
        l2_weight=settings.l2,
        intercept_lr=rates[1],
        seed=settings.seed,
    )
    return MachineLearner(registry, machine)
