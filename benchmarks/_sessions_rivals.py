"""Baselines run beside the engine: popularity, sequential rules and V-SKNN, all updated click by click."""

import heapq
import math
from collections import Counter, defaultdict, deque

import numpy as np

from benchmarks._sessions_data import Click, Query
from online_models.arrays import IntArray
from online_models.session_knn import SessionIndex, SessionKnnSettings


class Popular:
    """POP: the items clicked most since the start, or within the last `window_ms` of event time."""

    def __init__(self, window_ms: int | None = None) -> None:
        self._window = window_ms
        self._counts: Counter[int] = Counter()
        self._recent: deque[tuple[int, int]] = deque()
        self._ranked: tuple[int, IntArray] = (-1, np.zeros(0, np.int64))
        self._clicks = 0

    def add(self, click: Click) -> None:
        """Count one click."""
        self._clicks += 1
        self._counts[click.item] += 1
        if self._window is not None:
            self._recent.append((click.at_ms, click.item))
            while self._recent[0][0] <= click.at_ms - self._window:
                self._counts[self._recent.popleft()[1]] -= 1

    def recommend(self, query: Query) -> IntArray:
        """Most clicked items; the ranking is renewed every 100 clicks."""
        if self._ranked[0] < 0 or self._clicks - self._ranked[0] >= 100:
            top = [item for item, count in self._counts.most_common(100) if count > 0]
            self._ranked = (self._clicks, np.array(top, np.int64))
        return self._ranked[1][: query.limit]


class SessionPopular:
    """S-POP: the session's own items by clicks, then POP."""

    def __init__(self) -> None:
        self._all = Popular()

    def add(self, click: Click) -> None:
        """Count one click."""
        self._all.add(click)

    def recommend(self, query: Query) -> IntArray:
        """Own items, most clicked first and latest first among equals, then the popular."""
        counts = Counter(reversed(query.items.tolist()))
        own = [item for item, _ in counts.most_common()]
        rest = [item for item in self._all.recommend(query).tolist() if item not in counts]
        return np.array((own + rest)[: query.limit], np.int64)


class SequentialRules:
    """SR (Ludewig, Jannach 2018): what followed the latest item, by 1 / distance, up to ten clicks."""

    def __init__(self) -> None:
        self._rules: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
        self._open: dict[int, list[int]] = {}

    def add(self, click: Click) -> None:
        """Count the pairs this click makes."""
        before = self._open.setdefault(click.session, [])
        for back, earlier in enumerate(reversed(before[-10:]), start=1):
            self._rules[earlier][click.item] += 1.0 / back
        before.append(click.item)

    def recommend(self, query: Query) -> IntArray:
        """Successors of the latest item."""
        rules = self._rules.get(int(query.items[-1]), {})
        return np.array(sorted(rules, key=lambda row: -rules[row])[: query.limit], np.int64)


class VSknn:
    """V-SKNN with the settings behind its published rows (k 1500, quadratic weights, linear score, idf 10).

    Candidates are the 10,000 sessions met latest among those that share an item; similarity is the sum of the
    shared items' quadratic weights over the root of both lengths; the latest shared item's place decays the
    vote linearly.
    """

    def __init__(self, neighbours: int = 1500, sample: int = 10_000) -> None:
        self._k, self._sample = neighbours, sample
        self._rows: list[list[int]] = []
        self._place: dict[int, int] = {}
        self._holding: dict[int, list[int]] = defaultdict(list)

    def add(self, click: Click) -> None:
        """Append one click to its session."""
        place = self._place.setdefault(click.session, len(self._rows))
        if place == len(self._rows):
            self._rows.append([])
        if click.item not in self._rows[place]:
            self._holding[click.item].append(place)
        self._rows[place].append(click.item)

    def recommend(self, query: Query) -> IntArray:
        """Rank the neighbours' items."""
        back = {item: n for n, item in reversed(list(enumerate(reversed(query.items.tolist()))))}
        scores: dict[int, float] = defaultdict(float)
        for similarity, place in self._near(query.session, back, len(query.items)):
            row = self._rows[place]
            vote = similarity * max(0.0, 1.0 - 0.1 * min(back[item] for item in row if item in back))
            for item in dict.fromkeys(row):
                scores[item] += vote
        total = len(self._rows)
        ranked = {i: s * (1.0 + 10.0 * math.log(total / len(self._holding[i]))) for i, s in scores.items()}
        best = heapq.nlargest(query.limit, ((s, i) for i, s in ranked.items() if s > 0))
        return np.array([item for _, item in best], np.int64)

    def _near(self, session: int, back: dict[int, int], length: int) -> list[tuple[float, int]]:
        """Similarity and place of the nearest sessions, the current one left out."""
        shared: dict[int, float] = defaultdict(float)
        for item, gap in back.items():
            value = ((length - gap) / length) ** 2
            for place in self._holding.get(item, ())[-self._sample :]:
                shared[place] += value
        shared.pop(self._place.get(session, -1), None)
        latest = heapq.nlargest(self._sample, shared) if len(shared) > self._sample else list(shared)
        alike = ((shared[p] / math.sqrt(length * len(self._rows[p])), p) for p in latest)
        return heapq.nlargest(self._k, alike)


class OwnKnn:
    """The engine's session index alone, to see what the blend adds."""

    def __init__(self) -> None:
        self._index = SessionIndex(SessionKnnSettings())

    def add(self, click: Click) -> None:
        """Add one click."""
        self._index.add(click.session, click.item, click.at_ms)

    def recommend(self, query: Query) -> IntArray:
        """Rank by the index."""
        rows, _ = self._index.score(
            query.items, query.now_ms, limit=query.limit, exclude_session=query.session
        )
        return rows
