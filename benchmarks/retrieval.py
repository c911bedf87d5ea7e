"""What retrieval costs with the defaults that serve: an update, a query of the index, a whole retrieval.

Sessions are synthetic: items Zipf(1), lengths geometric with mean 5. Clicks come as a server gets them, 64 in
a commit, and one by one. Beside it runs a plain V-SKNN in dicts and numpy on the same clicks and queries.
Times are wall clock; `cpu` ones are of the process alone, which a busy machine changes less.
"""

import argparse
import json
import platform
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from online_models.arrays import IntArray
from online_models.retrieval import Recommender, RecommenderSettings, warm_up
from online_models.session_knn import SessionKnnSettings
from online_models.sources import Query

MEAN_LENGTH, COMMIT, GAP_MS = 5, 64, 1_000
MEASURED = 64_000


class PlainKnn:
    """V-SKNN over dicts: the 500 newest sessions of each item vote, linear weights."""

    def __init__(self) -> None:
        self._items: dict[int, list[int]] = defaultdict(list)
        self._holding: dict[int, list[int]] = defaultdict(list)

    def add(self, session: int, item: int) -> None:
        """Append one click."""
        held = self._items[session]
        if item not in held:
            self._holding[item].append(session)
        held.append(item)

    def query(self, items: IntArray, session: int) -> IntArray:
        """Rank 20 items."""
        weights: dict[int, float] = defaultdict(float)
        for place, item in enumerate(items.tolist(), start=1):
            for near in self._holding[item][-500:]:
                weights[near] += place / len(items)
        weights.pop(session, None)
        best = sorted(weights, key=weights.__getitem__, reverse=True)[:300]
        scores: dict[int, float] = defaultdict(float)
        for near in best:
            for item in self._items[near]:
                scores[item] += weights[near]
        return np.array(sorted(scores, key=scores.__getitem__, reverse=True)[:20], np.int64)


def clicks(items: int, sessions: int, seed: int) -> tuple[IntArray, IntArray, IntArray]:
    """Draw sessions, one after another: keys, item rows and times (ms)."""
    rng = np.random.default_rng(seed)
    lengths = np.minimum(rng.geometric(1 / MEAN_LENGTH, sessions), 50)
    weights = 1.0 / np.arange(1, items + 1)
    ranks = rng.choice(items, size=int(lengths.sum()), p=weights / weights.sum())
    rows = rng.permutation(items)[ranks].astype(np.int64)
    keys = np.repeat(np.arange(sessions, dtype=np.int64), lengths)
    return keys, rows, np.arange(len(rows), dtype=np.int64) * GAP_MS


def measured(call: Callable[[Query], object], wishes: list[Query]) -> dict[str, float]:
    """Microseconds of single calls: median and 99th percentile, and the mean of the processor's time."""
    times: list[float] = []
    worked = time.process_time()
    for query in wishes:
        began = time.perf_counter()
        call(query)
        times.append(1e6 * (time.perf_counter() - began))
    cpu = 1e6 * (time.process_time() - worked) / len(wishes)
    p50, p99 = np.percentile(times, (50, 99)).tolist()
    return {"p50": round(p50, 1), "p99": round(p99, 1), "cpu": round(cpu, 1)}


def queries(keys: IntArray, rows: IntArray, asked: int) -> list[Query]:
    """Take the latest sessions of two clicks and more as queries, without their last clicks."""
    edges = np.r_[0, np.flatnonzero(np.diff(keys)) + 1, len(keys)]
    found = []
    for begin, end in zip(edges[-2::-1], edges[:0:-1], strict=True):
        if end - begin > 1:
            found.append(Query(rows[begin : end - 1], len(rows) * GAP_MS, int(keys[begin])))
        if len(found) == asked:
            break
    return found


def measure(items: int, sessions: int, asked: int, seed: int) -> dict[str, Any]:
    """Build a recommender and measure it."""
    keys, rows, at_ms = clicks(items, sessions, seed)
    recommender = Recommender(RecommenderSettings(knn=SessionKnnSettings(max_sessions=sessions)))
    first = len(keys) - min(2 * MEASURED, len(keys) // 2)
    recommender.add_many(keys[:first], rows[:first], at_ms[:first])
    middle = first + (len(keys) - first) // 2
    began, worked = time.perf_counter(), time.process_time()
    for at in range(first, middle, COMMIT):
        part = slice(at, min(at + COMMIT, middle))
        recommender.add_many(keys[part], rows[part], at_ms[part])
    in_commits = 1e6 * (time.perf_counter() - began) / (middle - first)
    cpu = 1e6 * (time.process_time() - worked) / (middle - first)
    began = time.perf_counter()
    for click in zip(keys[middle:].tolist(), rows[middle:].tolist(), at_ms[middle:].tolist(), strict=True):
        recommender.add(*click)
    one_by_one = 1e6 * (time.perf_counter() - began) / (len(keys) - middle)
    wishes = queries(keys, rows, asked)
    index, most = recommender.index, recommender.settings.per_source

    def score(q: Query) -> object:
        return index.score(q.items, q.now_ms, limit=most, exclude_session=q.session)

    return {
        "sessions": sessions,
        "items": items,
        "clicks": len(keys),
        "update_us": round(in_commits, 2),
        "update_cpu_us": round(cpu, 2),
        "update_one_by_one_us": round(one_by_one, 2),
        "index_us": measured(score, wishes),
        "retrieval_us": measured(lambda q: recommender.retrieve(q, 20), wishes),
        "index_bytes_per_session": round(index.nbytes() / sessions),
        "all_bytes_per_session": round(recommender.nbytes() / sessions),
        "plain": plain(keys, rows, wishes),
    }


def plain(keys: IntArray, rows: IntArray, wishes: list[Query]) -> dict[str, Any]:
    """Measure the plain V-SKNN on the same clicks and queries."""
    peer = PlainKnn()
    began = time.perf_counter()
    for session, item in zip(keys.tolist(), rows.tolist(), strict=True):
        peer.add(session, item)
    update = 1e6 * (time.perf_counter() - began) / len(keys)
    return {
        "update_us": round(update, 2),
        "query_us": measured(lambda q: peer.query(q.items, q.session or 0), wishes[:500]),
    }


def main() -> None:
    """Measure each size and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval", description=__doc__)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--sessions", type=int, nargs="+", default=[100_000], help="one or more sizes")
    parser.add_argument("--queries", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here")
    given = parser.parse_args()
    warm_up()
    sizes = []
    for sessions in given.sessions:
        sizes.append(measure(given.items, sessions, given.queries, given.seed))
        print(json.dumps(sizes[-1]), flush=True)
    if given.json:
        about = {"seed": given.seed, "python": platform.python_version(), "queries": given.queries}
        given.json.write_text(json.dumps({"sizes": sizes, "run": about}, indent=1))


if __name__ == "__main__":
    main()
