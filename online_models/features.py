"""One definition of the click model's features, for training and for serving."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from online_models.arrays import FloatArray

KINDS = ("score", "ratio", "flag", "count", "seconds")
PRIVACY = ("item", "context", "session", "profile")


@dataclass(frozen=True, slots=True)
class Feature:
    """A named number the click model may use.

    Parameters
    ----------
    name
        Unique, without `*`.
    kind
        How raw values become inputs: `score` as they are; `ratio` and `flag` cut to 0..1; `count` and
        `seconds` as log(1 + value), negative values as 0.
    default
        Raw value where none is known.
    privacy
        What it tells about: `item`, `context` (request), `session`, or `profile` (a person's history, left at
        its default without consent).
    window
        The stretch of event time it is computed over, in words.
    about
        One line for people.
    """

    name: str
    kind: str = "score"
    default: float = 0.0
    privacy: str = "item"
    window: str = "now"
    about: str = ""

    def __post_init__(self) -> None:
        if not self.name or "*" in self.name:
            msg = f"name is {self.name!r}, wanted letters without '*'"
            raise ValueError(msg)
        if self.kind not in KINDS or self.privacy not in PRIVACY:
            met = f"kind {self.kind!r} and privacy {self.privacy!r}"
            msg = f"{self.name} has {met}, wanted {KINDS} and {PRIVACY}"
            raise ValueError(msg)


class FeatureRegistry:
    """Features in a fixed order, and their declared crosses (products).

    Parameters
    ----------
    features
        In the order of the columns.
    crosses
        Pairs of names whose product is a further input, behind the features.

    Raises
    ------
    ValueError
        If a name occurs twice or a cross names an unknown feature.

    Examples
    --------
    >>> registry = FeatureRegistry([Feature("age", "seconds"), Feature("seen", "flag")], [("age", "seen")])
    >>> registry.columns
    ('age', 'seen', 'age*seen')
    >>> registry.matrix({"seen": [1.0, 0.0]}, 2)
    array([[0., 1.],
           [0., 0.]])
    """

    def __init__(self, features: Sequence[Feature], crosses: Iterable[tuple[str, str]] = ()) -> None:
        self.features = tuple(features)
        self.names = tuple(feature.name for feature in self.features)
        self.crosses = tuple((left, right) for left, right in crosses)
        self._place = {name: n for n, name in enumerate(self.names)}
        if len(self._place) != len(self.names):
            msg = f"features are {self.names}, wanted each name once"
            raise ValueError(msg)
        unknown = [name for pair in self.crosses for name in pair if name not in self._place]
        if unknown:
            msg = f"crosses name {unknown}, wanted names out of {self.names}"
            raise ValueError(msg)
        self.columns = self.names + tuple(f"{left}*{right}" for left, right in self.crosses)
        kinds = [feature.kind for feature in self.features]
        self._shares = np.array([n for n, kind in enumerate(kinds) if kind in ("ratio", "flag")], np.int64)
        self._amounts = np.array(
            [n for n, kind in enumerate(kinds) if kind in ("count", "seconds")], np.int64
        )
        self._defaults = np.array([feature.default for feature in self.features], np.float64)
        pairs = [(self._place[left], self._place[right]) for left, right in self.crosses]
        self.cross_places = np.array(pairs, np.int64).reshape(len(pairs), 2)

    def __len__(self) -> int:
        return len(self.features)

    def place(self, name: str) -> int:
        """Column of a feature.

        Raises
        ------
        KeyError
            If there is no such feature.
        """
        return self._place[name]

    def matrix(self, values: Mapping[str, ArrayLike], rows: int, *, profile: bool = True) -> FloatArray:
        """Model inputs from raw values.

        Parameters
        ----------
        values
            Feature name -> a number or an array of shape (rows,); missing features and numbers that are not
            finite get their default. Names that are not registered are refused.
        rows
            Number of slots, >= 0.
        profile
            False leaves features of privacy class `profile` at their default, whatever is given.

        Returns
        -------
        Shape (rows, f), f = number of features, crosses not included (see `expand`).

        Raises
        ------
        ValueError
            If a name is unknown.
        """
        unknown = values.keys() - self._place.keys()
        if unknown:
            msg = f"values name {sorted(unknown)}, wanted names out of {self.names}"
            raise ValueError(msg)
        inputs = np.empty((rows, len(self.features)))
        for column, feature in enumerate(self.features):
            hidden = feature.privacy == "profile" and not profile
            inputs[:, column] = feature.default if hidden else values.get(feature.name, feature.default)
        broken = ~np.isfinite(inputs)
        if broken.any():
            inputs[broken] = np.broadcast_to(self._defaults, inputs.shape)[broken]
        return self._scaled(inputs)

    def _scaled(self, inputs: FloatArray) -> FloatArray:
        inputs[:, self._shares] = np.clip(inputs[:, self._shares], 0.0, 1.0)
        inputs[:, self._amounts] = np.log1p(np.maximum(inputs[:, self._amounts], 0.0))
        return inputs

    def expand(self, inputs: FloatArray) -> FloatArray:
        """Give inputs (n, f) with the crosses behind them, shape (n, len(columns))."""
        if not self.crosses:
            return inputs
        products = inputs[:, self.cross_places[:, 0]] * inputs[:, self.cross_places[:, 1]]
        return np.concatenate([inputs, products], axis=1)

    def describe(self) -> dict[str, list[Any]]:
        """Describe the registry as JSON-ready values, for documents and snapshots."""
        return {
            "features": [asdict(f) for f in self.features],
            "crosses": [list(pair) for pair in self.crosses],
        }

    def fingerprint(self) -> str:
        """Short hash of what the numbers mean: names, kinds, defaults, order and crosses."""
        meaning = [[f.name, f.kind, f.default] for f in self.features], self.crosses
        return hashlib.blake2b(json.dumps(meaning).encode(), digest_size=8).hexdigest()
