"""What each part of the served path is worth: the demo's MovieLens traffic replayed in one process.

Every visit is a request answered by `serving.decide`, judged by whether the film rated next is among the
ten items shown, and then told to the same units that workers fold (`stream`), whose feeds keep the live
state true: click model, blend and bandit learn as they do when they serve. No broker and no store, so a run
repeats by its seed. `full` is all of it. `alone` takes the first ten of one source's own list, on the same
requests and the same state, without what the visitor has rated. `without` runs everything again with one
source bringing nothing, or with one family of inputs always 0.
"""

import argparse
import json
from collections.abc import Sequence
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._ablation_cut import FAMILIES, CutLive, Without, inputs_of
from benchmarks._inprocess import Engine, K
from headwater.datasets import Movie, MovieLens, load_movielens
from headwater.demo.baselines import Popularity
from headwater.demo.run import MOVIE_PAIRS, MOVIE_SESSIONS, SPEED_UP
from headwater.demo.traffic import visits
from headwater.evaluation.measures import difference
from online_models.arrays import FloatArray, IntArray
from online_models.sources import (
    COVISIT,
    KNN,
    SEGMENT_TREND,
    SESSION,
    SOURCE_NAMES,
    SURFACE_TREND,
    TREND,
    Query,
)
from serving.app import make_live
from serving.decide import Call, Decided
from serving.live import LiveState
from serving.sources import Asked
from serving.visitor import asked_of
from state.events import Item
from state.settings import Settings
from state.subject import SubjectRecord

FULL = "full"
"""The full path, as shown: some slots explore."""
GREEDY = "full, greedy"
"""The same requests and the same state in the order of the policy's scores."""
BEGAN_MS = 1_750_000_000_000
RATE = 60.0
DEEP = 400
"""How far down its own list a source is asked when it stands alone."""


def demo_settings(seed: int) -> Settings:
    """Return the demo's settings, for one shard."""
    return Settings(
        namespace="ablation", token_secret="ablation of one process", shards=1, speed_up=SPEED_UP, seed=seed,
        attribution_window_s=600.0, lateness_s=400.0, decision_wait_s=1200.0, holdout=0.0,
        session_idle_s=1800.0 * SPEED_UP, knn=MOVIE_SESSIONS, covisits=MOVIE_PAIRS,
    )  # fmt: skip


class Alone:
    """What single sources would show, each by its own order, on the state that served the request.

    Parameters
    ----------
    live
        The state.
    items
        Films in all.
    """

    def __init__(self, live: LiveState, items: int) -> None:
        self._live, self._items = live, items
        self._popularity = Popularity(items)

    def hits(self, call: Call, item_id: str, rated: set[int]) -> dict[str, bool]:
        """Return, by source, whether its first ten hold the film; then let popularity learn it."""
        live, row = self._live, self._live.items.row(item_id)
        asked = asked_of(live, call.request, call.record or SubjectRecord(), call.subject, call.now_ms)
        found = {name: row in _first(rows, rated) for name, rows in self._lists(asked).items()}
        seen = np.zeros(self._items, np.bool_)
        seen[list(rated)] = True
        popular = self._popularity.judge(row, seen)
        self._popularity.learn(row)
        halves = self._popularity.half_lives
        return found | {f"popularity, half-life {h:g}": bool(p) for h, p in zip(halves, popular, strict=True)}

    def _lists(self, asked: Asked) -> dict[str, IntArray]:
        live, now, recommender = self._live, asked.now_ms, self._live.recommender
        items = asked.recent[-recommender.settings.max_query :]
        every = np.arange(self._items)
        lists = {
            SOURCE_NAMES[KNN]: live.sessions.score(items, now, limit=DEEP, exclude_session=asked.session)[0],
            SOURCE_NAMES[COVISIT]: live.covisits.score(items, limit=DEEP)[0],
            "session embedding": every[
                np.argsort(-recommender.embedding.match(items, every)[:, 0], kind="stable")
            ]
            if len(items)
            else every[:0],
        }
        for part in recommender.parts(Query(items, now, asked.session, None, asked)):
            if part.source in (KNN, COVISIT, SESSION):
                continue
            name, nth = SOURCE_NAMES[part.source], 1
            while (told := f"{name} {nth}" if part.source == TREND else name) in lists:
                nth += 1
            lists[told] = part.rows
        return lists


