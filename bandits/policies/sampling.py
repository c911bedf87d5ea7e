"""Propensities of policies that sample: no closed form, so they are counted."""

from collections.abc import Sequence

import numpy as np

from bandits.arrays import FloatArray
from bandits.policies.base import Policy


def sampled_propensities(
    policy: Policy,
    context: FloatArray,
    items: FloatArray,
    item_ids: Sequence[str],
    seeds: Sequence[int],
) -> FloatArray:
    """Return how often each candidate is the best over the seeds, shape (K,): an estimate of its propensity.

    Standard error sqrt(p (1 - p) / len(seeds)), and 0 for what never came up: the reason why sampling
    policies are references here, and laws with exact propensities the default.

    Raises
    ------
    ValueError
        If there is no seed.
    """
    if not seeds:
        msg = "seeds is empty, wanted at least one"
        raise ValueError(msg)
    best = [int(policy.scores(context, items, item_ids, seed).argmax()) for seed in seeds]
    return np.bincount(best, minlength=len(item_ids)) / len(seeds)
