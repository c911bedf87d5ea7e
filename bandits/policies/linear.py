"""Linear policies over all products of context and item features, one set of coefficients for all items."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from bandits.arrays import FloatArray
from bandits.model import SlotBatch
from bandits.natural import crossed, empty_block, increments, moments
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


class _Linear:
    """Bayesian linear regression of rewards on z = outer(x_c, x_i)."""

    def __init__(self, config: LinearConfig) -> None:
        self.config = config
        self._block = empty_block(config.context_dim * config.item_dim)
        self._refresh()

    def learn(self, batch: SlotBatch) -> None:
        """Add a batch to the regression; the order within it plays no part."""
        z = crossed(batch.contexts, batch.items)
        self._block += increments(z, np.ones(len(z)), batch.rewards).sum(axis=0)
        self._refresh()

    def drop_item(self, item_id: str) -> None:
        """Do nothing: coefficients belong to no item."""

    def _refresh(self) -> None:
        d = self.config.context_dim * self.config.item_dim
        self._mean, self._covariance = moments(self._block, d, self.config.prior_variance)


class LinUCB(_Linear):
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

    is_sampled = False

    def scores(
        self, context: FloatArray, items: FloatArray, item_ids: Sequence[str], seed: int
    ) -> FloatArray:
        """Return upper confidence bounds (K,); ids and seed play no part."""
        del item_ids, seed
        z = crossed(context[None], items)
        bound: FloatArray = z @ self._mean + self.config.width * np.sqrt(
            ((z @ self._covariance) * z).sum(axis=1)
        )
        return bound


class LinTS(_Linear):
    """Thompson sampling: one draw of the coefficients scores all candidates.

    Parameters
    ----------
    config
        Dimensions, prior and width.

    References
    ----------
    Agrawal, Goyal (2013), "Thompson sampling for contextual bandits with linear payoffs", algorithm 1.
    """

    is_sampled = True

    def scores(
        self, context: FloatArray, items: FloatArray, item_ids: Sequence[str], seed: int
    ) -> FloatArray:
        """Return scores by one draw of the coefficients (K,); ids play no part."""
        del item_ids
        noise = self._root @ ndtri(uniforms(seed, len(self._mean)))
        drawn: FloatArray = crossed(context[None], items) @ (self._mean + self.config.width * noise)
        return drawn

    def _refresh(self) -> None:
        super()._refresh()
        self._root = np.linalg.cholesky(self._covariance)
