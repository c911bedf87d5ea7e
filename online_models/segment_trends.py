"""Decayed popularity inside groups of visits, in bounded memory: surfaces, countries, devices."""

import math

import numpy as np

from online_models.arrays import FloatArray, IntArray

MOST_GROUPS = 256
"""Groups told apart; the one with the least left makes room for another."""
MOST_ITEMS = 1_024
"""Items of one group; the one with the least left makes room for another."""
ENOUGH = 50.0
"""Interactions of late with which a group says as much as everybody does."""
RANKED_FOR_MS = 1_000
"""Event time for which the ranking of a group is kept."""

_NO_ROWS: IntArray = np.zeros(0, np.int64)


class _Group:
    """Sums as log2 of what they would be at time zero, which decay leaves alone; nothing is ever rescaled."""

    def __init__(self) -> None:
        self.total = -math.inf
        self._slots: dict[int, int] = {}
        self._items: IntArray = np.zeros(64, np.int64)
        self._logs: FloatArray = np.full(64, -np.inf)
        self._ranked_at: int | None = None
        self._has_moved = True
        self._ranked = self._sorted = _NO_ROWS
        self._sorted_logs: FloatArray = np.zeros(0)

    def add(self, item: int, log: float) -> None:
        slot = self._slots.get(item)
        if slot is None:
            slot = self._room()
            self._slots[item], self._items[slot], self._logs[slot] = slot, item, -np.inf
        self._logs[slot] = _sum(float(self._logs[slot]), log)
        self.total = _sum(self.total, log)
        self._has_moved = True

    def _room(self) -> int:
        size = len(self._slots)
        if size == MOST_ITEMS:
            coldest = int(self._logs[:size].argmin())
            del self._slots[int(self._items[coldest])]
            return coldest
        if size == len(self._items):
            self._items = np.pad(self._items, (0, size))
            self._logs = np.pad(self._logs, (0, size), constant_values=-np.inf)
        return size

    def rank(self, now_ms: int) -> None:
        """Order items by their sums, and by their rows, unless that was done a moment ago or none moved."""
        is_recent = self._ranked_at is not None and abs(now_ms - self._ranked_at) < RANKED_FOR_MS
        if is_recent or not self._has_moved:
            return
        size = len(self._slots)
        items, logs = self._items[:size], self._logs[:size]
        self._ranked = items[np.lexsort((items, -logs))]
        order = np.argsort(items)
        self._sorted, self._sorted_logs = items[order], logs[order]
        self._ranked_at, self._has_moved = now_ms, False

    def top(self, limit: int) -> IntArray:
        return self._ranked[:limit]

    def logs_of(self, rows: IntArray) -> FloatArray:
        places = np.minimum(np.searchsorted(self._sorted, rows), len(self._sorted) - 1)
        return np.where(self._sorted[places] == rows, self._sorted_logs[places], -np.inf)


class SegmentTrends:
    """What each group of visits has taken of late, in event time, under one half-life.

    At most `MOST_GROUPS` groups keep at most `MOST_ITEMS` items each: 16 bytes and a place in a dictionary.
    An item that comes back after it made room begins anew: what is popular is exact, the tail is not.

    Parameters
    ----------
    half_life_s
        Half-life in seconds, > 0.

    Examples
    --------
    >>> trends = SegmentTrends(3600.0)
    >>> for item in (7, 7, 3):
    ...     trends.add(["device:tv"], item, 0)
    >>> trends.top_rows("device:tv", 0, 5).tolist()
    [7, 3]
    >>> trends.shares(["device:tv"], np.array([3, 7, 9]), 0, np.zeros(3)).round(3).tolist()
    [0.028, 0.057, 0.0]
    """

    def __init__(self, half_life_s: float) -> None:
        if not half_life_s > 0:
            msg = f"half_life_s is {half_life_s}, wanted a number > 0"
            raise ValueError(msg)
        self._half_life_ms = 1000.0 * half_life_s
        self._groups: dict[str, _Group] = {}

    def add(self, groups: list[str], item: int, at_ms: int, weight: float = 1.0) -> None:
        """Count one interaction with an item row, weight > 0, in each of its groups."""
        log = at_ms / self._half_life_ms + math.log2(weight)
        for name in groups:
            group = self._groups.get(name)
            if group is None:
                if len(self._groups) == MOST_GROUPS:
                    del self._groups[min(self._groups, key=lambda held: self._groups[held].total)]
                group = self._groups[name] = _Group()
            group.add(item, log)

    def mass(self, name: str, now_ms: int) -> float:
        """Return how many interactions of a group are left at a time; 0 for one nobody knows."""
        group = self._groups.get(name)
        return 0.0 if group is None else self._left(group, now_ms)

    def _left(self, group: _Group, now_ms: int) -> float:
        return float(2.0 ** min(60.0, group.total - now_ms / self._half_life_ms))

    def has_enough(self, name: str, now_ms: int) -> bool:
        """Return whether a group says at least as much as everybody does."""
        return self.mass(name, now_ms) >= ENOUGH

    def top_rows(self, name: str, now_ms: int, limit: int) -> IntArray:
        """Return the rows a group has taken most of late, most first, at most `limit`."""
        group = self._groups.get(name)
        if group is None:
            return _NO_ROWS
        group.rank(now_ms)
        return group.top(limit)

    def shares(self, names: list[str], rows: IntArray, now_ms: int, overall: FloatArray) -> FloatArray:
        """Describe candidates by what their visitor's groups take, over the best candidate's.

        Each group is mixed with everybody by how much it has: n / (n + `ENOUGH`) of it, n its interactions of
        late (the mean of a Dirichlet prior around the overall trend, Gelman et al. 2013, section 3.4); groups
        are averaged.

        Parameters
        ----------
        names
            Of the groups; those nobody knows say what everybody does.
        rows
            Of the candidates (k,).
        now_ms
            Event time.
        overall
            The same of everybody (k,), 0..1.

        Returns
        -------
        Shape (k,), 0..1.
        """
        if not names or not len(rows):
            return overall
        total = np.zeros(len(rows))
        for name in names:
            group = self._groups.get(name)
            if group is None:
                total += overall
                continue
            group.rank(now_ms)
            logs, left = group.logs_of(rows), self._left(group, now_ms)
            best = float(logs.max())
            own = np.exp2(logs - best) if best > -math.inf else np.zeros(len(rows))
            total += (left * own + ENOUGH * overall) / (left + ENOUGH)
        return total / len(names)


def _sum(left: float, right: float) -> float:
    """Return log2 of the sum of what two log2 stand for."""
    low, high = min(left, right), max(left, right)
    return high if low == -math.inf else high + math.log2(1.0 + 2.0 ** (low - high))
