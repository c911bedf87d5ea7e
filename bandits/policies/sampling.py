"""Propensities of policies that sample: no closed form, so they are counted."""

from collections.abc import Sequence

import numpy as np

from bandits.arrays import FloatArray
from bandits.exploration import Exploration
from bandits.policies.base import Candidates, Policy

_GREEDY = Exploration(scheme="greedy")


def sampled_propensities(policy: Policy, candidates: Candidates, seeds: Sequence[int]) -> FloatArray:
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
    best = [int(policy.scores(candidates, _GREEDY, seed).argmax()) for seed in seeds]
    return np.bincount(best, minlength=len(candidates.item_ids)) / len(seeds)
