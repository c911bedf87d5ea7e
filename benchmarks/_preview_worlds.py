"""Requests with known clicks on which previews of another exploration rate are tried.

Three ways to click: each slot by itself (`position`), one click at most (`cascade`), and visitors who leave
after an item they do not care for (`patience`): what a slot earns then depends on all slots above it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import expit, logit

from bandits.arrays import BoolArray, FloatArray, IntArray
from bandits.exploration import Exploration
from bandits.ope import CoinCell

Clicks = Literal["position", "cascade", "patience"]
CLICKS: tuple[Clicks, ...] = ("position", "cascade", "patience")
CONTEXTS = 200
CANDIDATES = 50
_CHUNK = 4_000


@dataclass(frozen=True, slots=True)
class Log:
    """Drawn slates: which context, its candidates by slot (n, k) and which slots explored (n, k)."""

    contexts: IntArray
    slates: IntArray
    explored: BoolArray


class PreviewWorld:
    """Contexts with candidates of known appeal, and a model that sees it with noise and never learns.

    Parameters
    ----------
    seed
        Decides everything but the draws.
    clicks
        How visitors click.
    slots
        Of a slate.
    """

    def __init__(self, seed: int, clicks: Clicks, slots: int) -> None:
        rng = np.random.default_rng((seed, 41))
        self.clicks, self._slots = clicks, slots
        self.appeal = expit(rng.normal(-3.0, 0.9, (CONTEXTS, CANDIDATES)))
        self.scores = logit(self.appeal) + rng.normal(0.0, 0.5, (CONTEXTS, CANDIDATES))

    def draw(self, law: Exploration, n: int, seed: int) -> Log:
        """Return n slates of contexts drawn evenly."""
        rng = np.random.default_rng((seed, 43))
        contexts = rng.permutation(np.arange(n) % CONTEXTS)
        explored = coins(law, n, self._slots, rng)
        slates = [
            many_slates(self.scores[contexts[at : at + _CHUNK]], explored[at : at + _CHUNK], law, rng)
            for at in range(0, n, _CHUNK)
        ]
        return Log(contexts, np.concatenate(slates), explored)

    def expected(self, log: Log) -> FloatArray:
        """Return the expected clicks of each slot of each slate, (n, k); of one click at most, its chance."""
        appeal = self.appeal[log.contexts[:, None], log.slates]
        if self.clicks == "position":
            seen: FloatArray = appeal * 0.85 ** np.arange(self._slots)
            return seen
        goes_on = 1.0 - appeal if self.clicks == "cascade" else np.where(appeal < 0.03, 0.5, 0.95)
        before = np.cumprod(np.concatenate([np.ones((len(appeal), 1)), goes_on[:, :-1]], axis=1), axis=1)
        out: FloatArray = before * appeal
        return out

    def rewards(self, log: Log, seed: int) -> FloatArray:
        """Return the clicks on each slate, (n,)."""
        rng, expected = np.random.default_rng((seed, 47)), self.expected(log)
        if self.clicks == "cascade":
            clicked: FloatArray = (rng.random(len(expected)) < expected.sum(axis=1)).astype(np.float64)
            return clicked
        clicks: FloatArray = (rng.random(expected.shape) < expected).sum(axis=1).astype(np.float64)
        return clicks


def coins(law: Exploration, n: int, slots: int, rng: np.random.Generator) -> BoolArray:
    """Return which slots of n slates explore, (n, k): each by its own coin, or one of them by the slate's."""
    if law.mode == "every_slot":
        each: BoolArray = rng.random((n, slots)) < law.rate
        return each
    at = rng.integers(0, slots, n)
    one: BoolArray = (rng.random(n) < law.rate)[:, None] & (at[:, None] == np.arange(slots))
    return one


def many_slates(
    scores: FloatArray, explored: BoolArray, law: Exploration, rng: np.random.Generator
) -> IntArray:
    """Return slates (n, k) drawn by the law of `bandits.slates` from scores (n, K), all at once.

    Slots that explore take anybody left, the others the first left of a race that takes no notice of them.
    """
    rows, slates = np.arange(len(scores)), np.empty(explored.shape, np.int64)
    ranks = scores.copy() if law.takes_best else scores / law.temperature + rng.gumbel(size=scores.shape)
    for slot in range(explored.shape[1]):
        anybody = rng.random(scores.shape)
        anybody[ranks == -np.inf] = -1.0
        chosen = np.where(explored[:, slot], anybody.argmax(axis=1), ranks.argmax(axis=1))
        slates[:, slot] = chosen
        ranks[rows, chosen] = -np.inf
    return slates


def cell_of(log: Log, rewards: FloatArray, law: Exploration) -> CoinCell:
    """Return what a lane folds of a log."""
    is_single = law.mode == "single_slot"
    explored = log.explored.any(axis=1) if is_single else log.explored.sum(axis=1)
    width = 2 if is_single else log.explored.shape[1] + 1
    counts, sums, squares = (
        np.bincount(explored.astype(np.int64), values, minlength=width).astype(np.float64)
        for values in (np.ones(len(rewards)), rewards, rewards**2)
    )
    return CoinCell(law.rate, is_single, counts, sums, squares)
