"""One definition of the click model's features, for training and for serving."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from online_models.arrays import FloatArray
from online_models.hashing import MOST_CODES, Hashing

KINDS = ("score", "ratio", "flag", "count", "seconds", "code", "offset")
HASHABLE = ("code", "flag")
"""Kinds whose values hashed crosses may be made of."""
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
        `seconds` as log(1 + value), negative values as 0. A `code` names a category (`hashing.code_of`, 0 for
        none); it is no amount, and weighs only through hashed crosses. An `offset` is log odds that another
        model has learnt: its weight is 1 and stays 1.
    default
        Raw value where none is known.
    privacy
        What it tells about: `item`, `context` (request), `session`, or `profile` (a person's history, left at
        its default without consent).
    window
        The stretch of event time it is computed over, in words.
    about
        One line for people.
    source
        What it is computed from, in words.
    """

    name: str
    kind: str = "score"
    default: float = 0.0
    privacy: str = "item"
    window: str = "now"
    about: str = ""
    source: str = "request"

    def __post_init__(self) -> None:
        if not self.name or "*" in self.name:
            msg = f"name is {self.name!r}, wanted letters without '*'"
            raise ValueError(msg)
        if self.kind not in KINDS or self.privacy not in PRIVACY:
            met = f"kind {self.kind!r} and privacy {self.privacy!r}"
            msg = f"{self.name} has {met}, wanted {KINDS} and {PRIVACY}"
            raise ValueError(msg)


class FeatureRegistry:
    """Features in a fixed order, their declared crosses (products) and hashed crosses (of categories).

    Parameters
    ----------
    features
        In the order of the columns.
    crosses
        Pairs of names whose product is a further input, behind the features.
    hashed
        Up to `hashing.MOST_PARTS` names of codes or flags each, whose joint value has a weight of its own in
        a table of `hashing.BUCKETS`.

    Raises
    ------
    ValueError
        If a name occurs twice, or a cross names an unknown feature or one it cannot be made of.

    Examples
    --------
    >>> registry = FeatureRegistry([Feature("age", "seconds"), Feature("seen", "flag")], [("age", "seen")])
    >>> registry.columns
    ('age', 'seen', 'age*seen')
    >>> registry.matrix({"seen": [1.0, 0.0]}, 2)
    array([[0., 1.],
           [0., 0.]])
    """

    def __init__(
        self,
        features: Sequence[Feature],
        crosses: Iterable[tuple[str, str]] = (),
        hashed: Iterable[Sequence[str]] = (),
    ) -> None:
        self.features = tuple(features)
        self.names = tuple(feature.name for feature in self.features)
        self.crosses = tuple((left, right) for left, right in crosses)
        self._place = {name: n for n, name in enumerate(self.names)}
        if len(self._place) != len(self.names):
            msg = f"features are {self.names}, wanted each name once"
            raise ValueError(msg)
        self.hashed = tuple(tuple(parts) for parts in hashed)
        self._check_crosses()
        self.columns = self.names + tuple(f"{left}*{right}" for left, right in self.crosses)
        kinds = [feature.kind for feature in self.features]
        self._shares = np.array([n for n, kind in enumerate(kinds) if kind in ("ratio", "flag")], np.int64)
        self._amounts = np.array(
            [n for n, kind in enumerate(kinds) if kind in ("count", "seconds")], np.int64
        )
        self.codes = np.array([n for n, kind in enumerate(kinds) if kind == "code"], np.int64)
        self.offsets = [feature.name for feature in self.features if feature.kind == "offset"]
        self._defaults = np.array([feature.default for feature in self.features], np.float64)
        self._fingerprint = _digest([[f.name, f.kind, f.default] for f in self.features])
        pairs = [(self._place[left], self._place[right]) for left, right in self.crosses]
        self.cross_places = np.array(pairs, np.int64).reshape(len(pairs), 2)
        is_code = dict(zip(self.names, (kind == "code" for kind in kinds), strict=True))
        self.hashing = Hashing.of(
            [[(self._place[name], name, is_code[name]) for name in parts] for parts in self.hashed]
        )

    def _check_crosses(self) -> None:
        unknown = [n for parts in (*self.crosses, *self.hashed) for n in parts if n not in self._place]
        if unknown:
            msg = f"crosses name {unknown}, wanted names out of {self.names}"
            raise ValueError(msg)
        kinds = {feature.name: feature.kind for feature in self.features}
        amounts = [name for parts in self.hashed for name in parts if kinds[name] not in HASHABLE]
        codes = [name for pair in self.crosses for name in pair if kinds[name] == "code"]
        if amounts or codes:
            msg = (
                f"hashed crosses name {amounts}, products name {codes}, wanted {HASHABLE} there, no code here"
            )
            raise ValueError(msg)

    def variant(
        self, crosses: Iterable[tuple[str, str]] | None = None, hashed: Iterable[Sequence[str]] | None = None
    ) -> "FeatureRegistry":
        """Return a registry of the same features with other crosses; None keeps those declared.

        Raises
        ------
        ValueError
            If a cross names an unknown feature or one it cannot be made of.
        """
        return FeatureRegistry(
            self.features,
            self.crosses if crosses is None else crosses,
            self.hashed if hashed is None else hashed,
        )

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
        inputs[:, self.codes] = np.clip(np.floor(inputs[:, self.codes]), 0.0, MOST_CODES)
        return inputs

    def expand(self, inputs: FloatArray) -> FloatArray:
        """Give inputs (n, f) with the crosses behind them, shape (n, len(columns)); codes are 0 there."""
        products = inputs[:, self.cross_places[:, 0]] * inputs[:, self.cross_places[:, 1]]
        wide = np.concatenate([inputs, products], axis=1)
        wide[:, self.codes] = 0.0
        return wide

    def describe(self) -> dict[str, list[Any]]:
        """Describe the registry as JSON-ready values, for documents and snapshots."""
        return {
            "features": [asdict(f) for f in self.features],
            "crosses": [list(pair) for pair in self.crosses],
            "hashed": [list(parts) for parts in self.hashed],
        }

    def fingerprint(self) -> str:
        """Short hash of what the numbers of a row mean: names, kinds, defaults and their order.

        Rows logged under one fingerprint can be learnt and scored under it, whatever a model crosses.
        """
        return self._fingerprint

    def declaration(self) -> str:
        """Short hash of the fingerprint and of the declared crosses: what a new model begins with."""
        return _digest([self._fingerprint, self.crosses, self.hashed])


def _digest(meaning: object) -> str:
    return hashlib.blake2b(json.dumps(meaning).encode(), digest_size=8).hexdigest()
