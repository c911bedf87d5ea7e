"""Previews of another exploration rate against known truths: how far off, how often covered, how fast.

Each of many logs is drawn by the law of the product's slates under one rate; what other rates would earn is
told from it and compared with what they earn. RIPS with coins for weights stands beside.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bandits.exploration import Exploration
from bandits.ope import CoinCell, SlateEvaluation, SlateRounds, forecast
from benchmarks._preview_worlds import CLICKS, Log, PreviewWorld, cell_of
from benchmarks._run import console, figures, finish

RATE = 0.05
WISHED = (0.0, 0.02, 0.1, 0.2)
LAWS = {
    "single_slot": Exploration("epsilon", rate=RATE, mode="single_slot"),
    "every_slot": Exploration("epsilon", rate=RATE),
    "every_slot, softmax": Exploration("softmax", rate=RATE, temperature=0.2),
}
SLOTS = 10
TRUTH_DRAWS = 20_000
LOGS_A_WORLD = 20
LARGE = 0.02
Row = dict[str, Any]


def truth_of(world: PreviewWorld, law: Exploration, rate: float, seed: int) -> float:
    """Return what a rate earns: the mean of expected clicks, so that only draws make it differ."""
    return float(world.expected(world.draw(replace(law, rate=rate), TRUTH_DRAWS, seed)).sum(axis=1).mean())


def rips(world: PreviewWorld, log: Log, seed: int, rate: float) -> tuple[float, float]:
    """Return value and standard error of self-normalised RIPS that weighs slots by their coins."""
    rng = np.random.default_rng((seed, 47))
    rewards = (rng.random(log.slates.shape) < world.expected(log)).astype(np.float64)
    chances = [np.where(log.explored, one, 1.0 - one) for one in (RATE, rate)]
    evaluation = SlateEvaluation(SLOTS)
    evaluation.add(SlateRounds(rewards, *chances))
    told = evaluation.estimates()["snrips"]
    return told.value, told.standard_error


def try_world(name: str, place: int, logs: int, decisions: int, seed: int) -> list[Row]:
    """Return a row for each log and wished rate of one world."""
    law, clicks = LAWS[name], CLICKS[place % len(CLICKS)]
    world = PreviewWorld(seed * 1000 + place, clicks, SLOTS)
    truths = {rate: truth_of(world, law, rate, place) for rate in (RATE, *WISHED)}
    rows = []
    for number in range(logs):
        log = world.draw(law, decisions, seed * 10**6 + place * 1000 + number)
        rewards = world.rewards(log, number)
        cell = cell_of(log, rewards, law)
        for rate in WISHED:
            row = judge(cell, rate, truths) | {"clicks": clicks, "law": name}
            if name == "every_slot" and clicks != "cascade":
                value, error = rips(world, log, number, rate)
                row |= {"rips_error": value / truths[rate] - 1.0, "rips_half": 1.96 * error / truths[rate]}
            rows.append(row)
    return rows


def judge(cell: CoinCell, rate: float, truths: dict[float, float]) -> Row:
    """Return how one forecast compares with the truth."""
    told, value, change = forecast([cell], rate, RATE), truths[rate], truths[rate] - truths[RATE]
    low, high = told.interval()
    change_low, change_high = told.change_interval()
    return {
        "rate": rate,
        "is_refused": bool(told.reasons),
        "error": told.value / value - 1.0,
        "half": (high - low) / 2.0 / value,
        "is_covered": low <= value <= high,
        "change": change / truths[RATE],
        "change_half": (change_high - change_low) / 2.0 / truths[RATE],
        "is_change_covered": change_low <= change <= change_high,
        "is_sign_right": told.change * change > 0,
    }


def summed(rows: list[Row], law: str, rate: float) -> Row:
    """Return coverage and errors of one law and wished rate."""
    mine = [row for row in rows if row["law"] == law and row["rate"] == rate]
    shown = [row for row in mine if not row["is_refused"]]
    large = [row["is_sign_right"] for row in shown if abs(row["change"]) >= LARGE]
    beside = [row for row in shown if "rips_error" in row]
    return {
        "law": law,
        "rate": rate,
        "logs": len(mine),
        "refused": len(mine) - len(shown),
        "rmse": _root([row["error"] for row in shown]),
        "half_width": float(np.mean([row["half"] for row in shown])),
        "coverage": float(np.mean([row["is_covered"] for row in shown])),
        "change_half_width": float(np.mean([row["change_half"] for row in shown])),
        "change_coverage": float(np.mean([row["is_change_covered"] for row in shown])),
        "large_changes": len(large),
        "sign_right": float(np.mean(large)) if large else None,
        "rmse_beside_rips": _root([row["error"] for row in beside]) if beside else None,
        "rips_rmse": _root([row["rips_error"] for row in beside]) if beside else None,
    }


def _root(errors: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))


def speed(seed: int) -> Row:
    """Return how long a preview of ten million decisions takes: a week of hours, each with four segments."""
    rng, cells, decisions = np.random.default_rng(seed), [], 10_000_000
    for _ in range(168 * 4):
        counts = rng.multinomial(decisions // (168 * 4), _chances()).astype(np.float64)
        sums = rng.binomial(counts.astype(np.int64), 0.3).astype(np.float64)
        cells.append(CoinCell(RATE, False, counts, sums, sums))
    started = time.perf_counter()
    told = forecast(cells, 0.1, RATE)
    return {"decisions": told.slates, "forecast_ms": (time.perf_counter() - started) * 1000.0}


def _chances() -> list[float]:
    cell = CoinCell(RATE, False, *(np.zeros(SLOTS + 1),) * 3)
    chances = cell.chances(RATE)
    return list(chances / chances.sum())


def table(sums: list[Row]) -> Table:
    """Return one line a law and wished rate."""
    out = Table(
        "law", "rate", "logs", "refused", "rmse", "half width", "coverage", "change: half width", "coverage",
        "sign", "rmse of SNRIPS (same logs)", title=f"logged at {RATE:g}; relative to the value",
        title_justify="left",
    )  # fmt: skip
    for row in sums:
        sign = "" if row["sign_right"] is None else f"{row['sign_right']:.1%}"
        beside = "" if row["rips_rmse"] is None else f"{row['rips_rmse']:.2%} ({row['rmse_beside_rips']:.2%})"
        out.add_row(
            row["law"], f"{row['rate']:g}", str(row["logs"]), str(row["refused"]), f"{row['rmse']:.2%}",
            f"{row['half_width']:.2%}", f"{row['coverage']:.1%}", f"{row['change_half_width']:.2%}",
            f"{row['change_coverage']:.1%}", sign, beside,
        )  # fmt: skip
    return out


def options() -> argparse.ArgumentParser:
    """Return the command line of this benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preview", description=__doc__)
    parser.add_argument("--simulations", type=int, default=300, help="logs of each law")
    parser.add_argument("--decisions", type=int, default=20_000, help="in each log")
    parser.add_argument("--laws", nargs="+", choices=list(LAWS), default=list(LAWS))
    parser.add_argument("--seed", type=int, default=1, help="of worlds and draws")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here")
    return parser


def main() -> None:
    """Simulate, compare and report."""
    given = options().parse_args()
    rows: list[Row] = []
    for name in given.laws:
        for place in range(-(-given.simulations // LOGS_A_WORLD)):
            logs = min(LOGS_A_WORLD, given.simulations - place * LOGS_A_WORLD)
            rows += try_world(name, place, logs, given.decisions, given.seed)
    sums = [summed(rows, law, rate) for law in given.laws for rate in WISHED]
    Console(width=150).print(table(sums))
    took = speed(given.seed)
    console.print(figures("a preview of a week", took))
    by_law = {law: [row for row in sums if row["law"] == law] for law in given.laws}
    coverage = {law: min(row["coverage"] for row in some) for law, some in by_law.items()}
    finish(given, {"least_coverage": coverage, "sums": sums, "speed": took, "rows": rows})


if __name__ == "__main__":
    main()
