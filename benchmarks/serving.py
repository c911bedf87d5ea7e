"""Promise 2: the full decision path on one server core, under an open-loop load from the other core.

``python -m benchmarks.serving --json serving.json --rate 500 1000``. One server process, pinned to the first
core, serves 50,000 items, 100,000 sessions (Zipf(1), mean length 5) and as many known visitors, and logs each
decision to a real broker; load generator, broker and store share the other cores. Latency counts from the
intended start of a request. Capacity is the highest rate found at which p99 stays within 10 ms. The floor is
a route of the same server that does only the same store read; a bare route bounds the load generator.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.table import Table

from benchmarks import _run
from benchmarks._decide_profile import decide_profile
from benchmarks._server import BARE_PATH, READ_PATH
from benchmarks._store import SURFACE, write_shop
from benchmarks._synthetic import Shop, user_id
from state.settings import Settings

P99_MS = 10.0
KEPT_UP = 0.99
STEPS = 7
FIRST_RATE = 400.0
SENDERS = 20_000
CONNECTIONS = 64
Request = tuple[str, str, str]
Measure = Callable[[float], Mapping[str, Any]]


def recommendations(shop: Shop) -> list[Request]:
    """Return requests of known visitors, all equally likely."""
    rng, requests = random.Random(shop.seed), []
    for _ in range(SENDERS):
        user = user_id(rng.randrange(shop.sessions))
        body = {"user_id": user, "session_id": f"session-{user}", "surface": SURFACE, "k": 10}
        requests.append(("POST", "/v1/recommendations", json.dumps(body)))
    return requests


def reads(shop: Shop) -> list[Request]:
    """Return requests of the floor: the same visitors' records."""
    rng = random.Random(shop.seed)
    return [("GET", READ_PATH + user_id(rng.randrange(shop.sessions)), "") for _ in range(SENDERS)]


def send(
    port: int, requests: list[Request], rate: float, seconds: float, connections: int = CONNECTIONS
) -> dict[str, Any]:
    """Run the load generator in a process of its own; returns what it measured."""
    command = [
        sys.executable,
        "-m",
        "benchmarks._load",
        "--port",
        str(port),
        "--connections",
        str(connections),
    ]
    done = subprocess.run(
        [*command, "--rate", str(rate), "--seconds", str(seconds)],
        input=json.dumps(requests), capture_output=True, check=True, text=True, timeout=seconds + 60,
    )  # fmt: skip
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def sustains(measured: Mapping[str, Any], p99_ms: float = P99_MS) -> bool:
    """Return whether a rate was kept up, every answer good, p99 within bounds."""
    kept = measured["achieved_rps"] >= KEPT_UP * measured["rate"] and not measured["errors"]
    return bool(kept and measured["p99_ms"] <= p99_ms)


def highest(measure: Measure, first: float = FIRST_RATE, steps: int = STEPS) -> tuple[float, list[Any]]:
    """Return the highest rate found that is sustained, and every trial: doubling, then bisection."""
    trials: list[Any] = []
    good, bad, rate = 0.0, 0.0, first
    for _ in range(steps):
        trials.append(measure(rate))
        if not sustains(trials[-1]) and rate <= trials[-1]["achieved_rps"] / KEPT_UP:
            trials.append(measure(rate))  # only the tail was long: once more, it may have been a neighbour
        if sustains(trials[-1]):
            good = rate
        else:
            bad = rate
        rate = 2 * good if not bad else (good + bad) / 2
        if bad and bad - good < 0.03 * bad:
            break
    return good, trials


