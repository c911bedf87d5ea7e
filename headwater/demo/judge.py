"""Scores of a demo run, prequential: every slate is judged before its interaction is learnt by anyone."""

from dataclasses import dataclass, field

import numpy as np

from headwater.demo.baselines import Chance, Popularity


@dataclass
class Tally:
    """Requests and hits of one group of requests."""

    requests: int = 0
    hits: int = 0
    popularity: np.ndarray = field(default_factory=lambda: np.zeros(0))
    chance: float = 0.0

    def rate(self) -> float:
        """Return the engine's hit rate."""
        return self.hits / self.requests if self.requests else 0.0

    def popularity_rate(self) -> float:
        """Return the hit rate of the best half-life within this group."""
        return float(self.popularity.max(initial=0)) / self.requests if self.requests else 0.0

    def chance_rate(self) -> float:
        """Return the hit rate of random slates."""
        return self.chance / self.requests if self.requests else 0.0


class Judge:
    """Judges slates and baselines on the same requests.

    Parameters
    ----------
    item_ids
        The catalogue.
    """

    def __init__(self, item_ids: list[str]) -> None:
        self._column = {item_id: n for n, item_id in enumerate(item_ids)}
        self._seen: dict[str, np.ndarray] = {}
        self.popularity, self.chance = Popularity(len(item_ids)), Chance()
        zeros = len(self.popularity.half_lives)
        self.all = Tally(popularity=np.zeros(zeros))
        self.new = Tally(popularity=np.zeros(zeros))
        self.returning = Tally(popularity=np.zeros(zeros))
        self.slots = self.explored = 0
        self.rungs: dict[str, int] = {}

    def plan(self, user: str, item_id: str) -> tuple[np.ndarray, float]:
        """Judge the baselines on a request and let them learn its interaction; call in event order."""
        column = self._column[item_id]
        seen = self._seen.setdefault(user, np.zeros(len(self._column), dtype=np.bool_))
        popular = self.popularity.judge(column, seen)
        chance = self.chance.judge(seen)
        self.popularity.learn(column)
        seen[column] = True
        return popular, chance

    def score(self, planned: tuple[np.ndarray, float], *, hit: bool, first_session: bool) -> None:
        """Count one judged slate."""
        popular, chance = planned
        for tally in (self.all, self.new if first_session else self.returning):
            tally.requests += 1
            tally.hits += hit
            tally.popularity += popular
            tally.chance += chance
