"""How well the next click of a session is predicted, by the classes that serve, beside the usual baselines.

Protocols: `split` (train.tsv.gz, then test.tsv.gz: once with the trained model as it is, once with each
finished test session added), `continual` (stream.tsv.gz with period.tsv.gz: mean over periods, every earlier
click known) and `prequential` (every click: predict, score, learn). Sessions of a share can be drawn to save
time: all clicks are still learnt.
"""

import argparse
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _sessions_data as data
from benchmarks import _sessions_rivals as rivals
from benchmarks import _sessions_run as protocols
from benchmarks._sessions_plot import bars
from online_models.arrays import IntArray
from online_models.retrieval import Recommender, RecommenderSettings, warm_up

ENGINE = "engine"


class Engine:
    """The recommender with the defaults it is served with."""

    def __init__(self) -> None:
        self._recommender = Recommender(RecommenderSettings())

    def add(self, click: data.Click) -> None:
        """Learn one click."""
        self._recommender.add(click.session, click.item, click.at_ms)

    def recommend(self, query: data.Query) -> IntArray:
        """Rank items."""
        session, items, now_ms, limit = query
        return self._recommender.recommend(items, now_ms, limit, exclude_session=session).rows


MODELS: dict[str, Callable[[], protocols.Model]] = {
    ENGINE: Engine,
    "session_knn": rivals.OwnKnn,
    "pop": rivals.Popular,
    "pop_last_hour": lambda: rivals.Popular(3_600_000),
    "s_pop": rivals.SessionPopular,
    "sr": rivals.SequentialRules,
    "v_sknn": rivals.VSknn,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run on which clicks."""

    protocol: str
    first: data.Clicks
    rest: data.Clicks
    period: IntArray
    share: float
    seed: int
    novel_only: bool
    bucket_ms: int

    @property
    def popularity(self) -> IntArray:
        """Clicks of each item in all data."""
        return np.bincount(np.concatenate([self.first.items, self.rest.items]))


def plan(given: argparse.Namespace) -> Plan:
    """Read the data a protocol needs."""
    none = data.Clicks(*(np.zeros(0, np.int64),) * 3)
    if given.protocol == "split":
        first, rest = data.split_parts(given.data)
    else:
        first, rest = none, data.whole_stream(given.data)
    period = data.periods(given.data, rest) if given.protocol == "continual" else np.zeros(0, np.int64)
    bucket_ms = int(given.bucket_hours * 3_600_000)
    return Plan(given.protocol, first, rest, period, given.sessions, given.seed, given.novel_only, bucket_ms)


def run(made: Plan, make: Callable[[], protocols.Model]) -> dict[str, Any]:
    """Run one model through the plan."""
    wanted = protocols.chosen(made.rest.sessions, made.share, made.seed)
    trial = protocols.Trial(make(), made.novel_only)
    if made.protocol == "prequential":
        protocols.run_prequential(trial, made.rest, wanted, made.bucket_ms)
    elif made.protocol == "continual":
        protocols.run_continual(trial, made.rest, made.period, wanted)
    else:
        trial.learn(made.first)
        protocols.run_split(trial, made.rest, wanted, add_finished=False)
    report = _report(trial, made)
    if made.protocol == "split":
        again = protocols.Trial(trial.model, made.novel_only)
        protocols.run_split(again, made.rest, wanted, add_finished=True)
        report["finished_sessions_added"] = _report(again, made)
    return report


def _report(trial: protocols.Trial, made: Plan) -> dict[str, Any]:
    report: dict[str, Any] = {**trial.tally.summary(made.popularity), **trial.costs()}
    if made.protocol == "continual":
        parts = [part for name, part in report["segments"].items() if name.startswith("period_")]
        report["hr20_micro"], report["mrr20_micro"] = report["hr20"], report["mrr20"]
        report["hr20"] = float(np.mean([part["hr20"] for part in parts]))
        report["mrr20"] = float(np.mean([part["mrr20"] for part in parts]))
    return report


def _line(name: str, report: dict[str, Any]) -> str:
    return (
        f"{name:<22} n {report['n']:>7}  HR@20 {report['hr20']:.4f} +-{report['hr20_ci95']:.4f}"
        f"  MRR@20 {report['mrr20']:.4f} +-{report['mrr20_ci95']:.4f}  NDCG@20 {report['ndcg20']:.4f}"
        f"  HR@5 {report['hr5']:.4f}  HR@10 {report['hr10']:.4f}  coverage {report['coverage20']:.3f}"
        f"  popularity {report['popularity_bias20']:.3f}  diversity {report['diversity20']:.3f}"
        f"  us/update {report['update_us']:.1f}  us/query {report['query_us_p50']:.0f}"
    )


def _show(name: str, report: dict[str, Any]) -> None:
    print(_line(name, report), flush=True)
    if (added := report.get("finished_sessions_added")) is not None:
        print(_line("  + finished sessions", added), flush=True)


def options() -> argparse.ArgumentParser:
    """Return the command line of this benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sessions", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with *.tsv.gz")
    parser.add_argument("--protocol", choices=["split", "continual", "prequential"], default="split")
    parser.add_argument("--novel-only", action="store_true", help="predict items new to the session only")
    parser.add_argument("--sessions", type=float, default=1.0, metavar="FRACTION", help="share predicted")
    parser.add_argument("--seed", type=int, default=1, help="of the sessions drawn")
    parser.add_argument("--bucket-hours", type=float, default=24.0, help="prequential: length of a bucket")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write charts here")
    return parser


def main() -> None:
    """Run the models and report."""
    given = options().parse_args()
    warm_up()
    made = plan(given)
    span = f"{made.rest.at_ms.min()}..{made.rest.at_ms.max()} ms"
    print(f"{given.data} {given.protocol}, seed {given.seed}, sessions {given.sessions:g}, predicted {span}")
    reports = {}
    for name in given.models:
        reports[name] = run(made, MODELS[name])
        _show(name, reports[name])
    top = reports.pop(ENGINE, {})
    for name, part in top.get("segments", {}).items():
        print(f"  {name:<16} n {part['n']:>7}  HR@20 {part['hr20']:.4f}  MRR@20 {part['mrr20']:.4f}")
    about = {"data": given.data.name, "protocol": given.protocol, "seed": given.seed, "range_ms": span}
    about |= {"novel_only": given.novel_only, "sessions": given.sessions, "python": platform.python_version()}
    if given.json:
        given.json.write_text(json.dumps({**top, "baselines": reports, "run": about}, indent=1))
    if given.plots:
        bars(given.plots, {ENGINE: top, **reports})


if __name__ == "__main__":
    main()