def _first(rows: IntArray, rated: set[int]) -> list[int]:
    return list(islice((row for row in rows.tolist() if row not in rated), K))


def play(data: MovieLens, events: int, seed: int, without: Without | None) -> dict[str, list[bool]]:
    """Run the traffic once; return hits of `full` and, where nothing is left out, of every source alone."""
    settings = demo_settings(seed)
    live = make_live(settings)
    if without is not None:
        live = CutLive(live, without)
    engine = Engine(settings, live, seed)
    engine.stock([catalogue_item(movie) for movie in data.items.values()])
    alone = Alone(live, len(data.items)) if without is None else None
    rated: dict[str, set[int]] = {}
    hits: dict[str, list[bool]] = {}
    for number, visit in enumerate(visits(data.ratings[:events])):
        call = engine.call(visit.user, visit.session_id, BEGAN_MS + round(1000 * number / RATE))
        own = rated.setdefault(visit.user, set())
        shown = {} if alone is None else alone.hits(call, visit.item_id, own)
        decided, slate = engine.answer(call)
        shown[FULL] = any(item.item_id == visit.item_id for item in slate)
        if decided is not None:
            shown |= _stages(decided, live.items.row(visit.item_id))
        for name, hit in shown.items():
            hits.setdefault(name, [False] * number).append(hit)
        for name in hits.keys() - shown.keys():
            hits[name].append(False)
        engine.tell(call, decided, visit.item_id, visit.rating)
        own.add(live.items.row(visit.item_id))
    return hits


def _stages(decided: Decided, row: int) -> dict[str, bool]:
    """Return whether the first ten hold a row, by the order of each stage of the path, nothing explored."""
    scored = decided.scored
    orders = {
        "after the blend": scored.found.scores,
        "after the click model": scored.logits,
        GREEDY: scored.scores,
    }
    return {
        stage: row in scored.found.rows[np.argsort(-scores, kind="stable")[:K]].tolist()
        for stage, scores in orders.items()
    }


def catalogue_item(movie: Movie) -> Item:
    """Return a film as the demo publishes it."""
    attributes: dict[str, Any] = {"year": float(movie.year)} if movie.year else {}
    return Item(
        event_id=f"catalogue-{movie.item_id}", occurred_at=BEGAN_MS, item_id=movie.item_id, title=movie.title,
        categories=list(movie.genres), attributes=attributes, producer="demo",
    )  # fmt: skip


def cuts() -> dict[str, Without | None]:
    """Return every run of an ablation by name: all sources a catalogue has, all families the blend has."""
    names = make_live(demo_settings(0)).recommender.names
    sources = {
        code: name
        for code, name in enumerate(SOURCE_NAMES)
        if code not in (SESSION, SURFACE_TREND, SEGMENT_TREND)
    }
    runs: dict[str, Without | None] = {FULL: None}
    runs |= {f"source: {name}": Without(sources=frozenset({code})) for code, name in sources.items()}
    families = {family: Without(families=frozenset({family})) for family in FAMILIES}
    return runs | {f"inputs: {name}": cut for name, cut in families.items() if inputs_of(cut, names)}


