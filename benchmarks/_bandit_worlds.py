"""Worlds whose truth is known: items that come and go, tastes that turn over, and real ratings.

A world moves on its own: users, items and lives do not depend on what is shown, so that every policy meets
the same rounds of the same seed.
"""

from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
from scipy.special import expit

from bandits.arrays import FloatArray
from headwater.datasets import Movie, MovieLens, Person, load_movielens

MOVIE_CANDIDATES = 20


@dataclass(frozen=True, slots=True)
class Round:
    """One choice to make.

    Parameters
    ----------
    user
        Id; "" where users come once.
    context
        x_c with a leading 1, shape (dc,).
    items
        x_i of the candidates with a leading 1, shape (K, di).
    item_ids
        Of the K candidates; an id keeps its features for life.
    expected
        Expected reward of each, hidden from policies, shape (K,).
    gone
        Ids that left before this round.
    """

    user: str
    context: FloatArray
    items: FloatArray
    item_ids: list[str]
    expected: FloatArray
    gone: tuple[str, ...] = ()


class World(Protocol):
    """Gives rounds; two of one seed give the same."""

    context_dim: int
    item_dim: int

    def step(self) -> Round:
        """Return the next round."""
        ...


class ChurningWorld:
    """K live items, each leaving after a geometric life, replaced by one never seen before.

    The logit of a reward is bias + context . bilinear . item + popularity . item + the item's own residual +
    context . the item's own taste; all coefficients are drawn by the seed.

    Parameters
    ----------
    seed
        Decides everything.
    live
        K.
    mean_life
        In rounds.
    flip_at
        Round at which the bilinear coefficients change sign; None for never.
    """

    context_dim = item_dim = 9

    def __init__(
        self, seed: int, live: int = 50, mean_life: float = 2500.0, flip_at: int | None = None
    ) -> None:
        self._rng = np.random.default_rng((seed, 17))
        self._life, self._flip_at, self._at, self._born = mean_life, flip_at, 0, 0
        self._bilinear = self._rng.normal(0.0, 0.11, (self.context_dim - 1, self.item_dim - 1))
        self._popularity = self._rng.normal(0.0, 0.2, self.item_dim - 1)
        self._items = np.ones((live, self.item_dim))
        self._residual, self._taste = np.zeros(live), np.zeros((live, self.context_dim - 1))
        self._ids = [""] * live
        for place in range(live):
            self._bear(place)

    def _bear(self, place: int) -> None:
        self._items[place, 1:] = self._rng.normal(0.0, 1.0, self.item_dim - 1)
        self._residual[place] = self._rng.normal(0.0, 0.5)
        self._taste[place] = self._rng.normal(0.0, 0.2, self.context_dim - 1)
        self._ids[place] = f"item-{self._born}"
        self._born += 1

    def step(self) -> Round:
        """Return the next round."""
        if self._at == self._flip_at:
            self._bilinear = -self._bilinear
        self._at += 1
        places = np.flatnonzero(self._rng.random(len(self._ids)) < 1.0 / self._life).tolist()
        gone = tuple(self._ids[place] for place in places)
        for place in places:
            self._bear(place)
        context = np.concatenate(([1.0], self._rng.normal(0.0, 1.0, self.context_dim - 1)))
        expected = expit(self._logits(context[1:]))
        return Round("", context, self._items.copy(), list(self._ids), expected, gone)

    def _logits(self, x: FloatArray) -> FloatArray:
        shared = self._items[:, 1:] @ (self._popularity + x @ self._bilinear)
        logits: FloatArray = -4.2 + shared + self._residual + self._taste @ x
        return logits


class MovieWorld:
    """A real user and films she really rated, drawn uniformly: five stars are a reward of 1, others of 0.

    Parameters
    ----------
    seed
        Of the users and films drawn.
    data
        The ratings; MovieLens-100K if not given.
    """

    def __init__(self, seed: int, data: MovieLens | None = None) -> None:
        self._rng = np.random.default_rng((seed, 23))
        table = _movie_table() if data is None else MovieTable(data)
        self._table, self.context_dim, self.item_dim = table, table.context_dim, table.item_dim

    def step(self) -> Round:
        """Return the next round."""
        table = self._table
        user = table.users[int(self._rng.integers(len(table.users)))]
        films, rewards = table.rated[user]
        some = self._rng.choice(len(films), MOVIE_CANDIDATES, replace=False)
        ids = [films[place] for place in some.tolist()]
        items = np.array([table.films[film] for film in ids])
        return Round(user, table.people[user], items, ids, rewards[some])


class MovieTable:
    """Features of people and films, and who gave what five stars."""

    def __init__(self, data: MovieLens) -> None:
        genres = sorted({genre for movie in data.items.values() for genre in movie.genres})
        self.films = {key: _film(movie, genres) for key, movie in data.items.items()}
        self.people = {key: _person(person) for key, person in data.users.items()}
        rated: dict[str, dict[str, float]] = defaultdict(dict)
        for rating in data.ratings:
            rated[rating.user_id][rating.item_id] = float(rating.rating == 5)
        self.rated = {
            user: (list(films), np.array(list(films.values())))
            for user, films in rated.items()
            if len(films) >= MOVIE_CANDIDATES
        }
        self.users = sorted(self.rated)
        self.context_dim = len(next(iter(self.people.values())))
        self.item_dim = len(next(iter(self.films.values())))


def _film(movie: Movie, genres: list[str]) -> FloatArray:
    years_back = 0.0 if movie.year is None else (1998 - movie.year) / 20.0
    return np.array([1.0, years_back, *(float(genre in movie.genres) for genre in genres)])


def _person(person: Person) -> FloatArray:
    return np.array([1.0, (person.age - 34.0) / 12.0, float(person.gender == "F")])


@cache
def _movie_table() -> MovieTable:
    return MovieTable(load_movielens())
