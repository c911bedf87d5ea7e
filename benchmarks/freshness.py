"""Promise 1: how long after its publication an event shows in what a client gets.

``python -m benchmarks.freshness --json freshness.json --rate 1000 --seconds 60``. A worker and a server run,
while another process publishes the mix of promise 3 at a steady rate, windows closing all the time.
Probe after probe, a fresh visitor hides an item of its slate through Kafka and asks on, 250 times a second on
a schedule of its own, until an answer comes without the item. The floor is how long one answer takes.

With ``--pairs 10000`` it makes click-then-ask pairs instead, behind the same traffic: visitors click on what
they are shown and ask with the click's token (the gateway's, its place in Kafka, its event id; a tenth more
without any, to see what would be without). No answer may claim freshness and lack the click; the exit code is
1 where one does.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import _run
from benchmarks._counts import read_counts, verdict, watch
from benchmarks._latency import quantiles_ms
from benchmarks._mix import Truth
from benchmarks._pairs import Pairs, shares_of
from benchmarks._run import child
from benchmarks._store import write_shop
from benchmarks._synthetic import Shop
from benchmarks.ingest import make_templates
from headwater.demo.freshness import FreshnessProbe
from state.clients import redis_client
from state.settings import Settings

EVERY_S = 0.03
WARM_S = 4.0
SURE_S = 60.0
LONGEST_S = 3_600.0


class Background:
    """Publishes the mix from a process of its own.

    Parameters
    ----------
    settings
        Of the namespace.
    given
        Rate and seconds.
    folder
        Where settings and templates are handed over.
    """

    def __init__(self, settings: Settings, given: argparse.Namespace, folder: Path) -> None:
        self._settings, self._given, self._folder = settings, given, folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, templates: list[Any], seconds: float) -> None:
        """Begin to publish, for so long."""
        for name, value in (("settings", self._settings), ("templates", templates)):
            (self._folder / name).write_bytes(msgspec.json.encode(value))
        files = [str(self._folder / "settings"), str(self._folder / "templates")]
        command = [sys.executable, "-m", "benchmarks._publish", *files]
        self._process = subprocess.Popen(
            [*command, "--rate", str(self._given.rate), "--seconds", str(seconds)],
            stdout=subprocess.PIPE,
        )

    def finish(self) -> Truth:
        """Wait for its end; returns what it published."""
        assert self._process is not None
        said, _ = self._process.communicate(timeout=self._given.seconds + SURE_S)
        return msgspec.json.decode(said, type=Truth)

    def stop(self) -> None:
        """End it where it still runs."""
        if self._process is None:
            return
        with self._process as process:
            if process.poll() is None:
                process.terminate()


async def probe(settings: Settings, seconds: float) -> dict[str, Any]:
    """Probe for a time; returns the waits."""
    prober = FreshnessProbe(settings, f"http://127.0.0.1:{settings.port}", every_s=EVERY_S)
    task = asyncio.create_task(prober.run())
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    waits = prober.found.waits_ms
    return {"n": len(waits), "missed": prober.found.missed, **quantiles_ms([w / 1000 for w in waits])}


async def answer_times(settings: Settings, count: int = 300) -> dict[str, float]:
    """Return how long one answer takes a fresh visitor, asked as the probes ask."""
    import aiohttp  # noqa: PLC0415 - what the probes use

    times, url = [], f"http://127.0.0.1:{settings.port}/v1/recommendations"
    async with aiohttp.ClientSession() as http:
        for number in range(count):
            started = time.perf_counter()
            body = {"session_id": f"floor-{number}", "surface": "probe", "k": 10}
            async with http.post(url, json=body) as response:
                await response.read()
            times.append(time.perf_counter() - started)
            await asyncio.sleep(0.004)
    return quantiles_ms(times)


async def measure(given: argparse.Namespace, settings: Settings, background: Background) -> dict[str, Any]:
    """Fill the shop, publish, probe, and check that everything published was folded."""
    templates = await make_templates(settings, given.items, given.seed)
    api = f"http://127.0.0.1:{settings.port}"
    with child("worker", settings), child("serve", settings):
        await asyncio.to_thread(_run.wait_ready, api, given.items)
        await probe(settings, WARM_S)
        floor = await answer_times(settings)
        quiet = await probe(settings, min(10.0, given.seconds))
        background.start(templates, given.seconds + WARM_S)
        await asyncio.sleep(WARM_S)
        found = await probe(settings, given.seconds)
        truth = await asyncio.to_thread(background.finish)
        redis = redis_client(settings, timeout_s=30.0)
        await watch(redis, settings, truth, SURE_S)
        counts = verdict(await read_counts(redis, settings), truth, {})
        await redis.aclose()
    return {
        "p50_ms": found.get("p50_ms"), "p99_ms": found.get("p99_ms"),
        "n": found["n"], "missed": found["missed"],
        "probes": found, "without_traffic": quiet, "answer_alone": floor, "rate": given.rate,
        "background": truth.events, "lost": counts["lost"], "late": counts["late"],
    }  # fmt: skip


async def measure_pairs(
    given: argparse.Namespace, settings: Settings, background: Background
) -> dict[str, Any]:
    """Fill the shop, publish, and make click-then-ask pairs meanwhile."""
    templates = await make_templates(settings, given.items, given.seed)
    with child("worker", settings), child("serve", settings):
        await asyncio.to_thread(_run.wait_ready, f"http://127.0.0.1:{settings.port}", given.items)
        await probe(settings, WARM_S)
        if given.rate > 0:
            background.start(templates, LONGEST_S)
            await asyncio.sleep(WARM_S)
        found = await Pairs(settings).run(shares_of(given.pairs))
    return {**found, "rate": given.rate}


def _print(given: argparse.Namespace, report: dict[str, Any]) -> None:
    if given.pairs:
        for kind, rows in report["by_token"].items():
            _run.console.print(_run.figures(f"token: {kind}", rows))
        whole = {name: value for name, value in report.items() if name != "by_token"}
        _run.console.print(_run.figures(f"click, then ask; {given.rate:.0f} events/s behind", whole))
        return
    rows = {
        f"{kind}: {name}": value
        for kind in ("probes", "without_traffic", "answer_alone")
        for name, value in report[kind].items()
    }
    _run.console.print(_run.figures(f"published -> shown, {given.rate:.0f} events/s behind", rows))


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = _run.options(__doc__, seconds=30.0, rate=1_000.0)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=0, help="make so many click-then-ask pairs instead")
    given = parser.parse_args()
    times = {"attribution_window_s": 2.0, "lateness_s": 5.0, "decision_wait_s": 2.0}
    with (
        _run.bench_settings(given, fetch_wait_ms=5, session_timeout_s=6.0, **times) as settings,
        tempfile.TemporaryDirectory() as folder,
    ):
        asyncio.run(_run.prepare(settings))
        asyncio.run(
            write_shop(settings, Shop(given.items, 2 * given.items, time.time_ns() // 1_000_000, given.seed))
        )
        background = Background(settings, given, Path(folder))
        try:
            work = measure_pairs if given.pairs else measure
            report = asyncio.run(work(given, settings, background))
        finally:
            background.stop()
    _print(given, report)
    _run.finish(given, report)
    return int(report.get("lies", 0) > 0)


if __name__ == "__main__":
    sys.exit(main())
