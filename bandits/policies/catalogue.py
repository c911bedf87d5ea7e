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


_DAY_MS = 86_400_000.0


def _hybrid(context_dim: int, item_dim: int) -> Policy:
    return HybridPolicy(HybridConfig(context_dim, item_dim))


def _fading(context_dim: int, item_dim: int) -> Policy:
    config = HybridConfig(
        context_dim,
        item_dim,
        shared_life_ms=30 * _DAY_MS,
        item_life_ms=7 * _DAY_MS,
        user_life_ms=14 * _DAY_MS,
    )
    return HybridPolicy(config)


CATALOGUE: Mapping[str, Entry] = {
    "hybrid greedy": Entry(_hybrid, Exploration(scheme="greedy")),
    "hybrid epsilon": Entry(_hybrid, Exploration(scheme="epsilon", rate=0.05)),
    "hybrid softmax": Entry(_hybrid, Exploration(scheme="softmax", rate=0.02, temperature=0.2)),
    "hybrid squarecb": Entry(_hybrid, Exploration(scheme="squarecb", rate=0.0, gamma=1000.0)),
    "hybrid optimistic": Entry(_hybrid, Exploration(scheme="optimistic", rate=0.01, temperature=0.05)),
    "hybrid epsilon, one slot a slate": Entry(
        _hybrid, Exploration(scheme="epsilon", rate=0.2, mode="single_slot")
    ),
    "hybrid softmax, one slot a slate": Entry(
        _hybrid, Exploration(scheme="softmax", rate=0.2, temperature=0.2, mode="single_slot")
    ),
    "hybrid softmax, fading": Entry(_fading, Exploration(scheme="softmax", rate=0.02, temperature=0.2)),
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
"""Every policy class, scheme and mode is in it at least once."""
