"""Promises 2 and 13 for an hour: at half load memory and latency stay flat.

``python -m benchmarks.soak --minutes 60 --json soak.json``. A worker and a server on Apache Kafka (its jars
come from Maven; ``--kafka embedded`` or HOST:PORT takes another) answer half of what they can:
visitors ask, are shown, and click, the catalogue changes, and windows close all the time. Every few seconds
the memory of worker, server and store and the latencies since are noted. Told are slopes an hour with 95 %
intervals, by least squares on the means of 24 equal stretches after a third for warming up. Exit code 1
where an answer was no answer.
"""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import msgspec
import numpy as np
from rich.table import Table

from benchmarks import _run
from benchmarks._slope import Slope, slope
from headwater.embedded import EmbeddedRuntime
from headwater.logs import configure_logs
from serving.requests import RecommendationAnswer
from state.clients import redis_client
from state.settings import Settings
from tests.integration.rig import Processes, Rig, click_on, engine_settings, impression_of, make_items
from tests.kafka.cluster import KafkaCluster

GENRES = ("drama", "comedy", "crime", "jazz", "western")
EACH = 400
VISITORS = 20_000
SAMPLE_S = 5.0
CAPACITY_S = 10.0
AT_ONCE = 200
CLICK_SHARE = 0.15
DECISIONS_KEPT_S = 300.0
"""Less than the warm-up of an hour: a store that still fills up would not be flat."""
_answers = msgspec.json.Decoder(RecommendationAnswer)


class Visits:
    """Visits at a steady rate: ask, show, and sometimes click.

    Parameters
    ----------
    rig
        The engine.
    seed
        Of what visitors do.
    """

    def __init__(self, rig: Rig, seed: int) -> None:
        self._rig, self._random = rig, random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self.latencies: list[float] = []
        self.answers = self.failures = self.skipped = self.clicks = 0

    async def run(self, rate: float, seconds: float) -> None:
        """Visit for a time; latency counts from when a visit was due."""
        started, number = time.monotonic(), 0
        while (due := started + number / rate) < started + seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            number += 1
            if len(self._tasks) >= AT_ONCE:
                self.skipped += 1  # the load must not grow without bound where answers do not come
                continue
            task = asyncio.create_task(self._visit(due))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await asyncio.gather(*self._tasks)

    async def _visit(self, due: float) -> None:
        user = f"visitor-{int(VISITORS * self._random.random() ** 2)}"
        body = {"session_id": f"{user}-session", "user_id": user, "k": 10}
        try:
            async with self._rig.http.post(f"{self._rig.api}/v1/recommendations", json=body) as response:
                raw = await response.read()
                response.raise_for_status()
        except (aiohttp.ClientError, TimeoutError, OSError):
            self.failures += 1
            return
        self.latencies.append(time.monotonic() - due)
        self.answers += 1
        answer = _answers.decode(raw)
        if not answer.items:
            self.failures += 1
            return
        await self._rig.publish(impression_of(user, answer))
        if self._random.random() < CLICK_SHARE:
            self.clicks += 1
            await self._rig.publish(
                click_on(user, self._random.choice(answer.items).item_id, answer.decision)
            )


class Samples:
    """Notes memory and latency every few seconds.

    Parameters
    ----------
    settings
        Of the namespace.
    pids
        Process by name.
    visits
        Whose latencies are noted.
    """

    def __init__(self, settings: Settings, pids: dict[str, int], visits: Visits) -> None:
        self._settings, self._pids, self._visits = settings, pids, visits
        self.times: list[float] = []
        self.series: dict[str, list[float]] = {}

    async def run(self) -> None:
        """Note until cancelled."""
        started = time.monotonic()
        async with redis_client(self._settings, timeout_s=5.0) as redis:
            while True:
                await asyncio.sleep(SAMPLE_S)
                found = {f"{name}_rss_mb": _run.resident_mb(pid) for name, pid in self._pids.items()}
                found["store_used_mb"] = (await redis.info("memory"))["used_memory"] / 1e6
                since, self._visits.latencies = self._visits.latencies, []
                if not since:
                    continue
                quantiles = np.percentile(np.asarray(since) * 1000, (50.0, 99.0))
                found |= {"p50_ms": float(quantiles[0]), "p99_ms": float(quantiles[1])}
                self.times.append(time.monotonic() - started)
                for name, value in found.items():
                    self.series.setdefault(name, []).append(value)

    def slopes(self) -> dict[str, Slope]:
        """Return the slope of every series."""
        return {name: slope(self.times, values) for name, values in self.series.items()}


