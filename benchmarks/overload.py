"""What becomes of accepted requests when more arrive than a server can answer, with and without shedding.

``python -m benchmarks.overload --json FILE``. An open-loop load over many connections at shares of
the capacity found first; latency counts from the intended start, and of answers with 200 alone. Beside, in
the same run, the same server without any bound (`benchmarks/_unbounded.py`).
"""

import argparse
import asyncio
import os
import time
from typing import Any

from rich.table import Table

from benchmarks import _run
from benchmarks._store import write_shop
from benchmarks._synthetic import Shop
from benchmarks.serving import Request, recommendations, send
from state.settings import Settings

VARIANTS = {"shedding": "benchmarks._server", "letting all in": "benchmarks._unbounded"}


def at(settings: Settings, requests: list[Request], rate: float, given: argparse.Namespace) -> dict[str, Any]:
    """Measure one rate, from a process of its own: pauses of this one would be taken for the server's."""
    measured = send(settings.port, requests, rate, given.seconds, given.connections)
    _run.console.print(
        f"  {rate:7.0f}/s  answered {measured['achieved_rps']:7.0f}/s  refused {measured['errors']:6}"
        f"  p50 {measured.get('p50_ms', 0):8.2f}  p99 {measured.get('p99_ms', 0):9.2f} ms"
    )
    return measured


def measure(given: argparse.Namespace, settings: Settings, shop: Shop) -> dict[str, Any]:
    """Measure both servers at all shares of the first one's capacity."""
    one, _ = _run.split_cores()
    requests, report = recommendations(shop), dict[str, Any]()
    for name, module in VARIANTS.items():
        with _run.module_child(module, settings) as process:
            os.sched_setaffinity(process.pid, one)
            _run.wait_ready(f"http://127.0.0.1:{settings.port}", shop.items)
            _run.console.print(name)
            at(settings, requests, 200.0, given)
            few = argparse.Namespace(seconds=given.seconds, connections=16)
            capacity = report.get("capacity_rps") or at(settings, requests, 10_000.0, few)["achieved_rps"]
            report["capacity_rps"] = capacity
            report[name] = {share: at(settings, requests, share * capacity, given) for share in given.shares}
    return report


def table(report: dict[str, Any]) -> Table:
    """Return what is printed."""
    shown = Table(title=f"Capacity {report['capacity_rps']:.0f} requests/s")
    for column in ("server", "load", "answered/s", "refused", "p50 ms", "p99 ms"):
        shown.add_column(column, justify="right")
    for name in VARIANTS:
        for share, one in report[name].items():
            figures = (one["achieved_rps"], one["errors"], one.get("p50_ms", 0), one.get("p99_ms", 0))
            shown.add_row(name, f"{share:g}x", *(f"{figure:,.1f}" for figure in figures))
    return shown


def main() -> None:
    """Measure and print."""
    parser = _run.options(__doc__, seconds=5.0, rate=0.0)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--sessions", type=int, default=20_000, help="in the index; as many visitors")
    parser.add_argument("--connections", type=int, default=800)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.7, 1.5, 3.0], help="of the capacity")
    given = parser.parse_args()
    _, others = _run.split_cores()
    os.sched_setaffinity(0, others)
    with _run.bench_settings(given, max_sessions=given.sessions, drain_s=0.0) as settings:
        shop = Shop(given.items, given.sessions, time.time_ns() // 1_000_000, given.seed)
        asyncio.run(_run.prepare(settings))
        asyncio.run(write_shop(settings, shop))
        report = measure(given, settings, shop)
    _run.console.print(table(report))
    _run.finish(given, report)


if __name__ == "__main__":
    main()
