"""Playing a world: choose, wait for the reward, learn; and what a policy got of what was possible."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.stats import t as student

from bandits.arrays import BoolArray, FloatArray
from benchmarks._bandit_worlds import Round, World


@dataclass(frozen=True, slots=True)
class Choice:
    """What a player chose.

    Parameters
    ----------
    place
        Of the candidate.
    propensity
        Its exact probability; None where the player cannot tell.
    memo
        Whatever the player wants back with the reward.
    """

    place: int
    propensity: float | None = None
    memo: Any = None


class Player(Protocol):
    """A policy in the loop."""

    def choose(self, now: Round, seed: int) -> Choice:
        """Choose one candidate; the seed decides any chance."""
        ...

    def learn(self, then: Round, choice: Choice, reward: float) -> None:
        """Learn from the reward of an earlier choice."""
        ...

    def forget(self, item_id: str) -> None:
        """Forget an item that left."""
        ...


@dataclass(frozen=True, slots=True)
class Trace:
    """Expected rewards, round by round, and births: all have shape (T,) but `waits`.

    Parameters
    ----------
    got, random, best
        Of the choice, of a uniform choice, of the best one.
    exact
        Whether the propensity was known.
    waits
        Rounds from birth to the tenth impression of each item that had time for it; infinite if it never
        came.
    """

    got: FloatArray
    random: FloatArray
    best: FloatArray
    exact: BoolArray
    waits: FloatArray

    def score(self, start: int = 0) -> float:
        """Return what was got above chance, as a share of what could have been, from a round on."""
        possible = float((self.best - self.random)[start:].sum())
        return float((self.got - self.random)[start:].sum()) / possible


class Births:
    """How long new items wait for ten impressions."""

    WANTED, WITHIN = 10, 2000

    def __init__(self) -> None:
        self._born: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._waits: dict[str, float] = {}
        self._whole: list[float] = []

    def see(self, at: int, now: Round, place: int) -> None:
        """Count one impression and who is there."""
        for item in now.gone:
            self._close(item, at)
        for item in now.item_ids:
            self._born.setdefault(item, at)
        shown = now.item_ids[place]
        self._seen[shown] = self._seen.get(shown, 0) + 1
        if self._seen[shown] == self.WANTED:
            self._waits[shown] = float(at - self._born[shown])

    def waits(self, end: int) -> FloatArray:
        """Return the waits of items born after the first round that lived long enough."""
        for item in list(self._born):
            self._close(item, end)
        return np.array(self._whole)

    def _close(self, item: str, at: int) -> None:
        born = self._born.pop(item)
        if born > 0 and at - born >= self.WITHIN:
            self._whole.append(self._waits.get(item, np.inf))


def play(world: World, player: Player, rounds: int, delay: int, seed: int) -> Trace:
    """Play so many rounds, rewards arriving `delay` rounds late; chance is common to all players."""
    rng = np.random.default_rng((seed, 41))
    coins, seeds = rng.random(rounds), rng.integers(0, 2**62, rounds).tolist()
    got, random, best = np.zeros(rounds), np.zeros(rounds), np.zeros(rounds)
    exact, births = np.zeros(rounds, np.bool_), Births()
    waiting: deque[tuple[Round, Choice, float]] = deque()
    for at in range(rounds):
        now = world.step()
        for item in now.gone:
            player.forget(item)
        choice = player.choose(now, seeds[at])
        p = float(now.expected[choice.place])
        got[at], random[at], best[at] = p, now.expected.mean(), now.expected.max()
        exact[at] = choice.propensity is not None
        births.see(at, now, choice.place)
        waiting.append((now, choice, float(coins[at] < p)))
        if len(waiting) > delay:
            player.learn(*waiting.popleft())
    return Trace(got, random, best, exact, births.waits(rounds))


def interval(values: Sequence[float]) -> dict[str, float]:
    """Return mean and 95 % interval of Student's t over seeds."""
    n, mean = len(values), float(np.mean(values))
    half = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("inf")
    return {"mean": mean, "low": mean - half, "high": mean + half, "seeds": n}
