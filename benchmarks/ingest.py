"""Promise 3: how many source events a second a worker folds, beside a Faust agent that does nothing.

``python -m benchmarks.ingest --json ingest.json``. All learning is on. Everything is published first; then
workers claim their shards at the same moment. A run ends when every source event is folded, lag is 0, every
window has closed and every outcome has been learnt. Throughput = source events after the first commits seen /
time from those to the end. Only the mix counts as source events; the profile upserts that move event time on
do not. The floor reads the same topics after each run, and its best figure counts.
"""

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.table import Table

from benchmarks import _run
from benchmarks._counts import read_counts, verdict, watch
from benchmarks._fold_profile import fold_profile
from benchmarks._latency import bucket_quantile
from benchmarks._live import calls, load_live, logged
from benchmarks._mix import KINDS, Mix, Sent, Truth, size, spread
from benchmarks._publish import publish_all, publish_steadily
from benchmarks._store import subject_states, write_shop
from benchmarks._synthetic import Shop
from benchmarks._workers import held_workers
from benchmarks.ingest_floor import run_bundled_noop, run_plain_noop
from headwater.processes import free_port
from state.clients import redis_client
from state.events import Decision
from state.settings import Settings
from state.topics import topic_name

SPAN_MS = 6_000_000
CLOSED_AFTER_MS = 1_300_000
TEMPLATES = 400