def stages(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return microseconds a request by stage, from the server's own metrics."""
    name, found = "headwater_stage_seconds", {}
    for key, total in after.items():
        if key.startswith(f"{name}_sum"):
            count = key.replace("_sum", "_count", 1)
            grown = after[count] - before.get(count, 0.0)
            if grown:
                found[key.split('"')[1]] = round(1e6 * (total - before.get(key, 0.0)) / grown, 1)
    return found


class Bench:
    """Measures one running server.

    Parameters
    ----------
    settings
        Of the server.
    pid
        Its process.
    seconds
        Length of one measurement.
    """

    def __init__(self, settings: Settings, pid: int, seconds: float) -> None:
        self._port, self._pid, self.seconds = settings.port, pid, seconds
        self._metrics = f"http://127.0.0.1:{settings.port}/metrics"

    def at(self, requests: list[Request], rate: float, seconds: float | None = None) -> dict[str, Any]:
        """Measure one rate: latencies, the server's processor time and stages, and the answers' rungs."""
        before, cpu = _run.scrape(self._metrics), _run.cpu_seconds(self._pid)
        measured = send(self._port, requests, rate, seconds or self.seconds)
        cpu, after = _run.cpu_seconds(self._pid) - cpu, _run.scrape(self._metrics)
        answered = max(1, measured["answered"])
        measured["server_cpu_us"] = round(1e6 * cpu / answered, 1)
        if "headwater_answers" in "".join(after):
            measured["stages_us"] = stages(before, after)
            measured["rungs"] = rungs(before, after)
        _run.console.print(
            f"  {requests[0][1][:24]:24} {rate:7.0f}/s  achieved {measured['achieved_rps']:7.0f}"
            f"  p50 {measured.get('p50_ms', 0):7.2f}  p99 {measured.get('p99_ms', 0):8.2f} ms"
            f"  CPU {measured['server_cpu_us']:6.0f} us  errors {measured['errors']}"
        )
        return measured

    def capacity(self, requests: list[Request], first: float = FIRST_RATE) -> tuple[float, list[Any]]:
        """Return the highest sustained rate and the trials."""
        return highest(lambda rate: self.at(requests, rate), first)


def rungs(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, int]:
    """Return how many answers came from each rung of the ladder."""
    start, found = "headwater_answers_total{", dict[str, int]()
    for key, total in after.items():
        grown = int(total - before.get(key, 0.0))
        if key.startswith(start) and grown:
            rung = key.split('rung="')[1].split('"')[0]
            found[rung] = found.get(rung, 0) + grown
    return found


def measure(given: argparse.Namespace, settings: Settings, shop: Shop) -> dict[str, Any]:
    """Start the server, measure it and its floor, and return the report."""
    one, others = _run.split_cores()
    with _run.module_child("benchmarks._server", settings) as process:
        os.sched_setaffinity(process.pid, one)
        started = time.perf_counter()
        _run.wait_ready(f"http://127.0.0.1:{settings.port}", shop.items)
        loaded = time.perf_counter() - started
        bench, asked = Bench(settings, process.pid, given.seconds), recommendations(shop)
        bench.at(asked, min(given.rate), 3.0)
        report: dict[str, Any] = {
            "load_s": round(loaded, 1),
            "rates": [bench.at(asked, r) for r in given.rate],
        }
        capacity, report["trials"] = bench.capacity(asked)
        steady = bench.at(asked, max(50.0, 0.7 * capacity), 2 * given.seconds)
        floor, report["floor_trials"] = bench.capacity(reads(shop), 2 * FIRST_RATE)
        bare, report["bare_trials"] = bench.capacity([("GET", BARE_PATH, "")] * 10, 4 * FIRST_RATE)
    best = max((t for t in report["trials"] if sustains(t)), key=lambda t: t["rate"], default=steady)
    report |= {
        "p99_ms": best["p99_ms"], "achieved_rps": best["achieved_rps"], "capacity_rps": capacity,
        "p99_ms_at_70": steady["p99_ms"], "at_70": steady, "floor_rps": floor, "bare_rps": bare,
        "ratio": round(capacity / floor, 3) if floor else 0.0, "cores": [sorted(one), sorted(others)],
    }  # fmt: skip
    return report


def table(report: dict[str, Any]) -> Table:
    """Return what is printed."""
    steady = report["at_70"]
    rows = {name: report[name] for name in ("capacity_rps", "floor_rps", "bare_rps", "ratio")}
    rows |= {f"at 70 %: {name}": steady[name] for name in steady if name not in ("stages_us", "rungs")}
    rows |= {f"stage {name}, us": value for name, value in steady.get("stages_us", {}).items()}
    return _run.figures("full decision path", rows)


def top_table(top: list[dict[str, Any]]) -> Table:
    """Return the functions that take most time, under a profiler that slows small ones."""
    table = Table("function", "calls", "own us", "cumulative us", title="functions, a request")
    for row in top:
        table.add_row(*map(str, row.values()))
    return table


def main() -> None:
    """Measure and print."""
    parser = _run.options(__doc__, seconds=6.0, rate=[500.0])
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--sessions", type=int, default=100_000, help="in the index; as many visitors")
    parser.add_argument("--cpu-clock", action="store_true", help="profile by thread time: on a busy machine")
    parser.add_argument("--no-profile", action="store_true", help="leave the in-process profile out")
    given = parser.parse_args()
    _, others = _run.split_cores()
    os.sched_setaffinity(0, others)  # and so broker, store and load generator
    with _run.bench_settings(given, max_sessions=given.sessions) as settings:
        shop = Shop(given.items, given.sessions, time.time_ns() // 1_000_000, given.seed)
        started = time.perf_counter()
        asyncio.run(_run.prepare(settings))
        asyncio.run(write_shop(settings, shop))
        _run.console.print(
            f"{given.items} items, {given.sessions} visitors: {time.perf_counter() - started:.0f} s"
        )
        report = measure(given, settings, shop)
        if not given.no_profile:
            timer = time.thread_time if given.cpu_clock else time.perf_counter
            report["profile"] = asyncio.run(decide_profile(settings, shop, timer))
    _run.console.print(table(report))
    if "profile" in report:
        _run.console.print(_run.figures("decide() in-process, us", report["profile"]["us_per_request"]))
        _run.console.print(top_table(report["profile"]["top"]))
    _run.finish(given, report)


if __name__ == "__main__":
    main()
