"""Several questions about one slot, each with a click model of its own, and one number to rank by."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import FloatArray
from online_models.click import ClickModel, ClickModelSettings
from online_models.features import FeatureRegistry
from online_models.prequential import log_losses
from online_models.scorer import CompiledScorer, mean_logits, sigmoid
from online_models.segments import Segments

CLICK = "click"
FOLLOWING = ("dwell", "purchase")
"""Heads asked of clicked slots only: whether a click led to more."""
HEADS = (CLICK, *FOLLOWING)
FORMAT = 1
"""Version of the layout of all heads together."""
_FOLLOWING_INTERCEPT = -1.5
_PRIOR_RATE, _PRIOR_ROWS = 0.18, 10.0
"""How often a head comes before anything is known, as `_FOLLOWING_INTERCEPT` says, and rows it counts for."""
_TINY = 1e-9

Weights = Mapping[str, float]


class Labels(NamedTuple):
    """What became of n slots.

    Attributes
    ----------
    clicks
        1 where the slot was taken, else 0; shape (n,).
    following
        Head -> 1 where the slot earned it, 0 where not, nan where nobody knows; shape (n,).
    """

    clicks: FloatArray
    following: Mapping[str, FloatArray]


class HeadModels:
    """The click model of a surface and the models of what follows a click, learnt together.

    The heads of `FOLLOWING` learn from clicked slots alone, P(head | click): what becomes of slots nobody
    clicked says nothing of them, and clicked slots are few, so they cost next to nothing.

    Parameters
    ----------
    click
        The model of clicks.
    """

    def __init__(self, click: ClickModel) -> None:
        self.models: dict[str, ClickModel] = {CLICK: click}
        self._waiting: dict[str, tuple[FloatArray, FloatArray]] = {}
        self._packed: dict[str, tuple[dict[str, NDArray[Any]], dict[str, Any]]] = {}
        self.segments = Segments(click.registry)

    @property
    def click(self) -> ClickModel:
        """The model of clicks."""
        return self.models[CLICK]

    def learn(self, inputs: FloatArray, labels: Labels) -> tuple[FloatArray, FloatArray]:
        """Predict, judge and learn a batch.

        Parameters
        ----------
        inputs
            By `FeatureRegistry.matrix`, shape (n, f), n > 0.
        labels
            What became of the slots.

        Returns
        -------
        Corrected click probabilities before learning and their log losses, both of shape (n,).
        """
        probabilities = self.click.learn_many(inputs, labels.clicks)
        for head, values in labels.following.items():
            asked = (labels.clicks > 0) & np.isfinite(values)
            if head in FOLLOWING and asked.any():
                self._learn_later(head, inputs[asked], values[asked])
        return probabilities, log_losses(probabilities, labels.clicks)

    def _learn_later(self, head: str, inputs: FloatArray, values: FloatArray) -> None:
        """Learn clicked slots once there are enough for a step: they come one by one."""
        if head in self._waiting:
            before = self._waiting.pop(head)
            inputs, values = np.concatenate([before[0], inputs]), np.concatenate([before[1], values])
        model = self._following(head)
        if len(values) < model.settings.sub_batch:
            self._waiting[head] = inputs, values
        else:
            model.learn_many(inputs, values)
            self._packed.pop(head, None)

    def _following(self, head: str) -> ClickModel:
        model = self.models.get(head)
        if model is None:
            click = self.click
            # Clicked slots are few: no latent factors, and shorter windows.
            settings = ClickModelSettings(
                learning_rate=click.settings.learning_rate,
                first_squares=click.settings.first_squares,
                window=5_000,
            )
            model = ClickModel.begin(click.registry, settings, {}, _FOLLOWING_INTERCEPT)
            self.models[head] = model
        return model

    def snapshot(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """State as arrays and JSON-ready values; `restore` and `HeadsScorer.from_snapshot` read it."""
        arrays: dict[str, NDArray[Any]] = {}
        metas, rates = {}, {}
        for head, model in self.models.items():
            held, metas[head] = self._snapshot_of(head, model)
            arrays |= held
            rates[head] = model.rate_from(_PRIOR_RATE, _PRIOR_ROWS)
        for head, (rows, values) in self._waiting.items():
            arrays |= {f"waiting.{head}.rows": rows, f"waiting.{head}.values": values}
        sums, segments = self.segments.snapshot()
        arrays |= {f"segments.{name}": values for name, values in sums.items()}
        fingerprint = self.click.registry.fingerprint()
        meta = {"format": FORMAT, "fingerprint": fingerprint, "heads": metas, "rates": rates}
        return arrays, meta | {"segments": segments, "steps": self.click.steps}

    def _snapshot_of(self, head: str, model: ClickModel) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Give a head's part of the snapshot; of heads that learn seldom, the one made last."""
        if head not in self._packed:
            held, meta = model.snapshot()
            named = {f"{head}.{name}": values for name, values in held.items()}
            if head == CLICK:
                return named, meta
            self._packed[head] = named, meta
        return self._packed[head]

    @classmethod
    def restore(
        cls, registry: FeatureRegistry, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]
    ) -> Self:
        """Rebuild the models of a snapshot, to the last bit.

        Raises
        ------
        ValueError
            If the snapshot has another layout or other features.
        """
        if meta.get("format") != FORMAT:
            msg = f"snapshot has format {meta.get('format')}, wanted {FORMAT}"
            raise ValueError(msg)
        models = {h: ClickModel.restore(registry, _under(arrays, h), m) for h, m in meta["heads"].items()}
        heads = cls(models[CLICK])
        heads.models = models
        for head in FOLLOWING:
            held = _under(arrays, f"waiting.{head}")
            if held:
                heads._waiting[head] = held["rows"], held["values"]
        heads.segments = Segments.restore(registry, _under(arrays, "segments"), meta["segments"])
        return heads

    def ranker(self, weights: Weights) -> "Ranker":
        """Make what ranks by the weights of this moment."""
        return Ranker([HeadsScorer.from_snapshot(*self.snapshot())], weights)