class Results:
    """Hits of every run, kept as a file so that a run can be played in parts.

    Parameters
    ----------
    path
        The file; None to keep nothing.
    events
        Requests of a run.
    """

    def __init__(self, path: Path | None, events: int) -> None:
        self._path, self._events = path, events
        self.hits: dict[str, dict[str, str]] = {}
        if path is not None and path.exists():
            held = json.loads(path.read_text())
            if held["events"] != events:
                raise ValueError(f"{path} holds runs of {held['events']} events; wished: {events}")
            self.hits = held["hits"]

    def put(self, run: str, seed: int, hits: dict[str, list[bool]]) -> None:
        """Keep a run's hits, one letter a request; those of a cut run under what it lacks."""
        for name, values in hits.items():
            told = name if run == FULL else _cut_name(run, name)
            self.hits.setdefault(told, {})[str(seed)] = "".join("01"[hit] for hit in values)

    def has(self, run: str, seed: int) -> bool:
        """Return whether a run is there already."""
        return str(seed) in self.hits.get(FULL if run == FULL else _cut_name(run, FULL), {})

    def rates(self, name: str, seeds: Sequence[int]) -> FloatArray:
        """Return hits of the seeds that were played, shape (s, n)."""
        held = self.hits[name]
        rows = [
            np.frombuffer(held[str(seed)].encode(), np.uint8) - 48.0 for seed in seeds if str(seed) in held
        ]
        return np.array(rows)

    def write(self, report: dict[str, Any]) -> None:
        """Write report and hits."""
        if self._path is not None:
            document = {**report, "events": self._events, "hits": self.hits}
            self._path.write_text(json.dumps(document, indent=1))


def _cut_name(run: str, name: str) -> str:
    return f"without {run}" if name == FULL else f"without {run}, {name}"


def summary(results: Results, seeds: Sequence[int], users: IntArray) -> dict[str, Any]:
    """Return hit rates, over the seeds both have, and what the full path has above each other name."""
    report: dict[str, Any] = {}
    for name in results.hits:
        both = results.hits[name].keys() & results.hits.get(FULL, {}).keys()
        shared = [seed for seed in seeds if str(seed) in both]
        if not shared:
            continue
        own = results.rates(name, shared)
        by_seed = own.mean(axis=1)
        row = {
            "seeds": len(shared),
            "hr10": float(by_seed.mean()),
            "sd": float(by_seed.std(ddof=min(1, len(shared) - 1))),
        }
        for told, path in (("full_above", FULL), ("greedy_above", GREEDY)):
            if path in results.hits:
                theirs = results.rates(path, shared).mean(axis=0)
                gap, width = difference(own.mean(axis=0)[:, None], theirs[:, None], users)
                row |= {told: float(gap[0]), f"{told}_ci95": float(width[0])}
        report[name] = row
    return report


def _show(report: dict[str, Any]) -> None:
    for name, row in sorted(
        report.items(), key=lambda pair: (pair[0].startswith("without"), -pair[1]["hr10"])
    ):
        print(
            f"{name:<44} seeds {row['seeds']}  HR@10 {row['hr10']:.4f} (sd {row['sd']:.4f})"
            f"  shown above by {row['full_above']:+.4f} +-{row['full_above_ci95']:.4f}"
            f", greedy by {row['greedy_above']:+.4f} +-{row['greedy_above_ci95']:.4f}"
        )


def options() -> argparse.ArgumentParser:
    """Return the command line of this benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.add_argument("--events", type=int, default=6_000, help="visits of a run, from the first rating on")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each, which differ by the slates drawn")
    parser.add_argument("--seed", type=int, default=1, help="the first of them")
    runs = list(cuts())
    parser.add_argument("--only", nargs="+", choices=runs, default=runs, metavar="RUN", help=", ".join(runs))
    parser.add_argument("--json", type=Path, metavar="FILE", help="every figure; runs in it are not repeated")
    return parser


def main() -> None:
    """Run what the file has not got yet, and report."""
    given = options().parse_args()
    data, seeds = load_movielens(), range(given.seed, given.seed + given.seeds)
    results, planned = Results(given.json, given.events), cuts()
    users = np.unique([visit.user for visit in visits(data.ratings[: given.events])], return_inverse=True)[1]
    first, last = data.ratings[0].timestamp_s, data.ratings[given.events - 1].timestamp_s
    print(f"MovieLens-100K, n {given.events} a run, seeds {list(seeds)}, ratings of {first}..{last} (unix s)")
    print("intervals: 95 %, users as clusters, seeds averaged")
    report: dict[str, Any] = {}
    for seed, run in product(seeds, given.only):
        if not results.has(run, seed):
            results.put(run, seed, play(data, given.events, seed, planned[run]))
            report = summary(results, seeds, users)
            results.write({"n": given.events, "seeds": list(seeds), "range_s": [first, last], "rows": report})
    _show(report or summary(results, seeds, users))


if __name__ == "__main__":
    main()
