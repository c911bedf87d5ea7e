"""What exploration owes new items, and what it may cost: quotas, its law, and token buckets."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from bandits.arrays import FloatArray

UNIFORM_SHARE = 0.1
"""Part of exploration that goes to everybody, owed or not: keeps every candidate's weight above nothing."""
TAPER = 0.2
"""Fill of a bucket, as a share of its capacity, below which exploration is cut back in proportion."""
STEPS = 16
"""Rates between none and all that a bucket which runs dry goes through."""
DOUBT = 20.0
"""Explored slots without reward that the measured cost begins with: little known is taken for expensive."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What a new item is owed.

    Parameters
    ----------
    impressions
        Eligible impressions, >= 1.
    patience
        How long after it came, in whatever unit ages are given in, > 0.
    """

    impressions: int
    patience: float

    def deficits(self, impressions: FloatArray, ages: FloatArray) -> FloatArray:
        """Return how many impressions each item is still owed, (K,); 0 for who has enough or is not new.

        Parameters
        ----------
        impressions
            Each item has had, or is about to have, (K,).
        ages
            Since each came, (K,); negative for one that has not come yet.
        """
        is_new = (ages >= 0.0) & (ages < self.patience)
        return np.where(is_new, np.maximum(0.0, self.impressions - impressions), 0.0)


def owed_weights(deficits: FloatArray, scores: FloatArray) -> FloatArray:
    """Return what each candidate is owed, times its expected reward: deficit x sigmoid(score), shape (K,)."""
    owed: FloatArray = deficits * expit(scores)
    return owed


def explore_weights(owed: FloatArray, uniform: float = UNIFORM_SHARE) -> FloatArray | None:
    """Return the law of exploration q over K candidates, shape (K,); None for uniform: nobody is owed.

    Parameters
    ----------
    owed
        What `owed_weights` says, >= 0, shape (K,).
    uniform
        Share of q that everybody has alike, in [0, 1].
    """
    total = float(np.add.reduce(owed))
    if total <= 0.0:
        return None
    weights: FloatArray = (1.0 - uniform) * (owed / total) + uniform / len(owed)
    return weights


@dataclass(frozen=True, slots=True)
class Spending:
    """What exploration did in equal stretches of time, oldest first, shape (B,) each.

    Parameters
    ----------
    explored
        Slots drawn from the law of exploration.
    exploited_shown, exploited_reward
        Other slots that were shown and closed, and their rewards.
    explored_shown, explored_reward
        The same of slots that explored.
    """

    explored: FloatArray
    exploited_shown: FloatArray
    exploited_reward: FloatArray
    explored_shown: FloatArray
    explored_reward: FloatArray

    def cost_per_slot(self) -> float:
        """Return what an explored slot costs, >= 0: the reward of an exploited one less that of an explored.

        Nothing while no exploited slot has closed.
        """
        shown = float(self.exploited_shown.sum())
        if not shown:
            return 0.0
        exploited = float(self.exploited_reward.sum()) / shown
        explored = float(self.explored_reward.sum()) / (float(self.explored_shown.sum()) + DOUBT)
        return max(0.0, exploited - explored)

    def costs(self) -> FloatArray:
        """Return what exploration cost in each stretch, in rewards, (B,); measured over all of them."""
        return self.explored * self.cost_per_slot()


def bucket_level(costs: FloatArray, capacity: float, refills: FloatArray) -> float:
    """Return what a token bucket holds, in [-capacity, capacity].

    Parameters
    ----------
    costs
        Spent in each stretch of time, oldest first, (B,).
    capacity
        What it holds at most, and at the beginning.
    refills
        What flows in during each stretch, (B,).
    """
    level = capacity
    for cost, refill in zip(costs.tolist(), refills.tolist(), strict=True):
        level = max(-capacity, min(capacity, level + refill) - cost)
    return level


def allowance(level: float, capacity: float) -> float:
    """Return the share of the wished rate that a bucket allows, in [0, 1], in steps of 1/16."""
    full = TAPER * capacity
    return float(np.floor(STEPS * min(1.0, level / full)) / STEPS) if full > 0.0 and level > 0.0 else 0.0
