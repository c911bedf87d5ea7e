"""Policies behind one protocol: the default one, and the references it is measured against."""

from bandits.policies.base import Policy
from bandits.policies.hybrid import HybridPolicy
from bandits.policies.linear import LinearConfig, LinTS, LinUCB
from bandits.policies.popularity import BetaThompson, Popularity
from bandits.policies.sampling import sampled_propensities

__all__ = [
    "BetaThompson",
    "HybridPolicy",
    "LinTS",
    "LinUCB",
    "LinearConfig",
    "Policy",
    "Popularity",
    "sampled_propensities",
]
