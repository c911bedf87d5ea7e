"""The Bayesian hybrid: its dimensions and priors, and the slots it learns from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from bandits.arrays import FloatArray
from bandits.natural import packed_size

Link = Literal["logistic", "linear"]

VARIANCES = (
    "shared_variance",
    "item_variance",
    "user_variance",
    "shared_cross_variance",
    "item_base_variance",
    "user_base_variance",
)
"""Names of the prior variances in a configuration."""


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
    item_base_variance, user_base_variance
        The same for the bias of each item and of each user, which differs in scale from what they add to
        features; None for `item_variance` and `user_variance`.
    shared_cross_variance
        The same for shared coefficients of products in which neither factor is the constant; None for
        `shared_variance`.
    shared_life_ms, item_life_ms, user_life_ms
        Event time in which what a block has learnt fades to 1 / e, > 0; None for never. Priors do not fade.
        Where one of them is given, all blocks carry the time they were last learnt at (`bandits.fading`).
    link
        "logistic" for rewards that are chances, "linear" for any number: then `eta` is the reward itself.
    noise_variance
        Of a reward around its expectation under the linear link, > 0.

    Raises
    ------
    ValueError
        If a dimension is below 1, a variance or a life is not a positive finite number, or the link unknown.

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
    user_base_variance: float | None = None
    shared_cross_variance: float | None = None
    shared_life_ms: float | None = None
    item_life_ms: float | None = None
    user_life_ms: float | None = None
    link: Link = "logistic"
    noise_variance: float = 0.1

    def __post_init__(self) -> None:
        for name in ("context_dim", "item_dim"):
            if getattr(self, name) < 1:
                msg = f"{name} is {getattr(self, name)}, wanted at least 1"
                raise ValueError(msg)
        for name in (*VARIANCES, "noise_variance", "shared_life_ms", "item_life_ms", "user_life_ms"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                msg = f"{name} is {value}, wanted a positive finite number"
                raise ValueError(msg)
        if self.link not in get_args(Link):
            msg = f"link is {self.link!r}, wanted one of {', '.join(get_args(Link))}"
            raise ValueError(msg)

    @property
    def fades(self) -> bool:
        """Whether any block fades."""
        lives = (self.shared_life_ms, self.item_life_ms, self.user_life_ms)
        return any(life is not None for life in lives)

    @property
    def shared_dim(self) -> int:
        """Length of z and theta."""
        return self.context_dim * self.item_dim

    @property
    def shared_prior(self) -> FloatArray:
        """Prior variances of the shared block, read-only, shape (shared_dim,)."""
        return _shared_prior(self)

    @property
    def item_prior(self) -> FloatArray:
        """Prior variances of an item's block, read-only, shape (context_dim,)."""
        return _with_base(self.context_dim, self.item_variance, self.item_base_variance)

    @property
    def user_prior(self) -> FloatArray:
        """Prior variances of a user's block, read-only, shape (item_dim,)."""
        return _with_base(self.item_dim, self.user_variance, self.user_base_variance)

    @property
    def shared_kind(self) -> "Kind":
        """What the shared block is like."""
        return Kind(self.shared_dim, self.shared_prior, self.shared_life_ms, self.fades)

    @property
    def item_kind(self) -> "Kind":
        """What items' blocks are like."""
        return Kind(self.context_dim, self.item_prior, self.item_life_ms, self.fades)

    @property
    def user_kind(self) -> "Kind":
        """What users' blocks are like."""
        return Kind(self.item_dim, self.user_prior, self.user_life_ms, self.fades)


@dataclass(frozen=True, slots=True)
class Kind:
    """What all blocks of one kind are like.

    Parameters
    ----------
    d
        Their dimension.
    prior
        Prior variances, shape (d,).
    life_ms
        Event time in which they fade to 1 / e; None for never.
    fades
        Whether any kind of the same policy fades: then each block carries its time.
    """

    d: int
    prior: FloatArray
    life_ms: float | None
    fades: bool

    @property
    def width(self) -> int:
        """Length of a stored block."""
        return packed_size(self.d) + self.fades


@lru_cache(maxsize=256)
def _with_base(d: int, variance: float, base: float | None) -> FloatArray:
    out = np.full(d, variance)
    if base is not None:
        out[0] = base
    out.flags.writeable = False
    return out


@lru_cache(maxsize=256)
def _shared_prior(config: HybridConfig) -> FloatArray:
    out = np.full((config.context_dim, config.item_dim), config.shared_variance)
    if config.shared_cross_variance is not None:
        out[1:, 1:] = config.shared_cross_variance
    flat = out.ravel()
    flat.flags.writeable = False
    return flat


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
    at_ms
        Event time at which they are learnt; plays no part where nothing fades.

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
    at_ms: float = 0.0

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
