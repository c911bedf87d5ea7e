"""Neighbours by behaviour vectors while clicks never cease to move them: recall, memory, and what it costs.

``python -m benchmarks.behaviour --json FILE``. Synthetic sessions, each from one of 200 groups of items, are
learnt click by click; every few clicks one item that has moved is put into the index, as a server does.
It is checked ten times: searches of the index beside brute force over the vectors it holds (recall@50), and
the lists that requests read (their first ten) beside brute force over all vectors as they are at that moment.
Half-way a tenth of all items is removed.
"""

import argparse
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks import _run
from benchmarks._stopwatch import Stopwatch
from benchmarks.vectors import LIMIT, LISTED, resident_mb
from online_models.arrays import IntArray, VectorArray
from online_models.behaviour import BehaviourNeighbours
from online_models.embeddings import ItemVectorSettings
from online_models.session_embedding import SessionEmbedding, SessionEmbeddingSettings

GROUPS, LENGTH = 200, 5
CHECKS, QUERIES = 10, 100


class Clicks:
    """Sessions that stay in a group of items, and everything that learns of them.

    Parameters
    ----------
    items
        How many there are.
    seed
        Of all draws.
    pace
        One item is put every so many clicks.
    """

    def __init__(self, items: int, seed: int, pace: int) -> None:
        settings = SessionEmbeddingSettings(seed=seed)
        self.learnt, self._pace = SessionEmbedding(settings), pace
        self.alike = BehaviourNeighbours(ItemVectorSettings(dim=settings.dim))
        self.watch = Stopwatch()
        self._rng, self._items, self._clicks = np.random.default_rng(seed), items, 0
        self._gone: set[int] = set()

    def session(self) -> None:
        """Learn one session."""
        each = self._items // GROUPS
        place = self._rng.integers(GROUPS) + GROUPS * self._rng.integers(0, each, LENGTH)
        rows = [row for row in place.tolist() if row not in self._gone]
        for step, row in enumerate(rows):
            self.learnt.learn(rows[:step], row)
            self.alike.note([row])
            self._clicks += 1
            if self._clicks % self._pace == 0:
                self.watch.timed("put", self.alike.settle, self.learnt, 1)

    def remove(self, share: float) -> None:
        """Take some items away."""
        for row in self._rng.choice(self._items, int(share * self._items), replace=False).tolist():
            self._gone.add(row)
            self.learnt.remove_item(row)
            self.watch.timed("remove", self.alike.remove, row)

    def check(self) -> dict[str, float]:
        """Compare searches and lists with brute force."""
        rows = self.learnt.met()
        vectors = self.learnt.tables.vector[rows]
        checked = self._rng.choice(rows, min(QUERIES, rows.size), replace=False).tolist()
        found = [self._compared(int(row), rows, vectors) for row in checked]
        recall, listed, exact = np.mean(found, axis=0)
        return {
            "recall_at_50": round(float(recall), 4),
            "as_of_now": round(float(exact), 4),
            "lists": round(float(listed), 4),
            "waiting": self.alike.settle(self.learnt, 0),
            "resident_mb": resident_mb(),
        }

    def _compared(self, row: int, rows: IntArray, vectors: VectorArray) -> tuple[float, float, float]:
        query = self.learnt.tables.vector[row]
        held = np.array([other for other in rows.tolist() if other in self.alike.vectors])
        as_held = held[np.argsort(-self.alike.vectors.similarities(query, held), kind="stable")]
        as_now = rows[self.watch.timed("brute force", np.argsort, -(vectors @ query))]
        found = self.watch.timed("search", self.alike.vectors.nearest, query, LIMIT)[0]
        lists = self.watch.timed("look up", self.alike.around, [row], LISTED)
        near = [other for other in as_now.tolist() if other != row]
        return (
            len(set(found.tolist()) & set(as_held[:LIMIT].tolist())) / LIMIT,
            len(set(lists.tolist()) & set(near[:LISTED])) / LISTED,
            len(set(found.tolist()) & set(as_now[:LIMIT].tolist())) / LIMIT,
        )


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Learn, remove, learn on, and return the report."""
    clicks, checks = Clicks(given.items, given.seed, given.pace), []
    for number in range(CHECKS):
        for _ in range(given.clicks // CHECKS // LENGTH):
            clicks.session()
        checks.append(clicks.check())
        _run.console.print(checks[-1])
        if number == CHECKS // 2 - 1:
            clicks.remove(0.1)
    return {
        "recall_at_50": min(one["recall_at_50"] for one in checks),
        "as_of_now": checks[-1]["as_of_now"],
        "lists": checks[-1]["lists"],
        "memory_growth": round(checks[-1]["resident_mb"] / checks[CHECKS // 2]["resident_mb"], 3),
        "us": clicks.watch.each_us(),
        "checks": checks,
    }


def table(report: dict[str, Any]) -> Table:
    """Return what is printed."""
    rows = {name: value for name, value in report.items() if name not in ("us", "checks")}
    return _run.figures("behaviour vectors", rows | {f"{name}, us": us for name, us in report["us"].items()})


def main() -> None:
    """Measure and print."""
    parser = _run.options(__doc__, seconds=0.0, rate=0.0)
    parser.add_argument("--items", type=int, default=5_000)
    parser.add_argument("--clicks", type=int, default=200_000)
    parser.add_argument("--pace", type=int, default=3, help="clicks for one item that is put")
    given = parser.parse_args()
    report = measure(given)
    _run.console.print(table(report))
    _run.finish(given, report)


if __name__ == "__main__":
    main()
