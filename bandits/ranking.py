"""The policy a served slate is ranked by: its dimensions and priors, shared by who draws and who learns."""

from typing import NamedTuple

from bandits.hybrid import HybridConfig

CONTEXT_DIM = 5
ARM_DIM = 9


class Lives(NamedTuple):
    """Event time (ms) in which each kind of block fades to 1 / e; None for never."""

    shared: float | None = None
    item: float | None = None
    user: float | None = None


NEVER = Lives()


def ranking_policy(lives_ms: Lives = NEVER) -> HybridConfig:
    """Return the configuration of the default policy.

    It corrects the click model's logit, and most slots are never clicked: wide priors would let a handful of
    ignored impressions overrule what the click model learnt from all of them. Shards widen them where what
    was learnt says so (`bandits.priors`).
    """
    return HybridConfig(
        context_dim=CONTEXT_DIM,
        item_dim=ARM_DIM,
        shared_variance=0.01,
        item_variance=0.005,
        user_variance=0.01,
        shared_life_ms=lives_ms.shared,
        item_life_ms=lives_ms.item,
        user_life_ms=lives_ms.user,
    )
