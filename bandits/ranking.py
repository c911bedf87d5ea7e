"""The policy a served slate is ranked by: its dimensions and priors, shared by who draws and who learns."""

from bandits.hybrid import HybridConfig

CONTEXT_DIM = 5
ARM_DIM = 9


def ranking_policy() -> HybridConfig:
    """Return the configuration of the default policy.

    It corrects the click model's logit, and most slots are never clicked: wide priors would let a handful of
    ignored impressions overrule what the click model learnt from all of them.
    """
    return HybridConfig(
        context_dim=CONTEXT_DIM,
        item_dim=ARM_DIM,
        shared_variance=0.01,
        item_variance=0.005,
        user_variance=0.01,
    )
