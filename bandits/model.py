"""The Bayesian hybrid: its dimensions and priors, and the slots it learns from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from bandits.arrays import FloatArray
from bandits.natural import Variance


@dataclass(frozen=True, slots=True)
class HybridConfig:
    """Dimensions and priors of the hybrid policy.

    The logit of a reward is ``eta = z . theta + x_c . m_item + x_i . m_user`` with ``z = outer(x_c, x_i)``
    flattened by rows; x_c (context) and x_i (item) both begin with a constant 1, so biases are in the blocks.

    Parameters
    ----------
    context_dim
        Length of x_c, and of an item's block.
    item_dim
        Length of x_i, and of a user's block.
    shared_variance, item_variance, user_variance
        Prior variances of the three kinds of blocks, logit units squared, > 0. A tight prior learns slowly, a
        wide one generalises little.
    item_base_variance
        The same for each item's own bias, which differs in scale from what it adds to features; None for
        `item_variance`.

    Raises
    ------
    ValueError
        If a dimension is below 1 or a variance is not a positive finite number.

    References
    ----------
    Li, Chu, Langford, Schapire (2010), "A contextual-bandit approach to personalized news article
    recommendation", algorithm 2: the hybrid of shared and per-arm parameters.
    """

    context_dim: int
    item_dim: int
    shared_variance: float = 0.25
    item_variance: float = 0.25
    user_variance: float = 0.25
    item_base_variance: float | None = None

    def __post_init__(self) -> None:
        for name in ("context_dim", "item_dim"):
            if getattr(self, name) < 1:
                msg = f"{name} is {getattr(self, name)}, wanted at least 1"
                raise ValueError(msg)
        for name in ("shared_variance", "item_variance", "user_variance", "item_base_variance"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                msg = f"{name} is {value}, wanted a positive finite number"
                raise ValueError(msg)

    @property
    def shared_dim(self) -> int:
        """Length of z and theta."""
        return self.context_dim * self.item_dim

    @property
    def item_prior(self) -> Variance:
        """Prior variance of an item's block: one number, or one for each coefficient."""
        return _with_base(self.context_dim, self.item_variance, self.item_base_variance)


@cache
def _with_base(d: int, variance: float, base: float | None) -> Variance:
    if base is None:
        return variance
    out = np.full(d, variance)
    out[0] = base
    out.flags.writeable = False
    return out


@dataclass(frozen=True, slots=True)
class SlotBatch:
    """Slots of closed decisions, in the order they are learnt in.

    Parameters
    ----------
    contexts
        x_c, shape (n, context_dim).
    items
        x_i, shape (n, item_dim).
    item_ids
        Of the n slots.
    users
        Whose block learns from each of the n slots; "" for none.
    rewards
        In [0, 1], fractions allowed, shape (n,).
    offsets
        Part of each logit known without the policy (a click model's), shape (n,); None for zeros. Whoever
        adds a logit to the scores must pass it here too, else it is learnt a second time.

    Raises
    ------
    ValueError
        If lengths differ, a number is not finite, or a reward leaves [0, 1].
    """

    contexts: FloatArray
    items: FloatArray
    item_ids: Sequence[str]
    users: Sequence[str]
    rewards: FloatArray
    offsets: FloatArray | None = None

    def __post_init__(self) -> None:
        n = len(self.rewards)
        for name in ("contexts", "items", "item_ids", "users", "offsets"):
            value = getattr(self, name)
            if value is not None and len(value) != n:
                msg = f"{name} has {len(value)} rows, wanted {n}: one for each reward"
                raise ValueError(msg)
        for name in ("contexts", "items", "offsets"):
            value = getattr(self, name)
            if value is not None and not np.isfinite(value).all():
                msg = f"{name} holds {np.asarray(value)[~np.isfinite(value)][0]}, wanted finite numbers"
                raise ValueError(msg)
        outside = ~((self.rewards >= 0) & (self.rewards <= 1))
        if outside.any():
            msg = f"rewards[{int(outside.argmax())}] is {self.rewards[outside][0]}, wanted a number in [0, 1]"
            raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.rewards)


@dataclass(frozen=True, slots=True)
class Learnt:
    """The new values of every block that a batch touched, packed (`bandits.natural`).

    Parameters
    ----------
    shared
        Of the shard.
    items, users
        By id; only those in the batch.
    """

    shared: FloatArray
    items: Mapping[str, FloatArray]
    users: Mapping[str, FloatArray]
