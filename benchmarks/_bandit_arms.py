"""Libraries with one model per arm, in the loop; nothing here is imported where it is absent."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from benchmarks._bandit_play import Choice
from benchmarks._bandit_worlds import Round

MABWISER_BATCH = 10
"""Rewards learnt at once: each `partial_fit` copies every arm, so one at a time would take minutes a seed."""


def found(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


class MabwiserPlayer:
    """MABWiser's LinUCB: a ridge regression on the context for each arm.

    Parameters
    ----------
    alpha
        Standard deviations added.
    batch
        Rewards learnt at once.
    """

    def __init__(self, alpha: float, batch: int = MABWISER_BATCH) -> None:
        from mabwiser.mab import MAB, LearningPolicy  # noqa: PLC0415 - optional, see the module

        self._make: Callable[[list[str]], Any] = lambda arms: MAB(arms, LearningPolicy.LinUCB(alpha=alpha))
        self._mab: Any = None
        self._batch = batch
        self._arms: set[str] = set()
        self._rewards: list[tuple[str, float, Any]] = []

    def choose(self, now: Round, seed: int) -> Choice:
        """Take the arm of the highest bound; ties go to chance, since all new arms tie."""
        self._meet(now)
        bounds = self._mab.predict_expectations(now.context[None])
        return Choice(best([bounds[item] for item in now.item_ids], seed))

    def _meet(self, now: Round) -> None:
        if self._mab is None:
            self._mab, self._arms = self._make(list(now.item_ids)), set(now.item_ids)
            # It refuses to predict before a first fit; an observation of zeros tells it nothing.
            self._mab.fit([now.item_ids[0]], [0.0], np.zeros((1, len(now.context))))
        for item in now.item_ids:
            if item not in self._arms:
                self._arms.add(item)
                self._mab.add_arm(item)

    def learn(self, then: Round, choice: Choice, reward: float) -> None:
        """Learn, some rewards at a time."""
        self._rewards.append((then.item_ids[choice.place], reward, then.context))
        if len(self._rewards) >= self._batch:
            known = [one for one in self._rewards if one[0] in self._arms]
            self._rewards = []
            if known:
                arms, rewards, contexts = zip(*known, strict=True)
                self._mab.partial_fit(list(arms), list(rewards), np.array(contexts))

    def forget(self, item_id: str) -> None:
        """Remove an arm."""
        if item_id in self._arms:
            self._arms.discard(item_id)
            self._mab.remove_arm(item_id)


class RiverPlayer:
    """River's LinUCBDisjoint; its alpha is the precision of the prior, the bonus is fixed."""

    def __init__(self) -> None:
        from river.bandit import LinUCBDisjoint  # noqa: PLC0415, TID251 - the rival, not a part of the engine

        self._policy: Any = LinUCBDisjoint(alpha=1.0, seed=1)

    def choose(self, now: Round, seed: int) -> Choice:
        """Pull."""
        del seed
        arm = self._policy.pull(now.item_ids, context=named(now))
        return Choice(now.item_ids.index(arm))

    def learn(self, then: Round, choice: Choice, reward: float) -> None:
        """Update one arm."""
        self._policy.update(then.item_ids[choice.place], named(then), reward)

    def forget(self, item_id: str) -> None:
        """Do nothing: it has no way to remove an arm."""


def named(now: Round) -> dict[str, float]:
    """Return the context as river wants it."""
    return {f"u{n}": value for n, value in enumerate(now.context.tolist())}


def best(bounds: list[float], seed: int) -> int:
    """Return the place of the highest, equals by chance."""
    values = np.array(bounds)
    places = np.flatnonzero(values >= values.max())
    return int(places[np.random.default_rng(seed).integers(len(places))])
