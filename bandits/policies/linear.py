"""Linear policies over all products of context and item features, one set of coefficients for all items."""

from dataclasses import asdict, dataclass
from typing import ClassVar, Self

import numpy as np
from scipy.special import ndtri

from bandits.arrays import FloatArray
from bandits.exploration import Exploration
from bandits.model import SlotBatch
from bandits.natural import check_block, crossed, empty_block, increments, moments
from bandits.policies.base import Candidates, Policy, Snapshot
from bandits.randomness import uniforms


@dataclass(frozen=True, slots=True)
class LinearConfig:
    """Dimensions of a linear policy.

    Parameters
    ----------
    context_dim, item_dim
        Lengths of x_c and x_i, >= 1.
    prior_variance
        Of each coefficient in units of the noise's variance, > 0; the inverse of the ridge.
    width
        How many standard deviations are added (LinUCB's alpha) or the scale of a draw (LinTS), >= 0.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    context_dim: int
    item_dim: int
    prior_variance: float = 1.0
    width: float = 0.3

    def __post_init__(self) -> None:
        for name, low in (("context_dim", 1), ("item_dim", 1), ("prior_variance", 1e-12), ("width", 0)):
            if not low <= getattr(self, name) < np.inf:
                msg = f"{name} is {getattr(self, name)}, wanted a finite number >= {low}"
                raise ValueError(msg)


class Linear(Policy):
    """Bayesian linear regression of rewards on z = outer(x_c, x_i): what both policies here learn."""

    def __init__(self, config: LinearConfig) -> None:
        self.config = config
        self._block = empty_block(config.context_dim * config.item_dim)
        self._refresh()

    def learn(self, batch: SlotBatch) -> None:
        """Add a batch to the regression; the order within it plays no part."""
        z = crossed(batch.contexts, batch.items)
        self._block += increments(z, np.ones(len(z)), batch.rewards).sum(axis=0)
        self._refresh()

    def snapshot(self) -> Snapshot:
        """Return the regression's sums, without the prior."""
        return Snapshot({"config": asdict(self.config)}, {"block": self._block.copy()})

    @classmethod
    def restore(cls, snapshot: Snapshot) -> Self:
        """Return a policy with these sums."""
        policy = cls(LinearConfig(**snapshot.document["config"]))
        d = policy.config.context_dim * policy.config.item_dim
        policy._block = check_block("block", snapshot.arrays["block"], d).copy()
        policy._refresh()
        return policy

    def _refresh(self) -> None:
        d = self.config.context_dim * self.config.item_dim
        self._mean, self._covariance = moments(self._block, d, self.config.prior_variance)


class LinUCB(Linear):
    """Mean plus `width` standard deviations.

    Parameters
    ----------
    config
        Dimensions, prior and width.

    References
    ----------
    Li, Chu, Langford, Schapire (2010), "A contextual-bandit approach to personalized news article
    recommendation", equation 5, with features of the pair and coefficients shared by all arms.
    """

    def scores(self, candidates: Candidates, exploration: Exploration, seed: int) -> FloatArray:
        """Return upper confidence bounds (K,); ids, exploration and seed play no part."""
        del exploration, seed
        z = crossed(candidates.context[None], candidates.items)
        bound: FloatArray = z @ self._mean + self.config.width * np.sqrt(
            ((z @ self._covariance) * z).sum(axis=1)
        )
        return bound


class LinTS(Linear):
    """Thompson sampling: one draw of the coefficients scores all candidates.

    Parameters
    ----------
    config
        Dimensions, prior and width.

    References
    ----------
    Agrawal, Goyal (2013), "Thompson sampling for contextual bandits with linear payoffs", algorithm 1.
    """

    is_sampled: ClassVar[bool] = True

    def scores(self, candidates: Candidates, exploration: Exploration, seed: int) -> FloatArray:
        """Return scores by one draw of the coefficients (K,); ids and exploration play no part."""
        del exploration
        noise = self._root @ ndtri(uniforms(seed, len(self._mean)))
        drawn: FloatArray = crossed(candidates.context[None], candidates.items) @ (
            self._mean + self.config.width * noise
        )
        return drawn

    def _refresh(self) -> None:
        super()._refresh()
        self._root = np.linalg.cholesky(self._covariance)
