"""The retrieval blend: one linear weight vector over all sources, learnt listwise from clicks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from online_models import _blend_loops as loops
from online_models.arrays import FloatArray

FEATURES = loops.FEATURES
"""Inputs of the blend, in order: logs and shares of scores, ranks, and what is known of item and session."""

FIRST_WEIGHTS = {"knn_log": 3.0, "covisit_log": 3.0}
"""Of sources that live on clicks, before anything was learnt."""


@dataclass(frozen=True, slots=True)
class BlendSettings:
    """How the blend learns.

    Parameters
    ----------
    prior
        Precision of the prior around the first weights, > 0; about so many lessons outweigh it.
    memory
        Lessons over which older lessons are forgotten by a factor e, > 0.
    """

    prior: float = 10.0
    memory: float = 20_000.0

    def __post_init__(self) -> None:
        for name in ("prior", "memory"):
            if not getattr(self, name) > 0:
                msg = f"{name} is {getattr(self, name)}, wanted a number > 0"
                raise ValueError(msg)


class Blend:
    """Linear listwise-softmax ranker over `FEATURES`.

    The probability that a candidate is the next click is its share of exp(inputs @ weights): a conditional
    logit (McFadden 1974), the top-one loss of ListNet (Cao et al. 2007). Learnt by one Newton step a lesson.

    Parameters
    ----------
    settings
        See `BlendSettings`.
    first
        Weights by name before anything was learnt; what is not named begins at 0.
    names
        The inputs, F of them, in order.
    """

    def __init__(
        self,
        settings: BlendSettings,
        first: Mapping[str, float] = FIRST_WEIGHTS,
        names: Sequence[str] = FEATURES,
    ) -> None:
        self.settings, self.names = settings, tuple(names)
        self.weights = np.array([first.get(name, 0.0) for name in names])
        self.precision = np.eye(len(names)) * settings.prior
        self.lessons = 0
        self._keep = math.exp(-1.0 / settings.memory)
        self._floor = 1e-3 * settings.prior * np.eye(len(names))

    def learn(self, inputs: FloatArray, target: int) -> float:
        """Learn one choice.

        Parameters
        ----------
        inputs
            Candidates' inputs, shape (n, F).
        target
            The row of `inputs` that was clicked, 0..n-1.

        Returns
        -------
        Loss before learning, in nats.

        Raises
        ------
        ValueError
            If the shape does not fit or `target` is out of range.
        """
        if inputs.ndim != 2 or inputs.shape[1] != len(self.names) or not 0 <= target < len(inputs):
            msg = f"inputs, target are {inputs.shape}, {target}, wanted (n, {len(self.names)}), 0..n-1"
            raise ValueError(msg)
        loss = loops.newton_step(inputs, target, self.weights, self.precision, self._keep)
        # What is forgotten of the prior comes back, so that an input that is always 0 stays solvable.
        self.precision += (1.0 - self._keep) * self._floor
        self.lessons += 1
        return loss

    def snapshot(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """State as arrays and JSON-ready values."""
        meta = {"features": list(self.names), "lessons": self.lessons, "settings": asdict(self.settings)}
        return {"weights": self.weights.copy(), "precision": self.precision.copy()}, meta

    @classmethod
    def restore(
        cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any], names: Sequence[str] = FEATURES
    ) -> Self:
        """Rebuild the blend of a snapshot.

        Raises
        ------
        ValueError
            If the snapshot has other features than `names`.
        """
        if tuple(meta["features"]) != tuple(names):
            msg = f"snapshot has features {meta['features']}, wanted {list(names)}"
            raise ValueError(msg)
        blend = cls(BlendSettings(**meta["settings"]), {}, names)
        blend.weights = np.array(arrays["weights"], np.float64)
        blend.precision = np.array(arrays["precision"], np.float64)
        blend.lessons = int(meta["lessons"])
        return blend
