"""Scoring in a server: the posterior of the hybrid as the sum of all shards' accumulators."""

from collections.abc import Mapping, Sequence

import numpy as np

from bandits.arrays import FloatArray, IntArray, ServingArray
from bandits.fading import aged, stored
from bandits.item_table import ItemTable
from bandits.model import HybridConfig
from bandits.natural import mean, moments, packed_prior, packed_size, triangle
from bandits.priors import with_prior

_NOTHING = np.zeros((), np.float32)
"""An array without dimensions: numpy takes twice as long with a plain 0."""

_STALE = 1.0 / 64.0
"""Share of the shared block's life after which it is made again."""


class Posterior:
    """Posterior of the hybrid over all shards: prior once + the sum of their accumulators.

    Means and covariances are made when a block arrives, for that block only: a request never waits for them.
    Serving copies are float32, relative error about 1e-6. Memory: `bandits.item_table`.

    Parameters
    ----------
    config
        Dimensions and priors.
    """

    def __init__(self, config: HybridConfig) -> None:
        self.config, self._start, self._now = config, config, 0.0
        self._priors: dict[int, FloatArray] = {}
        self._items = ItemTable(config.item_kind)
        self._shared: dict[int, FloatArray] = {}
        self._shared_made_at = 0.0
        self._triangle = triangle(config.context_dim)
        self._ones = np.ones(config.item_dim, np.float32)
        self._tune_users()
        self._refresh_shared()

    def _tune_users(self) -> None:
        self._user_kind = kind = self.config.user_kind
        self._user_prior = packed_prior(kind.d, kind.prior)
        self._no_user = np.diag(kind.prior).astype(np.float32)

    def put_prior(self, shard: int, prior: FloatArray) -> None:
        """Replace the prior variances that a shard has found (`bandits.priors.prior_of`).

        All shards' together are the prior, which is still added once. Items' rows follow with `advance`.
        """
        self._priors[shard] = prior
        self._combine_priors()

    def _combine_priors(self) -> None:
        config = with_prior(self._start, *(prior for _, prior in sorted(self._priors.items())))
        if config != self.config:
            self.retune(config)

    def retune(self, config: HybridConfig) -> None:
        """Take other prior variances or lives, of the same dimensions; items' rows follow with `advance`."""
        self.config = config
        self._tune_users()
        self._items.retune(config.item_kind)
        self._refresh_shared()

    def advance(self, now_ms: float, most: int | None = None) -> None:
        """Take event time on, and let what fades fade; so many items at most, the longest unchanged first.

        Costs nothing where neither anything fades nor priors have changed.
        """
        self._now = max(self._now, now_ms)
        self._items.catch_up(now_ms, most)
        life = self.config.shared_life_ms
        if life is not None and self._now - self._shared_made_at > life * _STALE:
            self._refresh_shared()

    @property
    def now_ms(self) -> float:
        """Event time that `advance` has come to."""
        return self._now

    def made_at(self, item_ids: Sequence[str]) -> FloatArray:
        """Return the event times (ms) that items' rows are as of, shape (K,)."""
        return self._items.made_at(item_ids)

    def make_as_of(self, item_ids: Sequence[str], at_ms: FloatArray) -> None:
        """Make items' rows again as of given event times (K,), as another posterior had them (`made_at`)."""
        self._items.make_as_of(item_ids, at_ms)

    def put_shared(self, shard: int, block: FloatArray) -> None:
        """Replace a shard's shared block.

        Raises
        ------
        ValueError
            If it has another shape or is not finite.
        """
        kind = self.config.shared_kind
        self._shared[shard] = stored("block", block, kind.d, fades=kind.fades).copy()
        self._refresh_shared()

    def put_items(self, shard: int, blocks: Mapping[str, FloatArray]) -> None:
        """Replace a shard's blocks of these items; others keep what they had.

        Raises
        ------
        ValueError
            If a block has another shape or is not finite; nothing is replaced then.
        """
        self._items.put(shard, blocks)

    def drop_shard(self, shard: int) -> None:
        """Forget everything a shard contributed; an unknown shard is no error."""
        self._items.drop_shard(shard)
        if self._priors.pop(shard, None) is not None:
            self._combine_priors()
        if self._shared.pop(shard, None) is not None:
            self._refresh_shared()

    def drop_item(self, item_id: str) -> None:
        """Forget an item's block: it scores as a new item; an unknown item is no error."""
        self._items.drop_item(item_id)

    def rows(self, item_ids: Sequence[str]) -> IntArray:
        """Return the rows of items for `score_rows`, shape (K,); valid until the next put or drop."""
        return self._items.rows(item_ids)

    def score(
        self,
        context: FloatArray,
        items: FloatArray,
        item_ids: Sequence[str],
        user_block: FloatArray | None,
        *,
        with_variance: bool,
    ) -> tuple[FloatArray, FloatArray | None]:
        """Return means and variances of the logits of K candidates.

        Parameters
        ----------
        context
            x_c, shape (context_dim,).
        items
            x_i of each candidate, shape (K, item_dim).
        item_ids
            Of the K candidates; an unseen one has the prior's block.
        user_block
            The user's packed block; None for a user without one (the prior).
        with_variance
            Whether variances are wanted; they cost more than the means.

        Returns
        -------
        tuple
            Means (K,), and variances (K,) > 0 in logit units squared or None.

        Raises
        ------
        ValueError
            If a shape differs from the configuration.
        """
        return self.score_rows(context, items, self.rows(item_ids), user_block, with_variance=with_variance)

    def score_rows(
        self,
        context: FloatArray,
        items: FloatArray,
        rows: IntArray,
        user_block: FloatArray | None,
        *,
        with_variance: bool,
    ) -> tuple[FloatArray, FloatArray | None]:
        """Return what `score` does, for candidates whose `rows` are known already."""
        self._check(context, items, rows)
        # Some BLAS kernels read whole vectors past short rows and raise flags over what they then discard.
        with np.errstate(invalid="ignore", over="ignore"):
            return self._score(context, items, rows, user_block, with_variance=with_variance)

    def _score(
        self,
        context: FloatArray,
        items: FloatArray,
        rows: IntArray,
        user_block: FloatArray | None,
        *,
        with_variance: bool,
    ) -> tuple[FloatArray, FloatArray | None]:
        x = context.astype(np.float32)
        features = items if items.dtype == np.float32 else items.astype(np.float32)
        # `dot` throughout: `matmul` costs more on few numbers.
        own: ServingArray = self._items.means.take(rows, axis=0).dot(x)
        if not with_variance:
            own += features.dot(self._weights(x, self._user_mean(user_block)))
            return own.astype(np.float64), None
        user_mean, user_covariance = self._user_moments(user_block)
        own += features.dot(self._weights(x, user_mean))
        left, right = self._triangle
        variance = self._items.covariances.take(rows, axis=0).dot(x.take(left) * x.take(right))
        spread = features.dot(self._shared_covariance(x) + user_covariance)
        spread *= features
        variance += spread.dot(self._ones)
        return own.astype(np.float64), np.maximum(variance, _NOTHING).astype(np.float64)

    def _check(self, context: FloatArray, items: FloatArray, rows: IntArray) -> None:
        wanted = {"context": (self.config.context_dim,), "items": (len(rows), self.config.item_dim)}
        for name, value in (("context", context), ("items", items)):
            if value.shape != wanted[name]:
                msg = f"{name} has shape {value.shape}, wanted {wanted[name]}"
                raise ValueError(msg)

    def _weights(self, x: ServingArray, user_mean: ServingArray | None) -> ServingArray:
        """Return what multiplies an item's features: the shared block met by the context, and the user."""
        weights: ServingArray = x.dot(self._theta)
        if user_mean is not None:
            weights += user_mean
        return weights

    def _user_mean(self, block: FloatArray | None) -> ServingArray | None:
        if block is None:
            return None
        return mean(self._user_block(block), self._user_kind.d, self._user_prior).astype(np.float32)

    def _user_moments(self, block: FloatArray | None) -> tuple[ServingArray | None, ServingArray]:
        if block is None:
            return None, self._no_user
        user = moments(self._user_block(block), self._user_kind.d, self._user_kind.prior)
        return user[0].astype(np.float32), user[1].astype(np.float32)

    def _user_block(self, block: FloatArray) -> FloatArray:
        kind = self._user_kind
        block = stored("user_block", block, kind.d, fades=kind.fades)
        return aged(block, kind.d, self._now, kind.life_ms) if kind.fades else block

    def _shared_covariance(self, x: ServingArray) -> ServingArray:
        """Contract the shared covariance with the context on both sides: (item_dim, item_dim)."""
        d = self.config.item_dim
        half: ServingArray = x.dot(self._sigma).reshape(len(x), d * d)
        out: ServingArray = x.dot(half).reshape(d, d)
        return out

    def _refresh_shared(self) -> None:
        config, kind = self.config, self.config.shared_kind
        total, self._shared_made_at = np.zeros(packed_size(kind.d)), self._now
        for _, block in sorted(self._shared.items()):
            latest = aged(block, kind.d, self._now, kind.life_ms) if kind.fades else block
            total += latest[: len(total)]
        theta, sigma = moments(total, kind.d, kind.prior)
        dc, di = config.context_dim, config.item_dim
        self._theta = theta.reshape(dc, di).astype(np.float32)
        # Both context axes first: then two products of a vector with a matrix contract them.
        pairs = sigma.reshape(dc, di, dc, di).transpose(0, 2, 1, 3)
        self._sigma = pairs.reshape(dc, dc * di * di).astype(np.float32)
