"""Baselines run beside the engine: popularity and sequential rules, all updated click by click."""

from collections import Counter, deque
from heapq import nlargest

import numpy as np

from headwater.evaluation.clicks import Click
from headwater.evaluation.trial import Model, Query
from online_models.arrays import IntArray

HOUR_MS = 3_600_000
_LISTED = 300
_RULES_BACK = 10
_NOTHING = np.zeros(0, np.int64)


class Popular:
    """POP: the items clicked most since the start, or within the last `window_ms` of event time.

    The ranking is renewed after every thousandth of the items' number in clicks, at least after each one.
    """

    def __init__(self, window_ms: int | None = None) -> None:
        self._window = window_ms
        self._counts = np.zeros(1024, np.int64)
        self._recent: deque[Click] = deque()
        self._ranked, self._due = _NOTHING, 0

    def add(self, click: Click) -> None:
        """Count one click."""
        while click.item >= len(self._counts):
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._counts[click.item] += 1
        self._due -= 1
        if self._window is not None:
            self._recent.append(click)
            while self._recent[0].at_ms <= click.at_ms - self._window:
                self._counts[self._recent.popleft().item] -= 1

    def recommend(self, _: Query) -> IntArray:
        """Most clicked items."""
        if self._due <= 0:
            listed = np.argpartition(-self._counts, _LISTED)[:_LISTED]
            listed = np.sort(listed[self._counts[listed] > 0])
            self._ranked = listed[np.argsort(-self._counts[listed], kind="stable")]
            self._due = int(np.count_nonzero(self._counts)) // 1000
        return self._ranked


class SessionPopular:
    """S-POP: the session's own items by clicks, then POP."""

    def __init__(self) -> None:
        self._all = Popular()

    def add(self, click: Click) -> None:
        """Count one click."""
        self._all.add(click)

    def recommend(self, query: Query) -> IntArray:
        """Own items, most clicked first and latest first among equals, then the popular."""
        own = np.array([item for item, _ in Counter(reversed(query.items.tolist())).most_common()], np.int64)
        rest = self._all.recommend(query)
        return np.concatenate([own, rest[~np.isin(rest, own)]])


class SequentialRules:
    """SR (Ludewig, Jannach 2018): what followed the latest item, by 1 / distance, up to ten clicks."""

    def __init__(self) -> None:
        self._rules: dict[int, dict[int, float]] = {}
        self._open: dict[int, deque[int]] = {}

    def add(self, click: Click) -> None:
        """Count the pairs this click makes."""
        before = self._open.setdefault(click.session, deque(maxlen=_RULES_BACK))
        for back, earlier in enumerate(reversed(before), start=1):
            followed = self._rules.setdefault(earlier, {})
            followed[click.item] = followed.get(click.item, 0.0) + 1.0 / back
        before.append(click.item)

    def recommend(self, query: Query) -> IntArray:
        """Successors of the latest item."""
        rules = self._rules.get(int(query.items[-1]), {})
        wanted = query.limit + len(query.items) * query.novel_only
        return np.array(nlargest(wanted, rules, key=rules.__getitem__), np.int64)


class Novel:
    """Leaves a session's own items out where only novel ones are asked for."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def add(self, click: Click) -> None:
        """Learn one click."""
        self._model.add(click)

    def recommend(self, query: Query) -> IntArray:
        """Rank items."""
        rows = self._model.recommend(query)
        return rows[~np.isin(rows, query.items)] if query.novel_only else rows


class NotCurrent:
    """Leaves the session's latest item out, which some of V-SKNN's published rows do."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def add(self, click: Click) -> None:
        """Learn one click."""
        self._model.add(click)

    def recommend(self, query: Query) -> IntArray:
        """Rank items."""
        rows = self._model.recommend(query._replace(limit=query.limit + 1))
        others: IntArray = rows[rows != query.items[-1]]
        return others
