"""Policies that know no features: what each item earned so far."""

from typing import Self

import numpy as np

from bandits.arrays import FloatArray
from bandits.exploration import Exploration
from bandits.model import SlotBatch
from bandits.policies.base import Candidates, Policy, Snapshot
from bandits.policies.best import of_betas


class Popularity(Policy):
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

    def __init__(self, prior_gain: float = 1.0, prior_loss: float = 20.0) -> None:
        for name, value in (("prior_gain", prior_gain), ("prior_loss", prior_loss)):
            if not 0 < value < np.inf:
                msg = f"{name} is {value}, wanted a positive finite number"
                raise ValueError(msg)
        self.prior_gain, self.prior_loss = prior_gain, prior_loss
        self._sums: dict[str, tuple[float, float]] = {}

    def beta(self, candidates: Candidates) -> tuple[FloatArray, FloatArray]:
        """Return both parameters of each item's Beta posterior, two arrays (K,)."""
        unseen = (0.0, 0.0)
        sums = np.array([self._sums.get(key, unseen) for key in candidates.item_ids]).reshape(-1, 2)
        return sums[:, 0] + self.prior_gain, sums[:, 1] + self.prior_loss

    def scores(self, candidates: Candidates, exploration: Exploration, seed: int) -> FloatArray:
        """Return posterior mean rewards (K,) in (0, 1); features, exploration and seed play no part."""
        del exploration, seed
        gain, loss = self.beta(candidates)
        return gain / (gain + loss)

    def learn(self, batch: SlotBatch) -> None:
        """Add each slot's reward to its item."""
        for key, reward in zip(batch.item_ids, batch.rewards.tolist(), strict=True):
            gain, loss = self._sums.get(key, (0.0, 0.0))
            self._sums[key] = (gain + reward, loss + 1.0 - reward)

    def drop_item(self, item_id: str) -> None:
        """Forget an item."""
        self._sums.pop(item_id, None)

    def snapshot(self) -> Snapshot:
        """Return every item's sums."""
        document = {
            "prior_gain": self.prior_gain,
            "prior_loss": self.prior_loss,
            "item_ids": list(self._sums),
        }
        return Snapshot(document, {"sums": np.array(list(self._sums.values())).reshape(-1, 2)})

    @classmethod
    def restore(cls, snapshot: Snapshot) -> Self:
        """Return a policy with these sums."""
        document = snapshot.document
        policy = cls(document["prior_gain"], document["prior_loss"])
        pairs = [(gain, loss) for gain, loss in snapshot.arrays["sums"].tolist()]
        policy._sums = dict(zip(document["item_ids"], pairs, strict=True))
        return policy


class BetaThompson(Popularity):
    """Thompson sampling of each item's Beta posterior, with exact propensities.

    Its scores are logarithms of each item's probability to be the best: draw them with "softmax" at
    temperature 1, as those of `bandits.policies.hybrid.HybridThompson`.

    References
    ----------
    Chapelle, Li (2011), "An empirical evaluation of Thompson sampling", algorithm 2.
    """

    def scores(self, candidates: Candidates, exploration: Exploration, seed: int) -> FloatArray:
        """Return log probabilities of being the best (K,); features, exploration and seed play no part."""
        del exploration, seed
        return of_betas(*self.beta(candidates))
