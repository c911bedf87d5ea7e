"""What a model is worth by segment: new and returning visitors, new and old items, categories, facets."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import FloatArray, IntArray
from online_models.features import FeatureRegistry

NEW_ITEM_DAYS = 7.0
MOST_NAMED = 64
"""Categories and facets told apart; a forgotten one makes room, others are counted together."""
_FIXED = ("visitor:returning", "visitor:new", "item:old", "item:new", "others")
_OTHERS = len(_FIXED) - 1
_FORGOTTEN = 1.0


class Judged(NamedTuple):
    """What became of n rows: clicks, corrected probabilities and their log losses, each of shape (n,)."""

    clicks: FloatArray
    probabilities: FloatArray
    losses: FloatArray


@dataclass(frozen=True, slots=True)
class Segment:
    """Latest rows of one segment.

    Parameters
    ----------
    name
        Dimension and value, such as ``visitor:new``; a category by its code.
    rows, clicks
        Weight of its rows and clicks: each counts less by a factor e after `window` rows of the model.
    calibration
        Sum of probabilities over clicks; nan without clicks.
    log_loss
        Mean log loss.
    """

    name: str
    rows: float
    clicks: float
    calibration: float
    log_loss: float


class Segments:
    """Running measures by segment, in bounded memory.

    Parameters
    ----------
    registry
        Of the rows; dimensions whose features it lacks are left out.
    window
        Rows over which rows are forgotten by a factor e, > 0.
    """

    def __init__(self, registry: FeatureRegistry, window: int = 100_000) -> None:
        self.window = window
        self._columns = {name: n for n, name in enumerate(registry.names)}
        self._named: dict[str, int] = {}
        self._sums: FloatArray = np.zeros((len(_FIXED) + MOST_NAMED, 4))

    def update(self, rows: FloatArray, judged: Judged, facets: Sequence[str], owners: IntArray) -> None:
        """Take in rows.

        Parameters
        ----------
        rows
            Inputs, shape (n, f), n > 0.
        judged
            What was predicted of them, and what became of it.
        facets
            Of each outcome, such as ``device:mobile``, several separated by commas; empty for none.
        owners
            Which outcome each row belongs to, shape (n,).
        """
        self._sums *= math.exp(-len(rows) / self.window)
        count = len(self._sums)
        for places in (*self._fixed(rows), *self._categories(rows), *self._facets(facets, owners)):
            kept = places >= 0
            some = slice(None) if kept.all() else kept
            self._sums[:, 0] += np.bincount(places[some], minlength=count)
            for column, values in enumerate(judged, start=1):
                self._sums[:, column] += np.bincount(places[some], values[some], count)

    def _fixed(self, rows: FloatArray) -> Iterator[IntArray]:
        if "new_user" in self._columns:
            yield (rows[:, self._columns["new_user"]] > 0.5).astype(np.int64)
        if "item_age" in self._columns:
            yield 2 + (rows[:, self._columns["item_age"]] < math.log1p(NEW_ITEM_DAYS)).astype(np.int64)

    def _categories(self, rows: FloatArray) -> Iterator[IntArray]:
        if "category" in self._columns:
            met, inverse = np.unique(rows[:, self._columns["category"]], return_inverse=True)
            codes = [int(code) for code in met.tolist()]
            places = [self._place(f"category:{code}") if code else -1 for code in codes]
            yield np.array(places, np.int64)[inverse]

    def _facets(self, facets: Sequence[str], owners: IntArray) -> Iterator[IntArray]:
        split = [one.split(",") if one else [] for one in facets]
        for depth in range(max(map(len, split), default=0)):
            places = [self._place(one[depth]) if depth < len(one) else -1 for one in split]
            yield np.array(places, np.int64)[owners]

    def _place(self, name: str) -> int:
        place = self._named.get(name)
        if place is not None:
            return place
        place = len(_FIXED) + len(self._named)
        if len(self._named) == MOST_NAMED:
            coldest = min(self._named, key=lambda held: self._sums[self._named[held], 0])
            if self._sums[self._named[coldest], 0] >= _FORGOTTEN:
                return _OTHERS
            place = self._named.pop(coldest)
            self._sums[place] = 0.0
        self._named[name] = place
        return place

    def report(self) -> list[Segment]:
        """Measures of every segment that was met, those told apart in the order they were met."""
        places = {name: place for place, name in enumerate(_FIXED)} | self._named
        found = {name: self._sums[place].tolist() for name, place in places.items()}
        return [
            Segment(name, rows, clicks, promised / clicks if clicks else math.nan, loss / rows)
            for name, (rows, clicks, promised, loss) in found.items()
            if rows >= _FORGOTTEN
        ]

    def snapshot(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """State as arrays and JSON-ready values."""
        return {"sums": self._sums.copy()}, {"window": self.window, "named": dict(self._named)}

    @classmethod
    def restore(
        cls, registry: FeatureRegistry, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]
    ) -> Self:
        """Rebuild the measures of a snapshot, to the last bit."""
        segments = cls(registry, meta["window"])
        segments._sums = np.array(arrays["sums"], np.float64)
        segments._named = dict(meta["named"])
        return segments