@dataclass(frozen=True, slots=True)
class HeadsScorer:
    """Compiled scorers of all heads of one lane.

    Parameters
    ----------
    scorers
        Head -> its scorer; ``click`` is always there.
    rates
        Head -> how often it came of late, > 0: before it ever came, as often as its prior says.
    fingerprint
        Of the rows they score.
    steps
        Gradient steps the click model has learnt.
    """

    scorers: Mapping[str, CompiledScorer]
    rates: Mapping[str, float]
    fingerprint: str
    steps: int

    @classmethod
    def from_snapshot(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        """Make the scorers of a `HeadModels.snapshot`."""
        found = {
            head: CompiledScorer.from_snapshot(_under(arrays, head), one)
            for head, one in meta["heads"].items()
        }
        return cls(found, meta["rates"], str(meta["fingerprint"]), int(meta["steps"]))


class Ranker:
    """What candidates of a surface are ranked by: the heads of all lanes, and what each is worth.

    With weight on clicks alone that is the click model's logit. Otherwise log(value / usual value) is added,
    value = the sum over heads of weight x P(head | click): the logit of a click that is worth as much as
    usual stays as it is, so that the policy may go on adding to it.

    Parameters
    ----------
    lanes
        Scorers of the same surface, at least one.
    weights
        Head -> worth of it, >= 0, clicks 1 where they are not named; heads nothing is known of count nothing.
    """

    def __init__(self, lanes: list[HeadsScorer], weights: Weights) -> None:
        self._lanes, self._clicks = lanes, [lane.scorers[CLICK] for lane in lanes]
        self._worth = weights.get(CLICK, 1.0)
        self._following = []
        self._usual = self._worth
        for head in FOLLOWING:
            weight, scorers = weights.get(head, 0.0), [lane.scorers.get(head) for lane in lanes]
            known = [scorer for scorer in scorers if scorer is not None]
            if weight > 0 and len(known) == len(lanes):
                self._following.append((weight, known))
                self._usual += weight * sum(lane.rates[head] for lane in lanes) / len(lanes)

    @property
    def steps(self) -> int:
        """Gradient steps learnt, over all lanes."""
        return sum(lane.steps for lane in self._lanes)

    @property
    def is_linear(self) -> bool:
        """Whether `linear` says all there is to say of a logit."""
        plain = all(not one.latents.size and not len(one.hashing.seeds) for one in self._clicks)
        return plain and not self._following

    def linear(self) -> tuple[FloatArray, dict[tuple[int, int], float]]:
        """Give the linear part of the logit, mean of all lanes.

        Returns
        -------
        Base and weights of the features, (1 + f,), and the weight of each product of two feature columns.
        """
        parts = [np.concatenate([[one.base], one.slope * one.weights]) for one in self._clicks]
        products: dict[tuple[int, int], float] = {}
        for one in self._clicks:
            for (left, right), weight in zip(one.crosses.tolist(), one.cross_weights.tolist(), strict=True):
                share = one.slope * weight / len(self._clicks)
                products[left, right] = products.get((left, right), 0.0) + share
        mean: FloatArray = np.mean(parts, axis=0)
        return mean, products

    def logits(self, inputs: FloatArray) -> FloatArray:
        """Give what candidates are ranked by; `inputs` by `FeatureRegistry.matrix`, (K, f) -> (K,)."""
        logits = mean_logits(self._clicks, inputs)
        if not self._following:
            return logits
        value = np.full(len(inputs), self._worth)
        for weight, scorers in self._following:
            value += weight * sigmoid(mean_logits(scorers, inputs))
        worth: FloatArray = logits + np.log((value + _TINY) / (self._usual + _TINY))
        return worth


def _under(arrays: Mapping[str, NDArray[Any]], head: str) -> dict[str, NDArray[Any]]:
    start = f"{head}."
    return {name[len(start) :]: values for name, values in arrays.items() if name.startswith(start)}
