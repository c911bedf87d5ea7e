"""What variety, repetition and freshness cost: the demo's traffic under one ranking document after the other.

Every run replays the same visits in one process through the served path, which learns as it does when it
serves (`benchmarks.ablation` says how), with one ranking document in force. Beside hit rate@10 stand what the
document is for: likeness of a slate's items, categories in it, share of the catalogue and age of
what is shown; and what the decision takes.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from benchmarks._inprocess import SURFACE, Engine, K
from benchmarks.ablation import BEGAN_MS, RATE, catalogue_item, demo_settings
from headwater.datasets import Movie, MovieLens, load_movielens
from headwater.demo.traffic import visits
from headwater.evaluation.measures import difference
from online_models.arrays import FloatArray, IntArray
from serving.app import make_live
from serving.live import LiveState
from serving.requests import RecommendedItem
from state.events import Item, encode
from state.exploration import Explorations
from state.ranking import Rankings

PLAIN = "plain"
YEAR_S = 31_536_000.0
RANKINGS: dict[str, dict[str, float]] = {
    PLAIN: {},
    "category cap 4": {"category_cap": 4},
    "category cap 2": {"category_cap": 2},
    "diversity .2": {"diversity": 0.2},
    "diversity .7": {"diversity": 0.7},
    "diversity 2": {"diversity": 2.0},
    "freshness .5": {"freshness": 0.5, "freshness_half_life_s": YEAR_S},
    "freshness 2": {"freshness": 2.0, "freshness_half_life_s": YEAR_S},
    "repeats at once": {"no_repeat_s": 0.0},
    "single slot": {},
}
MEASURES = ("hit", "likeness", "categories", "rank of release", "decide_us")


class Run(Struct):
    """One run: a row of `MEASURES` for each request, and every item shown."""

    rows: FloatArray
    shown: set[str]


def play(data: MovieLens, events: int, seed: int, name: str) -> Run:
    """Replay the traffic under one of `RANKINGS`."""
    settings = demo_settings(seed)
    live = make_live(settings)
    live.put_control(f"ranking/{SURFACE}", encode(Rankings(**RANKINGS[name])))  # type: ignore[arg-type]
    mode = Explorations(mode="single_slot" if name == "single slot" else "every_slot")
    live.put_control(f"exploration/{SURFACE}", encode(mode))
    engine, rows, everything = Engine(settings, live, seed), [], set[str]()
    years = {movie.item_id: movie.year or 0 for movie in data.items.values()}
    engine.stock([_published(movie, max(years.values())) for movie in data.items.values()])
    newer = {item: place / len(years) for place, item in enumerate(sorted(years, key=years.__getitem__))}
    for number, visit in enumerate(visits(data.ratings[:events])):
        call = engine.call(visit.user, visit.session_id, BEGAN_MS + round(1000 * number / RATE))
        began = time.perf_counter()
        decided, slate = engine.answer(call)
        took_us = (time.perf_counter() - began) * 1e6
        ids = [item.item_id for item in slate]
        everything.update(ids)
        release = float(np.mean([newer[one] for one in ids])) if ids else np.nan
        rows.append([visit.item_id in ids, *_variety(live, slate), release, took_us])
        engine.tell(call, decided, visit.item_id, visit.rating)
    return Run(np.array(rows, np.float64), everything)


def _published(movie: Movie, newest: int) -> Item:
    """Return a film that came out on the first day of its year, the newest ones as the traffic begins."""
    age_ms = round(1000 * YEAR_S * (newest - (movie.year or newest - 100)))
    return replace(catalogue_item(movie), published_at=max(1, BEGAN_MS - age_ms))


def _variety(live: LiveState, slate: Sequence[RecommendedItem]) -> tuple[float, float]:
    """Return mean cosine of a slate's pairs, and how many categories its items have as their first."""
    if len(slate) < 2:
        return np.nan, np.nan
    rows = live.items.rows(item.item_id for item in slate)
    vectors = live.items.vectors[rows].astype(np.float64)
    pairs = vectors @ vectors.T
    likeness = (pairs.sum() - np.trace(pairs)) / (len(rows) * (len(rows) - 1))
    return float(likeness), float(len(np.unique(live.items.codes[rows, 0])))


def summary(runs: dict[str, list[Run]], users: IntArray, items: int) -> dict[str, dict[str, float]]:
    """Return each document's measures, seeds averaged, and its hit rate less that of the plain one."""
    plain = _hits(runs[PLAIN]) if PLAIN in runs else None
    report: dict[str, dict[str, float]] = {}
    for name, played in runs.items():
        means = np.nanmean([np.nanmean(run.rows, axis=0) for run in played], axis=0)
        row = dict(zip(("hr10", *MEASURES[1:-1]), means[:-1].tolist(), strict=True))
        row["decide_us"] = float(np.median([np.median(run.rows[:, -1]) for run in played]))
        row["coverage"] = float(np.mean([len(run.shown) / items for run in played]))
        if plain is not None and len(plain) == len(played):
            gap, width = difference(_mean(plain), _mean(_hits(played)), users)
            row |= {"over_plain": float(gap[0]), "over_plain_ci95": float(width[0])}
        report[name] = row
    return report


def _hits(runs: Sequence[Run]) -> FloatArray:
    return np.array([run.rows[:, 0] for run in runs])


def _mean(hits: FloatArray) -> FloatArray:
    mean: FloatArray = hits.mean(axis=0)[:, None]
    return mean


def _show(report: dict[str, dict[str, float]]) -> None:
    print(f"{'ranking':<24}{'HR@10':>8}{'over plain':>20}{'likeness':>10}{'categories':>12}{'coverage':>10}"
          f"{'release':>9}{'decide us':>11}")  # fmt: skip
    for name, row in report.items():
        over = f"{row.get('over_plain', 0.0):+.4f} +-{row.get('over_plain_ci95', 0.0):.4f}"
        print(f"{name:<24}{row['hr10']:>8.4f}{over:>20}{row['likeness']:>10.3f}{row['categories']:>12.2f}"
              f"{row['coverage']:>10.3f}{row['rank of release']:>9.3f}{row['decide_us']:>11.0f}")  # fmt: skip


def options() -> argparse.ArgumentParser:
    """Return the command line of this benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.variety", description=__doc__)
    parser.add_argument("--events", type=int, default=4_000, help="visits of a run")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each document")
    parser.add_argument("--seed", type=int, default=1, help="the first of them")
    parser.add_argument(
        "--only", nargs="+", choices=list(RANKINGS), default=list(RANKINGS), metavar="RANKING"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here")
    return parser


def main() -> None:
    """Play every document on every seed, and report."""
    given = options().parse_args()
    data = load_movielens()
    users = np.unique([visit.user for visit in visits(data.ratings[: given.events])], return_inverse=True)[1]
    print(
        f"MovieLens-100K, n {given.events} requests a run of {K} slots, {given.seeds} seeds from {given.seed}"
    )
    runs: dict[str, list[Run]] = {}
    for seed in range(given.seed, given.seed + given.seeds):
        for name in given.only:
            runs.setdefault(name, []).append(play(data, given.events, seed, name))
    report: dict[str, Any] = summary(runs, users, len(data.items))
    _show(report)
    if given.json is not None:
        given.json.write_text(json.dumps({"n": given.events, "seeds": given.seeds, "rows": report}, indent=1))


if __name__ == "__main__":
    main()
