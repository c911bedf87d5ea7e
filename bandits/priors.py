"""Prior variances by empirical Bayes: blocks tell how far coefficients of their kind lie from zero.

Accumulators hold no prior (`bandits.natural`), so the marginal likelihood of everything learnt so far is a
function of the accumulators and the prior alone, and no slot has to be kept for it. What the blocks still
hold is the window: all there was, or with a life (`HybridConfig.item_life_ms`) the latest of it.

References
----------
MacKay (1992), "Bayesian interpolation", equations 2.32 and 2.33: the fixed point v = sum of m^2 / gamma,
where gamma counts how many coefficients the data have determined.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bandits.arrays import BoolArray, FloatArray
from bandits.model import VARIANCES, HybridConfig, Kind
from bandits.natural import moments

STRENGTH = 4.0
"""Coefficients that the configuration's own variance counts as: with little data it decides."""

STEPS = 4
"""Rounds of the fixed point; it is taken up again from where it stood, so few are enough."""

SPAN = 30.0
"""A variance stays within this factor of the configuration's own: no stream, however odd, ends learning."""


class EmpiricalBayes:
    """Prior variances that follow what was learnt; deterministic.

    Parameters
    ----------
    start
        Its variances are the guess that holds without data.
    now
        Where an earlier search has come to; None for the guess.

    Attributes
    ----------
    now
        The configuration with the variances in force.
    slots
        How many slots were learnt.
    """

    def __init__(self, start: HybridConfig, now: HybridConfig | None = None) -> None:
        self.start, self.now = start, now or start
        self.slots = 0

    def is_due(self, more: int) -> bool:
        """Count slots; return whether so many more make another estimate worth its price."""
        before, self.slots = _stage(self.slots), self.slots + more
        return _stage(self.slots) > before

    def estimate(
        self, shared: FloatArray, items: Mapping[str, FloatArray], users: Mapping[str, FloatArray]
    ) -> HybridConfig:
        """Return the configuration with the variances under which what was learnt is most likely.

        Parameters
        ----------
        shared
            Stored shared block, summed over whatever is read together.
        items, users
            Stored blocks by id.
        """
        # By id: sums must round alike in whatever order blocks were learnt or loaded.
        blocks = (shared[None], *(np.array([held[key] for key in sorted(held)]) for held in (items, users)))
        for _ in range(STEPS):
            self.now = _with(self.now, dict(self._better(*blocks)))
        return self.now

    def _better(
        self, shared: FloatArray, items: FloatArray, users: FloatArray
    ) -> Iterator[tuple[str, float]]:
        for name, blocks, kind, parts in (
            ("shared", shared, self.now.shared_kind, _shared_parts(self.start)),
            ("item", items, self.now.item_kind, _own_parts(self.start, "item")),
            ("user", users, self.now.user_kind, _own_parts(self.start, "user")),
        ):
            if len(blocks):
                squares, gamma = _determined(blocks, kind)
                for part, places in parts.items():
                    guess = getattr(self.start, f"{name}_{part}")
                    yield f"{name}_{part}", _variance(guess, squares[places].sum(), gamma[places].sum())


def prior_of(config: HybridConfig, weight: float) -> FloatArray:
    """Return a configuration's prior variances as one vector behind the slots they were found from.

    What a shard stores beside its blocks; variances that the configuration leaves open are 0.
    """
    return np.array([weight, *(getattr(config, name) or 0.0 for name in VARIANCES)])


def with_prior(start: HybridConfig, *priors: FloatArray) -> HybridConfig:
    """Return a configuration with what shards have found (`prior_of`): geometric means, by their slots.

    The result does not depend on anything but the vectors and their order. A vector of another length, of a
    version that knew other variances, counts for nothing.
    """
    known = [prior for prior in priors if len(prior) == 1 + len(VARIANCES) and prior[0] > 0]
    weights = np.array([prior[0] for prior in known])
    found = {}
    for place, name in enumerate(VARIANCES, start=1):
        variances = np.array([prior[place] for prior in known])
        if known and getattr(start, name) is not None and (variances > 0).all():
            # Exact where all agree, as a shard that is loaded again must go on with the same bits.
            same = (variances == variances[0]).all()
            found[name] = float(variances[0] if same else np.exp(weights @ np.log(variances) / weights.sum()))
    return _with(start, found)


def _with(config: HybridConfig, variances: Mapping[str, Any]) -> HybridConfig:
    return replace(config, **variances)


def _stage(slots: int) -> int:
    """Return a number that goes up every 200 slots at first, then with every tenth part more of them."""
    return int(8.0 * np.log2(1.0 + slots / 1600.0))


def _shared_parts(config: HybridConfig) -> dict[str, BoolArray]:
    crossed = np.zeros((config.context_dim, config.item_dim), np.bool_)
    if config.shared_cross_variance is None:
        return {"variance": ~crossed.ravel()}
    crossed[1:, 1:] = True
    return {"variance": ~crossed.ravel(), "cross_variance": crossed.ravel()}


def _own_parts(config: HybridConfig, name: str) -> dict[str, slice]:
    if getattr(config, f"{name}_base_variance") is None:
        return {"variance": slice(None)}
    return {"variance": slice(1, None), "base_variance": slice(0, 1)}


def _determined(blocks: FloatArray, kind: Kind) -> tuple[FloatArray, FloatArray]:
    """Return sums over blocks of m^2 and of gamma, by coefficient, two arrays (d,)."""
    means, covariances = moments(blocks, kind.d, kind.prior)
    left = covariances[:, np.arange(kind.d), np.arange(kind.d)] / kind.prior
    return (means * means).sum(axis=0), np.maximum(1.0 - left, 0.0).sum(axis=0)


def _variance(guess: float, squares: float, gamma: float) -> float:
    found = (STRENGTH * guess + squares) / (STRENGTH + gamma)
    return float(np.clip(found, guess / SPAN, guess * SPAN))
