"""A world whose truth is known: logistic rewards, features, tastes for items, and items that come and go."""

from dataclasses import dataclass, field

import numpy as np

from bandits.arrays import BoolArray, FloatArray


def sigmoid(logits: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-logits))."""
    out: FloatArray = 1.0 / (1.0 + np.exp(-logits))
    return out


@dataclass
class ChurningWorld:
    """K live items, each leaving after a geometric life and replaced by one never seen before.

    The logit of a reward is bias + context . bilinear . item + item's residual + context . item's taste. The
    world moves on its own: items and contexts do not depend on what is shown, so policies meet the same.
    """

    seed: int
    live: int = 50
    mean_life: float = 2500.0
    context_dim: int = 6
    item_dim: int = 6
    bias: float = -4.3
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        scale = 0.25
        self.bilinear = self.rng.normal(0, scale, (self.context_dim - 1, self.item_dim - 1))
        self.pull = self.rng.normal(0, 0.3, self.item_dim - 1)
        self.features = np.ones((self.live, self.item_dim))
        self.residual, self.taste = np.zeros(self.live), np.zeros((self.live, self.context_dim - 1))
        self.ids = [""] * self.live
        self.born = 0
        for place in range(self.live):
            self._bear(place)

    def _bear(self, place: int) -> None:
        self.features[place, 1:] = self.rng.normal(0, 1, self.item_dim - 1)
        self.residual[place] = self.rng.normal(0, 0.7)
        self.taste[place] = self.rng.normal(0, 0.35, self.context_dim - 1)
        self.ids[place] = f"item-{self.born}"
        self.born += 1

    def step(self) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Return a context, each item's expected reward (live,) and which items are new."""
        gone = self.rng.random(self.live) < 1.0 / self.mean_life
        for place in np.flatnonzero(gone):
            self._bear(int(place))
        context = np.ones(self.context_dim)
        context[1:] = self.rng.normal(0, 1, self.context_dim - 1)
        x = context[1:]
        logits = (
            self.bias
            + self.features[:, 1:] @ (self.pull + x @ self.bilinear)
            + self.residual
            + self.taste @ x
        )
        return context, sigmoid(logits), gone
