"""The policy a served slate is ranked by: its dimensions and priors, shared by who draws and who learns."""

from bandits.hybrid import HybridConfig

CONTEXT_DIM = 5
ARM_DIM = 9


def ranking_policy() -> HybridConfig:
    """Return the configuration of the default policy."""
    return HybridConfig(context_dim=CONTEXT_DIM, item_dim=ARM_DIM)
