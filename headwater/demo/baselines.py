"""Plain rivals on the very same requests: popularity under several half-lives, and chance."""

import numpy as np
from numpy.typing import NDArray

HALF_LIVES_EVENTS = (100.0, 300.0, 1_000.0, 3_000.0, 10_000.0, float("inf"))
_RENORMALISE = 1e100


class Popularity:
    """Decayed counts, updated on every event, under several half-lives at once.

    Items already rated by the user are left out, as they are from the engine's slates.

    Parameters
    ----------
    items
        Number of items.
    half_lives
        In events; infinity counts for ever.
    """

    def __init__(self, items: int, half_lives: tuple[float, ...] = HALF_LIVES_EVENTS) -> None:
        self.half_lives = half_lives
        self._counts = np.zeros((len(half_lives), items))
        self._growth = 2.0 ** (1.0 / np.array(half_lives))
        self._weight = np.ones(len(half_lives))
        self.hits = np.zeros(len(half_lives), dtype=np.int64)

    def judge(self, item: int, seen: NDArray[np.bool_], k: int = 10) -> NDArray[np.bool_]:
        """Return, for each half-life, whether the item is among the k most popular unseen ones."""
        counts = np.where(seen, -1.0, self._counts)
        own = counts[:, item : item + 1]
        better = (counts > own).sum(axis=1)
        ties_before = (counts[:, :item] == own).sum(axis=1)
        hit: NDArray[np.bool_] = better + ties_before < k
        self.hits += hit
        return hit

    def learn(self, item: int) -> None:
        """Count one interaction."""
        self._weight *= self._growth
        self._counts[:, item] += self._weight
        if self._weight.max() > _RENORMALISE:
            self._counts /= self._weight[:, None]
            self._weight[:] = 1.0

    def best(self) -> tuple[int, float]:
        """Return hits of the best half-life, and that half-life."""
        index = int(self.hits.argmax())
        return int(self.hits[index]), self.half_lives[index]


class Chance:
    """The hit rate of a uniform draw from unseen items, in expectation.

    Attributes
    ----------
    hits
        Sum over requests of k / unseen items.
    """

    def __init__(self) -> None:
        self.hits = 0.0

    def judge(self, seen: NDArray[np.bool_], k: int = 10) -> float:
        """Return the chance that the item is in a random slate."""
        chance = min(1.0, k / max(1, int((~seen).sum())))
        self.hits += chance
        return chance
