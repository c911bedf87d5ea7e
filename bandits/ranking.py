"""The policy a served slate is ranked by: its dimensions and priors, shared by who draws and who learns."""

import hashlib
from typing import NamedTuple

from bandits.hybrid import HybridConfig

CONTEXT = ("constant", "new_user", "session_length", "events", "has_neighbours")
"""What a context says, in order."""
ARMS = ("constant", "blend_share", "covisit", "embedding", "content", "trend_fast", "affinity", "novelty")
"""What is said of each candidate, in order: few, since every one is learnt for every user anew."""
CONTEXT_DIM, ARM_DIM = len(CONTEXT), len(ARMS)
_SEAL = hashlib.blake2b(repr((CONTEXT, ARMS)).encode(), digest_size=8).digest()


class Lives(NamedTuple):
    """Event time (ms) in which each kind of block fades to 1 / e; None for never."""

    shared: float | None = None
    item: float | None = None
    user: float | None = None


NEVER = Lives()


def ranking_policy(lives_ms: Lives = NEVER) -> HybridConfig:
    """Return the configuration of the default policy.

    It corrects the click model's logit, and most slots are never clicked: wide priors would let a handful of
    ignored impressions overrule what the click model learnt from all of them. Shards widen them, up to
    thirtyfold, where what was learnt says so (`bandits.priors`).
    """
    return HybridConfig(
        context_dim=CONTEXT_DIM,
        item_dim=ARM_DIM,
        shared_variance=0.001,
        item_variance=0.0005,
        user_variance=0.001,
        shared_life_ms=lives_ms.shared,
        item_life_ms=lives_ms.item,
        user_life_ms=lives_ms.user,
    )


def seal(block: bytes) -> bytes:
    """Return a block as it is kept: behind a hash of what its numbers mean."""
    return _SEAL + block


def unseal(kept: bytes) -> bytes | None:
    """Return the block of `seal`; None for one whose numbers mean something else, or of a version before."""
    return kept[len(_SEAL) :] if kept.startswith(_SEAL) else None
