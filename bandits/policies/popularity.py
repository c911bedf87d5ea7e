"""Policies that know no features: what each item earned so far."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import betaincinv

from bandits.arrays import FloatArray
from bandits.model import SlotBatch
from bandits.randomness import uniforms


@dataclass(slots=True)
class Popularity:
    """Mean reward of each item under a Beta prior; drawn with "epsilon" it is epsilon-greedy popularity.

    Parameters
    ----------
    prior_gain, prior_loss
        Parameters of the Beta prior, > 0: an unseen item scores gain / (gain + loss).

    Raises
    ------
    ValueError
        If one of them is not a positive finite number.
    """

    prior_gain: float = 1.0
    prior_loss: float = 20.0
    _sums: dict[str, tuple[float, float]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("prior_gain", "prior_loss"):
            if not 0 < getattr(self, name) < np.inf:
                msg = f"{name} is {getattr(self, name)}, wanted a positive finite number"
                raise ValueError(msg)

    @property
    def is_sampled(self) -> bool:
        """Whether scores depend on the seed."""
        return False

    def beta(self, item_ids: Sequence[str]) -> tuple[FloatArray, FloatArray]:
        """Return both parameters of each item's Beta posterior, two arrays (K,)."""
        unseen = (0.0, 0.0)
        sums = np.array([self._sums.get(key, unseen) for key in item_ids]).reshape(-1, 2)
        return sums[:, 0] + self.prior_gain, sums[:, 1] + self.prior_loss

    def scores(
        self, context: FloatArray, items: FloatArray, item_ids: Sequence[str], seed: int
    ) -> FloatArray:
        """Return posterior mean rewards (K,) in (0, 1); features and seed play no part."""
        del context, items, seed
        gain, loss = self.beta(item_ids)
        return gain / (gain + loss)

    def learn(self, batch: SlotBatch) -> None:
        """Add each slot's reward to its item."""
        for key, reward in zip(batch.item_ids, batch.rewards.tolist(), strict=True):
            gain, loss = self._sums.get(key, (0.0, 0.0))
            self._sums[key] = (gain + reward, loss + 1.0 - reward)

    def drop_item(self, item_id: str) -> None:
        """Forget an item."""
        self._sums.pop(item_id, None)


@dataclass(slots=True)
class BetaThompson(Popularity):
    """Thompson sampling: each score is a draw from the item's Beta posterior.

    References
    ----------
    Chapelle, Li (2011), "An empirical evaluation of Thompson sampling", algorithm 2.
    """

    @property
    def is_sampled(self) -> bool:
        """Whether scores depend on the seed."""
        return True

    def scores(
        self, context: FloatArray, items: FloatArray, item_ids: Sequence[str], seed: int
    ) -> FloatArray:
        """Return one posterior draw for each candidate (K,), by the inverse of its distribution function."""
        del context, items
        gain, loss = self.beta(item_ids)
        draws: FloatArray = betaincinv(gain, loss, uniforms(seed, len(gain)))
        return draws
