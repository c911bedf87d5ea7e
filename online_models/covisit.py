"""Item co-visitation: which items are clicked around an item, forgotten slowly, learnt from every click."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from online_models import _covisit_loops as loops
from online_models._snapshots import Arrays, copied, filled
from online_models._topk import room_for
from online_models.arrays import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class CoVisitSettings:
    """How pairs of clicks are counted and used.

    Parameters
    ----------
    neighbours
        Neighbours kept per item, > 0; when full, a new one takes the place of the weakest.
    window
        Clicks back in a session that a click is paired with, > 0.
    max_query
        Clicks of the current session that are looked at, the latest ones, > 0.
    session_decay
        Sessions begun since, over which a pair's weight falls by e.
    position_decay
        Clicks between the two over which a pair's weight is smaller by a factor e.
    backward
        Weight of a pair for the later item, against 1 for the earlier one.
    query_decay
        Clicks back from the end of the current session over which an item's weight falls by e.
    visit_power
        Power of an item's share of clicks its weight in the query is divided by.
    idf_weight
        A score is multiplied by 1 + `idf_weight` x inverse document frequency.
    in_session, current
        Factors for items already in the current session, and for its latest one on top.
    follow_decay
        Clicks between the two over which a sequential rule, which item comes right after which, falls by e.
    hops
        Items found, the best ones, whose own neighbours are looked at, > 0.
    """

    neighbours: int = 128
    window: int = 10
    max_query: int = 10
    session_decay: float = 120_000.0
    position_decay: float = 10.0
    backward: float = 0.7
    query_decay: float = 2.0
    visit_power: float = 0.5
    idf_weight: float = 10.0
    in_session: float = 2.0
    current: float = 1.5
    follow_decay: float = 1.0
    hops: int = 20

    def __post_init__(self) -> None:
        for name in (
            "neighbours",
            "window",
            "max_query",
            "session_decay",
            "position_decay",
            "query_decay",
            "follow_decay",
            "hops",
        ):
            if not getattr(self, name) > 0:
                msg = f"{name} is {getattr(self, name)}, wanted a number > 0"
                raise ValueError(msg)


class CoVisits:
    """Decayed counts of item pairs clicked near each other in a session.

    Parameters
    ----------
    settings
        See `CoVisitSettings`.

    Examples
    --------
    >>> visits = CoVisits(CoVisitSettings())
    >>> for before, item in ([], 3), ([3], 7), ([], 7), ([7], 3), ([7, 3], 8):
    ...     visits.add(before, item)
    >>> rows, scores = visits.score([7], limit=2)
    >>> [int(row) for row in rows]
    [7, 3]
    """

    def __init__(self, settings: CoVisitSettings) -> None:
        self.settings = settings
        self.recipe = loops.CoVisitRecipe(
            query_decay=np.exp(-np.arange(settings.max_query) / settings.query_decay),
            session_decay=settings.session_decay,
            follow_decay=np.r_[0.0, np.exp(-np.arange(settings.window) / settings.follow_decay)],
            position_decay=np.exp(-np.arange(settings.window + 1) / settings.position_decay),
            backward=settings.backward,
            visit_power=settings.visit_power,
            idf_weight=settings.idf_weight,
            in_session=settings.in_session,
            current=settings.current,
        )
        self.tables = _empty(1024, settings.neighbours)
        self._found = (room_for(1), 0)

    @property
    def begun(self) -> float:
        """Sessions begun so far."""
        return float(self.tables.moment[loops.BEGUN])

    def add(self, before: ArrayLike, item: int) -> None:
        """Fold one click.

        Parameters
        ----------
        before
            Item rows clicked before it in its session, oldest first, shape (n,); if empty, one begins.
        item
            Row of the item clicked, >= 0.

        Raises
        ------
        ValueError
            If `item` is negative.
        """
        earlier = np.asarray(before, np.int64)
        if item < 0:
            msg = f"item is {item}, wanted a row >= 0"
            raise ValueError(msg)
        self.reserve(item + 1)
        loops.add_pairs(self.tables, self.recipe, earlier[-self.settings.window :], item)

    def add_session(self, items: ArrayLike) -> None:
        """Fold a whole session at once, exactly as `add` does click by click.

        Parameters
        ----------
        items
            Item rows, >= 0, oldest first, shape (n,).

        Raises
        ------
        ValueError
            If an item is negative.
        """
        rows = np.asarray(items, np.int64)
        if not rows.size:
            return
        if rows.min() < 0:
            msg = f"item is {rows.min()}, wanted a row >= 0"
            raise ValueError(msg)
        self.reserve(int(rows.max()) + 1)
        loops.add_session(self.tables, self.recipe, rows)

    def score(self, items: ArrayLike, *, limit: int) -> tuple[IntArray, FloatArray]:
        """Rank items for a session.

        Parameters
        ----------
        items
            Item rows of the session, oldest first, shape (n,); rows never seen are skipped.
        limit
            Items wanted at most, > 0.

        Returns
        -------
        Item rows and scores (> 0, without unit), best first, shape (m,) with m <= `limit`.
        """
        query, best = np.asarray(items, np.int64), room_for(limit)
        size = loops.score_any(self.tables, self.recipe, query, best)
        self._found = best, size
        return best.keys[:size], best.values[:size] / loops.scale_now(self.tables, self.recipe)

    def hops(self, limit: int) -> IntArray:
        """Rank what was clicked around the best items the latest `score` found.

        Parameters
        ----------
        limit
            Items wanted at most, > 0.

        Returns
        -------
        Item rows, best first, shape (m,) with m <= `limit`.
        """
        best, (near, found) = room_for(limit), self._found
        held = min(found, self.settings.hops)
        size = loops.hops_any(self.tables, self.recipe, near, held, best)
        return best.keys[:size]

    def latest_scores(self, rows: ArrayLike) -> FloatArray:
        """Scores the latest `score` gave to any rows, within its limit or not; 0 for none; shape (m,)."""
        asked = np.asarray(rows, np.int64)
        out = np.empty(asked.size)
        loops.recall(self.tables, asked, out)
        return out / loops.scale_now(self.tables, self.recipe)

    def remove_item(self, item: int) -> None:
        """Take an item out of every list, in time proportional to all lists."""
        if not 0 <= item < len(self.tables.held):
            return
        self.tables.visits[item] = 0.0
        self.tables.held[item] = 0
        for row, at in np.argwhere(self.tables.neighbour == item).tolist():
            last = int(self.tables.held[row]) - 1
            if at <= last:
                self.tables.neighbour[row, at] = self.tables.neighbour[row, last]
                self.tables.weight[row, at] = self.tables.weight[row, last]
                self.tables.follow[row, at] = self.tables.follow[row, last]
                self.tables.held[row] = last

    def reserve(self, items: int) -> None:
        """Make room for item rows 0..`items` - 1."""
        held = len(self.tables.held)
        if items > held:
            size = max(items, 2 * held)
            moment, number = self.tables.moment, self.tables.number
            taller = loops.CoVisitTables(*(_taller(array, size) for array in self.tables))
            self.tables = taller._replace(moment=moment, number=number)

    def snapshot(self) -> tuple[Arrays, dict[str, Any]]:
        """State as arrays and JSON-ready values."""
        return copied(self.tables, loops.KEPT), {"settings": asdict(self.settings)}

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        """Rebuild the counts of a snapshot; they answer and learn as those that were copied.

        Raises
        ------
        ValueError
            If an array is missing or of another kind.
        """
        visits = cls(CoVisitSettings(**meta["settings"]))
        visits.reserve(len(arrays["held"]))
        visits.tables = filled(visits.tables, arrays, loops.KEPT)
        return visits

    def nbytes(self) -> int:
        """Count the bytes of all arrays."""
        arrays: list[Any] = list(self.tables)
        return sum(int(array.nbytes) for array in arrays)


def _taller(array: NDArray[Any], rows: int) -> NDArray[Any]:
    return np.concatenate([array, np.zeros((rows - len(array), *array.shape[1:]), array.dtype)])


def _empty(items: int, neighbours: int) -> loops.CoVisitTables:
    return loops.CoVisitTables(
        neighbour=np.zeros((items, neighbours), np.int32),
        weight=np.zeros((items, neighbours), np.float32),
        follow=np.zeros((items, neighbours), np.float32),
        held=np.zeros(items, np.int32),
        visits=np.zeros(items),
        idf=np.zeros(items),
        moment=np.zeros(3),
        around=np.zeros((items, 3)),
        further=np.zeros((items, 2)),
        met=np.zeros(items, np.int64),
        number=np.zeros(1, np.int64),
    )


def warm_up() -> None:
    """Compile (or load from disk) the loops of this module."""
    visits = CoVisits(CoVisitSettings())
    visits.add([], 0)
    visits.add_session([0, 1])
    visits.score([0], limit=1)
