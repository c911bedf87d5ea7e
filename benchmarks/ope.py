"""Off-policy estimators beside a published implementation on six real logs, their speed, and peeking.

The logs and what the Open Bandit Pipeline makes of them come from the Open Bandit Dataset sample (CC BY 4.0).
"""

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from bandits.arrays import FloatArray
from bandits.ope import Evaluation, Rounds
from benchmarks._ope_peeking import bernstein, low_overlap, peeking
from benchmarks._ope_stream import measure
from benchmarks._run import console, figures, finish

THEIR_NAMES = {
    "dm": "dm",
    "ips": "ipw",
    "cips": "ipw_clip10",
    "snips": "snipw",
    "dr": "dr",
    "sndr": "sndr",
    "switch": "switch-dr",
    "dros": "dr-os",
}

Row = dict[str, Any]


def read(path: Path) -> Rounds:
    """Return the rounds of one log."""
    with gzip.open(path, "rt") as lines:
        table: FloatArray = np.loadtxt(lines, skiprows=1, delimiter="\t")
    return Rounds(table[:, 0], table[:, 2], table[:, 3], table[:, 4], table[:, 5])


def judge(log: str, rounds: Rounds, golden: Row) -> tuple[list[Row], Row]:
    """Return a row for each estimator, and what the gates say of the log."""
    evaluation = Evaluation()
    evaluation.add(rounds)
    report, estimates = evaluation.report(), evaluation.estimates()
    truth, rows = golden["on_policy_value"], []
    for ours, theirs in THEIR_NAMES.items():
        value, wished = estimates[ours].value, golden["estimates"][theirs]
        rows.append(
            {
                "log": log,
                "estimator": ours,
                "value": value,
                "published": wished,
                "abs_difference": abs(value - wished),
                "rel_difference": abs(value - wished) / abs(wished) if wished else abs(value),
                "error_of_truth": abs(value - truth) / truth,
                "is_shown": ours in report.estimates,
            }
        )
    verdict = {"log": log, "is_decidable": report.is_decidable, "reasons": list(report.reasons)}
    seen = report.diagnostics
    return rows, verdict | {"effective": seen.effective, "largest_weight": seen.largest_weight}


def compare(folder: Path) -> Row:
    """Return the differences on all logs of a folder and which of them are refused."""
    golden, rows, verdicts = json.loads((folder / "estimates.json").read_text()), [], []
    for log, wished in golden.items():
        found, verdict = judge(log, read(folder / f"{log}.tsv.gz"), wished)
        rows += found
        verdicts.append(verdict)
    return {
        "max_abs_difference": max(row["abs_difference"] for row in rows),
        "max_rel_difference": max(row["rel_difference"] for row in rows),
        "refused": [verdict["log"] for verdict in verdicts if not verdict["is_decidable"]],
        "logs": verdicts,
        "estimates": rows,
    }


def table(report: Row) -> Table:
    """Return one line a log: difference, verdict, and each estimate's error of the reward on policy."""
    out = Table("log", "off by", "effective", "verdict", *THEIR_NAMES, title_justify="left")
    out.columns[0].no_wrap = out.columns[3].no_wrap = True
    out.title = "error of the reward on policy by estimator; (withheld)"
    for verdict in report["logs"]:
        rows = [row for row in report["estimates"] if row["log"] == verdict["log"]]
        errors = [f"{row['error_of_truth']:.0%}" for row in rows]
        shown = [text if row["is_shown"] else f"({text})" for text, row in zip(errors, rows, strict=True)]
        worst = f"{max(row['abs_difference'] for row in rows):.1e}"
        says = "decidable" if verdict["is_decidable"] else "refused"
        out.add_row(verdict["log"], worst, f"{verdict['effective']:,.1f}", says, *shown)
    return out


def looks_table(looks: list[Row], given: argparse.Namespace) -> Table:
    """Return one line a kind of interval: false alarms and power of tests looked at 200 times."""
    out = Table("interval", "false alarms, 5 against 5 %", "found, 5 against 6 %", title_justify="left")
    out.title = f"{given.runs:,} runs of {given.per_arm:,} rounds an arm, 200 looks"
    for row in looks:
        out.add_row(row["interval"], f"{row['false_alarms']:.1%}", f"{row['power']:.1%}")
    return out


def options() -> argparse.ArgumentParser:
    """Return the command line of this benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ope", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="logs and estimates.json")
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the synthetic log")
    parser.add_argument("--runs", type=int, default=10_000, help="A/A and A/B runs looked at 200 times")
    parser.add_argument("--per-arm", type=int, default=20_000, help="rounds of each arm of a run")
    parser.add_argument("--logs", type=int, default=1_000, help="synthetic logs with little overlap")
    parser.add_argument("--seed", type=int, default=1, help="of everything synthetic")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here")
    return parser


def main() -> None:
    """Compare, measure and report."""
    given = options().parse_args()
    report = compare(given.data)
    console.print(table(report))
    for verdict in report["logs"]:
        for reason in verdict["reasons"]:
            console.print(f"{verdict['log']} is refused: {reason}")
    stream = measure(given.rows, given.seed)
    names = ("max_abs_difference", "max_rel_difference")
    console.print(figures("differences", {name: f"{report[name]:.2e}" for name in names}))
    console.print(figures("a long log, taken in by chunks", stream))
    looks = [*peeking(given.runs, given.per_arm, given.seed), bernstein(200, given.per_arm, given.seed)]
    overlap = low_overlap(given.logs, given.seed)
    console.print(looks_table(looks, given))
    console.print(figures("logs with little overlap", overlap))
    speed = {"rows_per_s": stream["rows_per_s"], "peak_mb": stream["peak_mb"], "stream": stream}
    finish(given, {**report, **speed, "peeking": looks, "low_overlap": overlap})


if __name__ == "__main__":
    main()
