"""The policies by the names they are known by: a model, and the exploration that makes it that policy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bandits.exploration import Exploration
from bandits.model import HybridConfig
from bandits.policies.base import Policy
from bandits.policies.hybrid import HybridPolicy, HybridThompson
from bandits.policies.linear import LinearConfig, LinTS, LinUCB
from bandits.policies.popularity import BetaThompson, Popularity

AS_SCORED = Exploration(scheme="softmax", rate=0.0, temperature=1.0)
"""Draws by scores that are logarithms of probabilities already."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One named policy.

    Parameters
    ----------
    make
        A fresh one, from the lengths of x_c and x_i.
    exploration
        How its slots are drawn.
    """

    make: Callable[[int, int], Policy]
    exploration: Exploration


def _hybrid(context_dim: int, item_dim: int) -> Policy:
    return HybridPolicy(HybridConfig(context_dim, item_dim))


CATALOGUE: Mapping[str, Entry] = {
    "hybrid greedy": Entry(_hybrid, Exploration(scheme="greedy")),
    "hybrid epsilon": Entry(_hybrid, Exploration(scheme="epsilon", rate=0.05)),
    "hybrid softmax": Entry(_hybrid, Exploration(scheme="softmax", rate=0.02, temperature=0.2)),
    "hybrid squarecb": Entry(_hybrid, Exploration(scheme="squarecb", rate=0.0, gamma=1000.0)),
    "hybrid optimistic": Entry(_hybrid, Exploration(scheme="optimistic", rate=0.01, temperature=0.05)),
    "hybrid thompson": Entry(
        lambda context_dim, item_dim: HybridThompson(HybridConfig(context_dim, item_dim)), AS_SCORED
    ),
    "linear ucb": Entry(
        lambda context_dim, item_dim: LinUCB(LinearConfig(context_dim, item_dim)),
        Exploration(scheme="greedy"),
    ),
    "linear thompson": Entry(
        lambda context_dim, item_dim: LinTS(LinearConfig(context_dim, item_dim)), Exploration(scheme="greedy")
    ),
    "popularity epsilon": Entry(lambda *_: Popularity(), Exploration(scheme="epsilon", rate=0.05)),
    "beta thompson": Entry(lambda *_: BetaThompson(), AS_SCORED),
}
"""Every policy class and every scheme is in it at least once."""
