"""The three protocols: what is predicted, when, and what is learnt in between."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from benchmarks._sessions_data import Click, Clicks, Query
from benchmarks._sessions_score import CUTS, Tally
from online_models.arrays import IntArray


class Model(Protocol):
    """What a protocol drives."""

    def add(self, click: Click) -> None:
        """Learn one click."""

    def recommend(self, query: Query) -> IntArray:
        """Rank items for a session's clicks so far."""


@dataclass(slots=True)
class Trial:
    """One model under one protocol: its tally, and what predictions and updates cost."""

    model: Model
    novel_only: bool = False
    tally: Tally = field(default_factory=Tally)
    query_us: list[float] = field(default_factory=list)
    update_us: float = 0.0
    updates: int = 0

    def learn(self, clicks: Clicks) -> None:
        """Learn clicks one by one, on the clock."""
        rows = zip(clicks.sessions.tolist(), clicks.items.tolist(), clicks.at_ms.tolist(), strict=True)
        add, began = self.model.add, time.perf_counter()
        for row in rows:
            add(Click(*row))
        self.update_us += (time.perf_counter() - began) * 1e6
        self.updates += len(clicks)

    def predict(self, session: int, before: IntArray, item: int, now_ms: int, *segments: str) -> None:
        """Predict one click and judge the answer; repeats are passed over when only novel items count."""
        repeat = bool(np.any(before == item))
        if self.novel_only and repeat:
            return
        query = Query(session, before, now_ms, CUTS[-1] + (len(before) if self.novel_only else 0))
        began = time.perf_counter()
        rows = self.model.recommend(query)
        self.query_us.append((time.perf_counter() - began) * 1e6)
        if self.novel_only:
            rows = rows[~np.isin(rows, before)]
        kind = "repeat" if repeat else "new_item"
        length = f"prefix_{min(len(before), 5)}{'+' if len(before) >= 5 else ''}"
        self.tally.add(rows, item, session, (kind, length, *segments))

    def costs(self) -> dict[str, float]:
        """Microseconds per update and per query."""
        asked = np.array(self.query_us or [np.nan])
        return {
            "update_us": self.update_us / max(1, self.updates),
            "query_us_mean": float(asked.mean()),
            "query_us_p50": float(np.percentile(asked, 50)),
            "query_us_p99": float(np.percentile(asked, 99)),
        }


def chosen(sessions: IntArray, share: float, seed: int) -> Callable[[int], bool]:
    """Tell whether a session is predicted, when only a share of them is."""
    every = np.unique(sessions)
    kept = np.random.default_rng(seed).permutation(every)[: max(1, round(share * len(every)))]
    held = set(kept.tolist())
    return held.__contains__


def _each_session(clicks: Clicks) -> Iterator[Clicks]:
    edges = np.flatnonzero(np.diff(clicks.sessions)) + 1
    for begin, end in zip(np.r_[0, edges], np.r_[edges, len(clicks)], strict=True):
        yield clicks.part(slice(int(begin), int(end)))


def run_split(trial: Trial, test: Clicks, wanted: Callable[[int], bool], *, add_finished: bool) -> None:
    """Predict every next click of each test session; the model learns a session when it ends, or never."""
    for session in _each_session(test):
        key = int(session.sessions[0])
        if wanted(key):
            for at in range(1, len(session)):
                trial.predict(key, session.items[:at], int(session.items[at]), int(session.at_ms[at]))
        if add_finished:
            trial.learn(session)


def run_prequential(trial: Trial, clicks: Clicks, wanted: Callable[[int], bool], bucket_ms: int) -> None:
    """Predict every click that follows another in its session, then learn it."""
    held: dict[int, list[int]] = {}
    for n in range(len(clicks)):
        one = clicks.part(slice(n, n + 1))
        session, item, at_ms = int(one.sessions[0]), int(one.items[0]), int(one.at_ms[0])
        before = held.setdefault(session, [])
        if before and wanted(session):
            label = f"bucket_{(at_ms - int(clicks.at_ms[0])) // bucket_ms:04d}"
            trial.predict(session, np.array(before, np.int64), item, at_ms, label)
        before.append(item)
        trial.learn(one)


def run_continual(trial: Trial, clicks: Clicks, period: IntArray, wanted: Callable[[int], bool]) -> None:
    """Predict each period's clicks on items known from earlier periods, knowing every click before."""
    seen = np.full(int(clicks.items.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(seen, clicks.items, period)
    held: dict[tuple[int, int], list[int]] = {}
    for n in range(len(clicks)):
        one = clicks.part(slice(n, n + 1))
        session, item, now = int(one.sessions[0]), int(one.items[0]), int(period[n])
        if now > 0 and seen[item] < now:
            before = held.setdefault((session, now), [])
            if before and wanted(session):
                where = f"period_{now:02d}"
                trial.predict(session, np.array(before, np.int64), item, int(one.at_ms[0]), where)
            before.append(item)
        trial.learn(one)
