"""Policies behind one protocol: the default one, and the references it is measured against."""

from bandits.policies.base import Candidates, Policy, Snapshot
from bandits.policies.catalogue import CATALOGUE
from bandits.policies.hybrid import HybridPolicy, HybridThompson
from bandits.policies.linear import LinearConfig, LinTS, LinUCB
from bandits.policies.popularity import BetaThompson, Popularity
from bandits.policies.sampling import sampled_propensities

__all__ = [
    "CATALOGUE",
    "BetaThompson",
    "Candidates",
    "HybridPolicy",
    "HybridThompson",
    "LinTS",
    "LinUCB",
    "LinearConfig",
    "Policy",
    "Popularity",
    "Snapshot",
    "sampled_propensities",
]