@contextmanager
def _broker(wished: str) -> Iterator[str | None]:
    if wished == "apache":
        with KafkaCluster(size=1) as cluster:
            yield cluster.bootstrap
    else:
        yield None if wished == "embedded" else wished


async def soak(given: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Find the capacity, visit at half of it, and tell how memory and latency changed."""
    with Processes(settings) as processes:
        async with Rig(processes) as rig:
            (worker,) = await rig.start()
            await rig.catalogue(make_items(GENRES, EACH))
            visits = Visits(rig, given.seed)
            rate = given.rate or await _half(rig, given.seed)
            _run.console.print(f"{rate:.0f} visits a second for {given.minutes:g} minutes")
            samples = Samples(settings, {"worker": worker.pid, "server": processes.servers[0].pid}, visits)
            sampling = asyncio.create_task(samples.run())
            changing = asyncio.create_task(_change(rig))
            await visits.run(rate, 60.0 * given.minutes)
            for task in (sampling, changing):
                task.cancel()
            await asyncio.gather(sampling, changing, return_exceptions=True)
            folded = await rig.folded()
    counts = {"answers": visits.answers, "failures": visits.failures, "skipped": visits.skipped}
    slopes = {name: {**msgspec.to_builtins(s), "is_flat": s.is_flat} for name, s in samples.slopes().items()}
    series = {"times_s": samples.times, **samples.series}
    late = sum(count for name, count in folded.subjects.items() if name.endswith(".late"))
    closed = {"closed": folded.closed, "learnt": folded.learnt, "late": late}
    return {"rate": rate, **counts, "clicks": visits.clicks, **closed, "slopes": slopes, "series": series}


async def _half(rig: Rig, seed: int) -> float:
    """Return half of the visits a second that are answered and folded when many more are asked for."""
    visits = Visits(rig, seed + 1)
    began = time.monotonic()
    await visits.run(2_000.0, CAPACITY_S)
    await rig.counts(decisions=visits.answers, impressions=visits.answers)
    return max(5.0, visits.answers / (time.monotonic() - began) / 2)


async def _change(rig: Rig) -> None:
    """Change the catalogue a little, again and again."""
    while True:
        for genre in GENRES:
            await asyncio.sleep(2.0)
            await rig.publish(*make_items((genre,), 5, available=True))


def table(report: dict[str, Any]) -> Table:
    """Return what is printed."""
    drawn = Table(
        "series", "mean", "an hour", "95 %", "share an hour", "flat", title="slopes", title_justify="left"
    )
    for name, one in report["slopes"].items():
        cells = (one["mean"], one["per_hour"])
        interval = f"{one['low']:.2f} to {one['high']:.2f}"
        share = f"{100 * one['share_per_hour']:.1f} %"
        drawn.add_row(name, *(f"{cell:.2f}" for cell in cells), interval, share, str(one["is_flat"]))
    return drawn


def main() -> int:
    """Run, print, and return the exit code."""
    parser = _run.options(__doc__, seconds=0.0, rate=0.0)
    parser.set_defaults(kafka="apache")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long")
    given = parser.parse_args()
    configure_logs("ERROR")
    with _broker(given.kafka) as kafka, EmbeddedRuntime(kafka=kafka) as runtime:
        settings = engine_settings(
            runtime.kafka,
            given.redis or runtime.redis,
            f"soak-{time.time_ns() // 1_000_000 % 10**9}",
            lateness_s=2_000.0,
            attribution_window_s=2_000.0,
            decision_wait_s=2_000.0,
            session_timeout_s=6.0,
            decision_ttl_s=DECISIONS_KEPT_S,
            redis_timeout_ms=50,
            fetch_wait_ms=20,
            seed=given.seed,
            log_level="ERROR",
        )
        report = asyncio.run(soak(given, settings))
    _run.console.print(table(report))
    whole = {name: value for name, value in report.items() if name not in ("slopes", "series")}
    _run.console.print(_run.figures("soak", whole))
    _run.finish(given, report)
    return int(report["failures"] > 0)


if __name__ == "__main__":
    sys.exit(main())
