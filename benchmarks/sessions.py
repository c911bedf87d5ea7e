"""How well the next click of a session is predicted, by the classes that serve, beside plain baselines.

Protocols: `split` (train.tsv.gz, then test.tsv.gz: with the trained models as they are, and once more with
each test session added when it has ended), `continual` (a stream in periods, known items only, mean over
the periods: with every earlier click known, and with earlier periods alone) and `prequential` (every click:
predict, score, learn). Sessions of a share can be drawn to save time: all clicks are still learnt. HR, MRR
and NDCG judge the next click, Recall and MAP all that follow in the session. The main figures are of lists
that may repeat items of the session; those of novel items, judged by novel clicks, are under `novel_only`.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._sessions_rivals import HOUR_MS, NotCurrent, Novel, Popular, SequentialRules, SessionPopular
from benchmarks._sessions_vsknn import VSknn, warm_up_loops
from headwater.evaluation import clicks as logs
from headwater.evaluation import protocols
from headwater.evaluation.diversity import Unlikeness
from headwater.evaluation.engine import Engine
from headwater.evaluation.report import Reporter
from headwater.evaluation.trial import Model, Trial
from headwater.evaluation.tuned import of_server, read_tuned
from online_models.arrays import IntArray
from online_models.retrieval import warm_up
from state.settings import load_settings

BASELINES: dict[str, Callable[[], Model]] = {
    "pop": Popular,
    "pop_last_hour": lambda: Popular(HOUR_MS),
    "s_pop": SessionPopular,
    "sr": SequentialRules,
    "v_sknn": VSknn,
    "v_sknn_not_current": lambda: NotCurrent(VSknn()),
}
SECOND = {"split": "finished_sessions_added", "continual": "earlier_periods_only", "prequential": ""}


@dataclass(frozen=True)
class Plan:
    """What is run on which clicks."""

    protocol: str
    log: logs.Log
    period: IntArray
    wanted: protocols.Wanted
    novel_only: bool
    bucket_ms: int
    reporter: Reporter = field(init=False)

    def __post_init__(self) -> None:
        every = logs.joined([self.log.train, self.log.rest])
        parts = {"continual": "period", "prequential": "bucket", "split": ""}[self.protocol]
        made = Reporter(self.log.popularity, Unlikeness(every, self.log.categories), parts)
        object.__setattr__(self, "reporter", made)


def plan(given: argparse.Namespace) -> Plan:
    """Read the data a protocol needs."""
    log = logs.read_split(given.data) if given.protocol == "split" else logs.read_stream(given.data)
    if not len(log.rest):
        raise logs.ClickLogError(f"{given.data} has no clicks to predict; wished: sessions of two or more")
    period = np.zeros(0, np.int64)
    if given.protocol == "continual":
        period = logs.read_periods(given.data, log.rest)
    wanted = protocols.drawn(log.rest.sessions, given.sessions, given.seed)
    return Plan(given.protocol, log, period, wanted, given.novel_only, int(given.bucket_hours * HOUR_MS))


def run(made: Plan, model: Model) -> dict[str, Any]:
    """Run one model through the plan."""
    known = np.zeros(len(made.log.popularity), np.int64)
    trials = [Trial(model, known, with_repeats=not made.novel_only) for _ in range(2)]
    first, second = trials
    if made.protocol == "prequential":
        protocols.run_prequential(first, made.log.rest, made.wanted, made.bucket_ms)
    elif made.protocol == "continual":
        protocols.run_continual((first, second), made.log.rest, made.period, made.wanted)
    else:
        first.learn_sessions(made.log.train)
        protocols.run_split(first, made.log.rest, made.wanted, add_finished=False)
        protocols.run_split(second, made.log.rest, made.wanted, add_finished=True)
    report, again = (made.reporter.report(trial, novel_only=made.novel_only) for trial in trials)
    return report | ({SECOND[made.protocol]: again} if again["n"] else {})


def _line(name: str, report: dict[str, Any]) -> str:
    return (
        f"{name:<24} n {report['n']:>7}  HR@20 {report['hr20']:.4f} +-{report['hr20_ci95']:.4f}"
        f"  MRR@20 {report['mrr20']:.4f} +-{report['mrr20_ci95']:.4f}  NDCG@20 {report['ndcg20']:.4f}"
        f"  MAP@20 {report['map20']:.4f}  Recall@20 {report['recall20']:.4f}  HR@5 {report['hr5']:.4f}"
        f"  HR@10 {report['hr10']:.4f}  coverage {report['coverage20']:.3f}"
        f"  popularity {report['popularity_bias20']:.3f}  diversity {report['diversity20']:.3f}"
    )


def _show(name: str, report: dict[str, Any]) -> None:
    if not report["n"]:
        print(f"{name:<24} n       0: nothing to predict", flush=True)
        return
    print(_line(name, report), flush=True)
    if (novel := report.get("novel_only", {})).get("n"):
        print(_line("  novel only", novel), flush=True)
    for other in filter(None, SECOND.values()):
        if other in report:
            print(_line(f"  {other}", report[other]), flush=True)
            if report[other].get("novel_only", {}).get("n"):
                print(_line("    novel only", report[other]["novel_only"]), flush=True)
    if "update_us" in report:
        update, query = (
            " / ".join(f"{report[f'{what}_us{part}']:.1f}" for part in ("", "_p50", "_p99"))
            for what in ("update", "query")
        )
        print(f"{'  us, mean / p50 / p99':<24} update {update}   query {query}", flush=True)


def _show_segments(report: dict[str, Any]) -> None:
    for name, part in report.get("segments", {}).items():
        print(
            f"  {name:<14} n {part['n']:>7}  HR@20 {part['hr20']:.4f} +-{part['hr20_ci95']:.4f}"
            f"  MRR@20 {part['mrr20']:.4f} +-{part['mrr20_ci95']:.4f}"
        )


def options() -> argparse.ArgumentParser:
    """Return the command line of this benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sessions", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with *.tsv.gz")
    parser.add_argument("--protocol", choices=list(SECOND), default="split")
    parser.add_argument(
        "--novel-only", action="store_true", help="judge lists and clicks of novel items only"
    )
    parser.add_argument("--sessions", type=_share, default=1.0, metavar="FRACTION", help="share predicted")
    parser.add_argument("--seed", type=int, default=1, help="of the sessions drawn")
    parser.add_argument("--bucket-hours", type=float, default=24.0, help="prequential: length of a bucket")
    parser.add_argument(
        "--as-served", action="store_true", help="also run the settings a server in this environment has"
    )
    parser.add_argument("--tuned", type=Path, metavar="FILE", help="also run settings `headwater tune` wrote")
    parser.add_argument(
        "--baselines", nargs="*", choices=list(BASELINES), default=list(BASELINES), help="all where not given"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write charts here as PNG")
    return parser


def _share(text: str) -> float:
    share = float(text)
    if not 0.0 < share <= 1.0:
        raise argparse.ArgumentTypeError(f"{text} is no share; wished: above 0, at most 1")
    return share


def about(given: argparse.Namespace, made: Plan) -> dict[str, Any]:
    """Return what a report has to say of its run."""
    times = made.log.rest.at_ms
    first, last = int(times.min()), int(times.max())
    told = {"data": made.log.name, "protocol": given.protocol, "seed": given.seed, "sessions": given.sessions}
    told |= {"novel_only": given.novel_only, "range_ms": [first, last], "range": _told_range(first, last)}
    return told | {"clicks_learnt_first": len(made.log.train), "clicks": len(made.log.rest)} | {
        "items": int(np.count_nonzero(made.log.popularity)), "python": platform.python_version()
    }  # fmt: skip


def _told_range(first: int, last: int) -> str:
    if first < logs.UNIX_MS:
        return f"order only, {first // 1000} to {last // 1000}"
    dates = (f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M:%S}" for at in (first, last))
    return " to ".join(dates) + " UTC"


def main() -> None:
    """Run the models and report."""
    given = options().parse_args()
    try:
        others = {"tuned": read_tuned(given.tuned)} if given.tuned else {}
        if given.as_served:
            others["served"] = of_server(load_settings(os.environ))
        made = plan(given)
    except (logs.ClickLogError, ValueError) as error:
        sys.exit(str(error))
    warm_up()
    warm_up_loops()
    told = about(given, made)
    print(
        f"{told['data']}, {told['protocol']}, seed {told['seed']}, share of sessions predicted"
        f" {told['sessions']:g}, predicted range: {told['range']}; intervals: 95 %, sessions as clusters"
    )
    top = run(made, Engine())
    _show("engine", top)
    report = {**top, "baselines": {}, "run": told}
    for name, settings in others.items():
        report[name] = run(made, Engine(settings))
        _show(f"engine, {name}", report[name])
    for name in given.baselines:
        report["baselines"][name] = run(made, Novel(BASELINES[name]()))
        _show(name, report["baselines"][name])
    _show_segments(top)
    if given.json:
        given.json.write_text(json.dumps(report, indent=1))
    if given.plots and top["n"]:
        from benchmarks._sessions_plot import draw  # noqa: PLC0415 - only charts need a plotting library

        draw(given.plots, report)


if __name__ == "__main__":
    main()