async def make_templates(settings: Settings, items: int, seed: int) -> list[Decision]:
    """Return decisions as a server logs them, of a shop in a namespace of its own."""
    apart = msgspec.structs.replace(settings, namespace=f"{settings.namespace}-shop")
    shop = Shop(items, 2 * items, time.time_ns() // 1_000_000, seed)
    await write_shop(apart, shop)
    live = await load_live(apart)
    records = [pair for held in subject_states(apart, shop).values() for pair in visitors(held.values)]
    return [logged(live, call) for call in calls(apart, records, shop.now_ms, TEMPLATES)]


def visitors(values: dict[str, bytes]) -> list[tuple[str, bytes]]:
    """Return the visitors of a shard with their records."""
    return list(values.items())


def source_events(settings: Settings, templates: Sequence[Decision], events: int) -> tuple[list[Sent], Truth]:
    """Return the records of a run, and what must have been counted at its end."""
    mix = Mix(settings, templates, max(100, events // 10))
    end = time.time_ns() // 1_000_000
    begin = end - SPAN_MS - CLOSED_AFTER_MS
    records = [*spread(mix, events, (begin, begin + SPAN_MS)), *mix.last_words(end)]
    return records, mix.truth


async def fold_run(settings: Settings, records: list[Sent], truth: Truth, workers: int) -> dict[str, Any]:
    """Publish, let workers fold, and return throughput and counts."""
    redis = redis_client(settings, timeout_s=30.0)
    await _run.prepare(settings)
    took = await publish_all(settings, records)
    try:
        async with held_workers(redis, settings, workers) as processes:
            used = [_run.cpu_seconds(p.pid) for p in processes]
            seen = await watch(redis, settings, truth, timeout_s=120.0 + truth.total / 500)
            cpu = sum(_run.cpu_seconds(p.pid) - u for p, u in zip(processes, used, strict=True))
        counted = await read_counts(redis, settings)
    finally:
        await redis.aclose()
    lasted = max(1e-9, seen.complete_s - seen.first_s)
    return {
        "workers": workers,
        "events_per_s": round((truth.total - seen.before) / lasted, 1) if seen.complete_s else 0.0,
        "seconds": round(lasted, 3),
        "all_folded_after_s": round(seen.folded_s - seen.first_s, 3),
        "before_first_look": seen.before,
        "worker_cpu_us_per_event": round(1e6 * cpu / truth.total, 1),
        "published_per_s": round(len(records) / took, 1),
        **verdict(counted, truth, dict(Counter((r.kind, r.partition) for r in records))),
    }


def floor(settings: Settings, events: int) -> dict[str, float]:
    """Return events a second, over the same topics, of a plain no-op agent and of our idle engine."""
    topics = [topic_name(settings.namespace, kind) for kind in KINDS]
    return {
        "plain": run_plain_noop(settings.kafka, topics, events),
        "bundled": run_bundled_noop(settings.kafka, topics, events),
    }


async def commit_age(
    settings: Settings, templates: Sequence[Decision], rate: float, seconds: float
) -> dict[str, float]:
    """Return the age of events at their commit, ms, at a steady rate, windows closing all the time."""
    settings = msgspec.structs.replace(
        settings, namespace=f"{settings.namespace}-age", metrics_port=free_port(),
        attribution_window_s=2.0, lateness_s=5.0, decision_wait_s=2.0, fetch_wait_ms=5,
    )  # fmt: skip
    await _run.prepare(settings)
    redis, page = redis_client(settings, timeout_s=30.0), f"http://127.0.0.1:{settings.metrics_port}/metrics"
    mix = Mix(settings, templates, 2_000)
    try:
        async with held_workers(redis, settings, 1):
            await publish_steadily(settings, mix, rate, 3.0)
            before = await asyncio.to_thread(_run.scrape, page)
            await publish_steadily(settings, mix, rate, seconds)
            after = await asyncio.to_thread(_run.scrape, page)
            await watch(redis, settings, mix.truth, 30.0)
            counts = verdict(await read_counts(redis, settings), mix.truth, {})
    finally:
        await redis.aclose()
    name = "headwater_commit_age_seconds"
    ages = {f"p{q}_ms": round(1000 * bucket_quantile(before, after, name, q / 100), 1) for q in (50, 99)}
    return {"rate": rate, **ages, "lost": counts["lost"], "doubled": counts["doubled"]}


async def measure(given: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Run everything and return the report."""
    templates = await make_templates(settings, given.items, given.seed)
    records, truth = source_events(settings, templates, given.events)
    _run.console.print(f"{truth.total} source events, {size(records) / 1e6:.0f} MB, {given.items} items")
    runs, floors = [], []
    for number, workers in enumerate(given.workers):
        ours = msgspec.structs.replace(settings, namespace=f"{settings.namespace}-{number}")
        runs.append(await fold_run(ours, records, truth, workers))
        _run.console.print(runs[-1])
        floors.append(await asyncio.to_thread(floor, ours, truth.total))
    plain, bundled = (max(f[kind] for f in floors) for kind in ("plain", "bundled"))
    report: dict[str, Any] = {
        "events": truth.total, "bytes_per_event": size(records) // truth.total, "runs": runs,
        "events_per_s": runs[0]["events_per_s"], "floor_per_s": plain, "bundled_noop_per_s": bundled,
        "ratio": round(runs[0]["events_per_s"] / plain, 3),
        "ratios": {str(run["workers"]): round(run["events_per_s"] / plain, 3) for run in runs},
        "lost": sum(run["lost"] for run in runs), "doubled": sum(run["doubled"] for run in runs),
    }  # fmt: skip
    if not given.no_profile:
        timer = time.thread_time if given.cpu_clock else time.perf_counter
        found = [await fold_profile(settings, records[: given.profiled], n, timer=timer) for n in (500, 10)]
        report["profile"], report["profile_small_batches"] = found
    if given.seconds > 0:
        rate = given.rate or max(100.0, runs[0]["events_per_s"] / 2)
        report["age"] = await commit_age(settings, templates, rate, given.seconds)
    return report


def tables(report: dict[str, Any]) -> list[Table]:
    """Return what is printed."""
    runs = Table("workers", "events/s", "x floor", "CPU us/event", "lost", "doubled", "late", "lag")
    for run in report["runs"]:
        ratio = report["ratios"][str(run["workers"])]
        cells = [run["workers"], run["events_per_s"], ratio, run["worker_cpu_us_per_event"]]
        runs.add_row(*map(str, [*cells, run["lost"], run["doubled"], run["late"], run["lag"]]))
    runs.caption = (
        f"floor {report['floor_per_s']:,.0f}/s; our engine, no-op {report['bundled_noop_per_s']:,.0f}/s"
    )
    shown = [runs]
    if "profile" in report:
        shown.append(profile_table(report["profile"], report["profile_small_batches"]))
    if "age" in report:
        shown.append(_run.figures("age of the oldest event of a batch at its commit", report["age"]))
    return shown


def profile_table(large: dict[str, Any], small: dict[str, Any]) -> Table:
    """Return the time of each stage with full and with small batches."""
    table = Table("stage", "500 rows a commit", "10 rows a commit", title="us per source event")
    for stage in sorted(large["us_per_event"], key=lambda name: -float(large["us_per_event"][name])):
        table.add_row(stage, *(str(found["us_per_event"].get(stage, 0.0)) for found in (large, small)))
    return table


def main() -> None:
    """Measure and print."""
    parser = _run.options(__doc__, seconds=10.0, rate=0.0)
    parser.add_argument("--events", type=int, default=20_000, help="source events, a multiple of 10")
    parser.add_argument("--items", type=int, default=10_000, help="catalogue behind the decisions")
    parser.add_argument("--workers", type=int, nargs="+", default=[1], help="worker processes, one run each")
    parser.add_argument("--profiled", type=int, default=10_000, help="source events the profile takes")
    parser.add_argument("--cpu-clock", action="store_true", help="profile by thread time: on a busy machine")
    parser.add_argument("--no-profile", action="store_true", help="leave the in-process profile out")
    given = parser.parse_args()
    with _run.bench_settings(given, session_timeout_s=6.0) as settings:
        report = asyncio.run(measure(given, settings))
    for table in tables(report):
        _run.console.print(table)
    _run.finish(given, report)


if __name__ == "__main__":
    main()
