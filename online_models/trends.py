"""Decayed popularity in event time: overall and per group, under several half-lives."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from online_models._decayed import DecayedTable
from online_models._decayed import warm_up as compile_loops
from online_models._snapshots import Arrays, part_of, within
from online_models.arrays import FloatArray, IntArray

OVERALL = -1
"""The group that holds every item; other groups are whole numbers >= 0."""

_CACHED = 200

MAX_ROWS = 1 << 26
"""Bound of item rows: places are kept in an array by row."""


class _Series:
    """Decayed sums of the items of one group, and a cached ranking per half-life."""

    def __init__(self, half_lives_ms: FloatArray) -> None:
        self.table = DecayedTable(half_lives_ms)
        self.slots = np.full(64, -1, np.int64)  # by item, -1 where it was never counted
        self._count = 0
        self._items = np.zeros(64, np.int64)
        self._ranked: dict[int, IntArray] = {}
        self._risen: dict[int, set[int]] = {}

    def slot(self, item: int) -> int:
        """Place of an item in the table, made on demand."""
        if item >= len(self.slots):
            more = max(item + 1, 2 * len(self.slots)) - len(self.slots)
            self.slots = np.pad(self.slots, (0, more), constant_values=-1)
        slot = int(self.slots[item])
        if slot < 0:
            slot = self.slots[item] = self._count
            self._count += 1
            if slot == len(self._items):
                self._items = np.pad(self._items, (0, slot))
            self._items[slot] = item
        return slot

    def add(self, item: int, at_ms: int, weight: float) -> None:
        slot = self.slot(item)
        self.table.add(slot, at_ms, weight)
        for risen in self._risen.values():
            risen.add(slot)

    def add_many(self, items: IntArray, at_ms: IntArray) -> None:
        slots = np.fromiter(map(self.slot, items.tolist()), np.int64, len(items))
        self.table.add_many(slots, at_ms)
        for risen in self._risen.values():
            risen.update(slots.tolist())

    def place(self, item: int) -> int:
        """Place of one item, -1 where it was never counted."""
        slot = int(self.slots[item]) if 0 <= item < len(self.slots) else -1
        return slot if slot < len(self.table.values) else -1

    def find(self, items: IntArray) -> IntArray:
        """Places of items, -1 where unknown."""
        known = (items >= 0) & (items < len(self.slots))
        return np.where(known, self.slots[np.where(known, items, 0)], -1)

    def snapshot(self) -> Arrays:
        table = self.table
        return {
            "values": table.values.copy(),
            "landmarks": table.landmarks.copy(),
            "items": self._items[: self._count].copy(),
        }

    def take(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        items = np.array(arrays["items"], np.int64)
        for item in items.tolist():
            self.slot(item)
        self.table.put(np.array(arrays["values"]), np.array(arrays["landmarks"]))

    def forget_rankings(self) -> None:
        """Rank anew when next asked: something else than an addition happened."""
        self._ranked.clear()
        self._risen.clear()

    def top(self, half_life: int, limit: int) -> tuple[IntArray, IntArray]:
        """Slots and items of the `limit` largest sums, largest first."""
        held = self._ranked.get(half_life)
        if held is None or len(held) < limit or 4 * len(self._risen[half_life]) > self._count:
            held = self._rank(half_life, np.arange(self._count, dtype=np.int64), max(limit, _CACHED))
        elif risen := self._risen[half_life]:
            # Sums only rise between two rankings, so nothing outside the last one and the risen can enter.
            held = self._rank(half_life, np.concatenate([held, list(risen)]), max(len(held), _CACHED))
        slots = held[:limit]
        return slots, self._items[slots]

    def _rank(self, half_life: int, slots: IntArray, limit: int) -> IntArray:
        self._ranked[half_life] = self.table.largest(half_life, slots, limit)
        self._risen[half_life] = set()
        return self._ranked[half_life]


class Counts(NamedTuple):
    """Overall counts as arrays, for compiled loops: valid until the next change; `decayed_sum` reads them."""

    slots: IntArray  # (N,) by item row: place in the tables, -1 where there is none
    values: FloatArray  # (S, H)
    landmarks: FloatArray  # (S, H)
    half_lives: FloatArray  # (H,) in ms


class Trends:
    """Decayed counts of what happens to items, in event time.

    A root may keep one item's counts as an array (`row_state`) per shard and add them up in another process
    (`put_row`): the sum over shards is what one counter fed with all events holds, up to the rounding of the
    additions themselves.

    Parameters
    ----------
    half_lives_s
        Half-lives in seconds, shape (H,), each > 0.

    Examples
    --------
    >>> trends = Trends([3600.0, 86_400.0])
    >>> trends.add(7, 0)
    >>> trends.add(3, 3_600_000, group=2)
    >>> rows, scores = trends.top(0, 3_600_000, 10)
    >>> [int(row) for row in rows], [float(score) for score in scores]
    ([3, 7], [1.0, 0.5])
    """

    def __init__(self, half_lives_s: Sequence[float]) -> None:
        half_lives = np.asarray(half_lives_s, dtype=np.float64)
        if half_lives.ndim != 1 or half_lives.size == 0 or not np.all(half_lives > 0):
            msg = f"half_lives_s is {list(half_lives_s)}, wanted one or more numbers > 0"
            raise ValueError(msg)
        self.half_lives_s = half_lives
        self._series: dict[int, _Series] = {OVERALL: _Series(half_lives * 1000.0)}
        self._groups_of: dict[int, set[int]] = {}
        self._parts: dict[int, dict[int, FloatArray]] = {}

    def add(self, item_row: int, at_ms: int, weight: float = 1.0, group: int | Sequence[int] = ()) -> None:
        """Count one event.

        Parameters
        ----------
        item_row
            Row of the item, 0 to `MAX_ROWS` - 1; memory grows with the highest one.
        at_ms
            Event time, milliseconds.
        weight
            How much it counts, > 0.
        group
            Group or groups (category, surface) it counts in beside the overall trend, each >= 0.

        Raises
        ------
        ValueError
            If the row is out of bounds, a group negative, or the weight not > 0.
        """
        groups = (group,) if isinstance(group, int) else tuple(group)
        if not 0 <= item_row < MAX_ROWS or not weight > 0 or min(groups, default=0) < 0:
            wished = f"wanted 0 to {MAX_ROWS - 1}, > 0, >= 0"
            msg = f"item_row, weight, group are {item_row}, {weight}, {groups}, {wished}"
            raise ValueError(msg)
        for g in (OVERALL, *groups):
            self._of(g).add(item_row, at_ms, weight)
        if groups:
            self._groups_of.setdefault(item_row, set()).update(groups)

    def add_many(self, item_rows: IntArray, at_ms: IntArray) -> None:
        """Count events overall, each with weight 1; the same as `add` one by one, in order.

        Parameters
        ----------
        item_rows, at_ms
            Rows of items, 0 to `MAX_ROWS` - 1, and event times (ms), each of shape (n,).

        Raises
        ------
        ValueError
            If a row is out of bounds or the shapes differ.
        """
        if item_rows.shape != at_ms.shape:
            msg = f"item_rows, at_ms have shapes {item_rows.shape}, {at_ms.shape}, wanted one (n,)"
            raise ValueError(msg)
        if item_rows.size and not 0 <= item_rows.min() <= item_rows.max() < MAX_ROWS:
            span = f"{item_rows.min()}..{item_rows.max()}"
            msg = f"item_rows are {span}, wanted 0 to {MAX_ROWS - 1}"
            raise ValueError(msg)
        self._series[OVERALL].add_many(item_rows, at_ms)

    def top(
        self, half_life_index: int, now_ms: int, limit: int, group: int | None = None
    ) -> tuple[IntArray, FloatArray]:
        """Items with the largest decayed counts.

        Parameters
        ----------
        half_life_index
            Which of `half_lives_s`.
        now_ms
            Event time of the request, milliseconds.
        limit
            Items wanted at most, > 0.
        group
            A group, or None for all items.

        Returns
        -------
        Item rows and decayed counts at `now_ms`, largest first, shape (m,) with m <= `limit`.
        """
        series = self._series.get(OVERALL if group is None else group)
        if series is None:
            return np.zeros(0, np.int64), np.zeros(0)
        slots, items = series.top(half_life_index, limit)
        return items, series.table.at(slots, now_ms)[:, half_life_index]

    def top_rows(self, half_life_index: int, limit: int) -> IntArray:
        """Rows of `top` alone: their order is the same at every time, so this needs no clock."""
        return self._series[OVERALL].top(half_life_index, limit)[1]

    def counts(self) -> Counts:
        """Give the overall counts as the arrays they are kept in, for compiled loops."""
        series = self._series[OVERALL]
        return Counts(series.slots, series.table.values, series.table.landmarks, series.table.half_lives)

    def scores(self, rows: ArrayLike, now_ms: int, group: int | None = None) -> FloatArray:
        """Decayed counts of items at `now_ms`, shape (len(rows), H); 0 for items never counted."""
        asked = np.asarray(rows, dtype=np.int64)
        series = self._series.get(OVERALL if group is None else group)
        if series is None:
            return np.zeros((asked.size, self.half_lives_s.size))
        return series.table.at(series.find(asked), now_ms)

    def remove_item(self, item: int) -> None:
        """Forget an item in every group and every shard's part."""
        for part in self._parts.values():
            part.pop(item, None)
        self._clear(item)

    def row_state(self, item: int) -> FloatArray:
        """All counts of an item as one array, shape (g, 1 + 2H).

        A row is a group, H values and H landmarks (in half-lives since the epoch).
        """
        groups = (OVERALL, *sorted(self._groups_of.get(item, ())))
        places = [(group, self._series[group], self._series[group].place(item)) for group in groups]
        held = [(group, series.table, slot) for group, series, slot in places if slot >= 0]
        width = self.half_lives_s.size
        rows = np.empty((len(held), 1 + 2 * width))
        for row, (group, table, slot) in zip(rows, held, strict=True):
            row[0] = group
            row[1 : 1 + width] = table.values[slot]
            row[1 + width :] = table.landmarks[slot]
        return rows

    def put_row(self, shard: int, item: int, state: FloatArray) -> None:
        """Take over a shard's `row_state` of an item, instead of what the shard said before.

        The item's counts become the sum over shards; counts added to this object by `add` are not kept for
        items put this way, so use one object for folding and another for reading.

        Raises
        ------
        ValueError
            If `state` has another width than 1 + 2H.
        """
        width = 1 + 2 * self.half_lives_s.size
        if state.ndim != 2 or state.shape[1] != width:
            msg = f"state has shape {state.shape}, wanted (groups, {width})"
            raise ValueError(msg)
        self._parts.setdefault(shard, {})[item] = np.array(state, dtype=np.float64)
        self._clear(item)
        for part in self._parts.values():
            if item in part:
                self._merge(item, part[item])

    def snapshot(self) -> tuple[Arrays, dict[str, Any]]:
        """State as arrays and JSON-ready values; parts of shards are kept by who put them, and left out."""
        arrays: Arrays = {}
        for group, series in self._series.items():
            arrays |= within(str(group), series.snapshot())
        return arrays, {"half_lives_s": self.half_lives_s.tolist(), "groups": sorted(self._series)}

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        """Rebuild the counts of a snapshot; they rank and count on as those that were copied."""
        trends = cls(meta["half_lives_s"])
        for group in meta["groups"]:
            part = part_of(arrays, str(group))
            trends._of(group).take(part)
            if group != OVERALL:
                for item in part["items"].tolist():
                    trends._groups_of.setdefault(item, set()).add(group)
        return trends

    def nbytes(self) -> int:
        """Bytes of the counts and of where they are; rankings are left out."""
        parts = sum(state.nbytes for part in self._parts.values() for state in part.values())
        return parts + sum(series.table.nbytes() + series.slots.nbytes for series in self._series.values())

    def _of(self, group: int) -> _Series:
        series = self._series.get(group)
        if series is None:
            series = self._series[group] = _Series(self.half_lives_s * 1000.0)
        return series

    def _clear(self, item: int) -> None:
        for group in (OVERALL, *self._groups_of.pop(item, ())):
            series = self._series[group]
            series.table.clear(series.slot(item))
            series.forget_rankings()

    def _merge(self, item: int, state: FloatArray) -> None:
        h = self.half_lives_s.size
        for row in state:
            group = int(row[0])
            series = self._of(group)
            series.table.merge(series.slot(item), row[1 : 1 + h], row[1 + h :])
            series.forget_rankings()
            if group != OVERALL:
                self._groups_of.setdefault(item, set()).add(group)


def warm_up() -> None:
    """Compile (or load from disk) every loop behind the trends, so that no request waits for it."""
    compile_loops()
