"""Item vectors under constant change: recall against brute force, memory, and what each operation costs.

``python -m benchmarks.vectors --json FILE``. Every round exchanges the whole catalogue: item by item an
old one goes and a new one comes, and every tenth step another item's vector changes. Recall@50 of searches is
measured ten times a round, in the middle of it all, and so are the ten likest of lists that requests read.
"""

import argparse
import gc
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from benchmarks import _run
from benchmarks._stopwatch import Stopwatch
from online_models.embeddings import ItemVectors, ItemVectorSettings
from online_models.neighbourhoods import Neighbourhoods

DIM = 64
CENTRES = 200
AROUND = 0.7
LIMIT = 50
LISTED = 10
"""Of a list, about what a request takes."""
CHECKS = 10
QUERIES = 50
Vectors = NDArray[np.float32]


class Churn:
    """A catalogue that is exchanged item by item.

    Parameters
    ----------
    items
        How many there are at any time.
    seed
        Of all vectors.
    search_effort
        Of the index.
    """

    def __init__(self, items: int, seed: int, search_effort: int) -> None:
        self._rng, self._items = np.random.default_rng(seed), items
        self._centres = self._rng.normal(size=(CENTRES, DIM))
        self.index = ItemVectors(ItemVectorSettings(dim=DIM, search_effort=search_effort))
        self.alike = Neighbourhoods(self.index)
        self.watch = Stopwatch()
        self._vectors: Vectors = np.zeros((items, DIM), np.float32)
        self._next = 0
        self._recalls: list[tuple[float, float]] = []
        for _ in range(items):
            self._insert()

    def round(self) -> tuple[float, float]:
        """Exchange every item once; returns mean recall of searches and of lists while it went on."""
        self._recalls = []
        for step in range(self._items):
            self.watch.timed("delete", self.alike.remove, self._next - self._items)
            self._insert()
            if step % 10 == 0:
                self._change(self._next - 1 - int(self._rng.integers(self._items)))
            if (step + 1) % (self._items // CHECKS) == 0:
                self._recalls.append((self._searched(), self._listed()))
        searched, listed = np.mean(self._recalls, axis=0).tolist()
        return searched, listed

    def _drawn(self) -> Vectors:
        vector = self._centres[self._rng.integers(CENTRES)] + AROUND * self._rng.normal(size=DIM)
        return np.asarray(vector / np.linalg.norm(vector), np.float32)

    def _insert(self) -> None:
        row, vector = self._next, self._drawn()
        self._vectors[row % self._items] = vector
        self.watch.timed("insert", self.alike.put, row, vector)
        self.watch.timed("settle", self.alike.settle, 1)
        self._next += 1

    def _change(self, row: int) -> None:
        vector = self._drawn()
        self._vectors[row % self._items] = vector
        self.watch.timed("update", self.alike.put, row, vector)
        self.watch.timed("settle", self.alike.settle, 1)

    def _rows_at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows that live at places of the ring of vectors."""
        newest = self._next - 1
        return newest - (newest - places) % self._items

    def _searched(self) -> float:
        shares = []
        for _ in range(QUERIES):
            query = self._drawn()
            best = self._rows_at(np.argpartition(-(self._vectors @ query), LIMIT)[:LIMIT])
            found, _ = self.watch.timed("search", self.index.nearest, query, LIMIT)
            shares.append(len(set(found.tolist()) & set(best.tolist())) / LIMIT)
        return float(np.mean(shares))

    def _listed(self) -> float:
        shares = []
        for place in self._rng.integers(0, self._items, QUERIES):
            sims = self._vectors @ self._vectors[place]
            sims[place] = -1.0
            best = self._rows_at(np.argpartition(-sims, LISTED)[:LISTED])
            row = int(self._rows_at(np.array([place]))[0])
            found = self.watch.timed("look up", self.alike.around, [row], LISTED)
            shares.append(len(set(found.tolist()) & set(best.tolist())) / LISTED)
        return float(np.mean(shares))


def resident_mb() -> float:
    """Return the memory of this process that is in use."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * 4096 / 1e6, 1)


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Exchange the catalogue several times and return the report."""
    churn = Churn(given.items, given.seed, given.effort)
    rounds: list[dict[str, float]] = []
    for number in range(given.rounds):
        searched, listed = churn.round()
        size_mb = (churn.index.nbytes() + churn.alike.nbytes()) / 1e6
        rounds.append(
            {
                "round": number + 1,
                "recall": round(searched, 4),
                "list_recall": round(listed, 4),
                "resident_mb": resident_mb(),
                "tables_mb": round(size_mb, 1),
            }
        )
        _run.console.print(rounds[-1])
    recalls = [one["recall"] for one in rounds]
    memory = [one["resident_mb"] for one in rounds]
    return {
        "recall_at_50": min(recalls),
        "list_recall": min(one["list_recall"] for one in rounds),
        "memory_growth": round(memory[-1] / memory[0], 3),
        "us": churn.watch.each_us(),
        "rounds": rounds,
    }


def table(report: dict[str, Any]) -> Table:
    """Return what is printed."""
    rows = {name: report[name] for name in ("recall_at_50", "list_recall", "memory_growth")}
    return _run.figures("item vectors", rows | {f"{name}, us": us for name, us in report["us"].items()})


def main() -> None:
    """Measure and print."""
    parser = _run.options(__doc__, seconds=0.0, rate=0.0)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "--effort", type=int, default=ItemVectorSettings().search_effort, help="`ef` of searches"
    )
    given = parser.parse_args()
    report = measure(given)
    _run.console.print(table(report))
    _run.finish(given, report)


if __name__ == "__main__":
    main()
