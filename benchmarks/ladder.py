"""Promise 12: whatever breaks under load, every request is answered, says from what, and recovers by itself.

``python -m benchmarks.ladder --rate 60 --seconds 10 --away 60 --json ladder.json``. Two servers and two
workers stand under constant-rate load while one thing after another breaks: the store is killed and started
on its files, the broker stops for a minute, a worker is killed, servers' connections to the change feed are
cut again and again, the store answers too late, three times the capacity is asked for, and one server is
told to stop. For each: shares of answers by rung, errors, latency, how long until answers are personal
again; and in all, decisions that were answered and are not in the topic. Exit code 1 on any 5xx that is no
deliberate shedding, any empty answer, or a lost decision.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from redis.exceptions import RedisError
from rich.table import Table

from benchmarks import _run
from benchmarks._ladder_load import Asked, LadderLoad, summary
from benchmarks.serving import send
from headwater.embedded import EmbeddedBroker, EmbeddedStore
from headwater.logs import configure_logs
from state.clients import redis_client
from state.settings import Settings
from tests.integration.rig import Processes, Rig, click_on, engine_settings, make_items

GENRES = ("drama", "comedy", "crime", "jazz")
VISITORS = 60
FLOOD_RPS, FLOOD_WIRES = 4_000.0, 1_500
PERSONAL_PATIENCE_S = 60.0
CUT_EVERY_S = 0.05
PAUSE_MS, PAUSE_EVERY_S = 120, 0.2
Fault = Callable[["Stage"], Awaitable[None]]


class Stage:
    """Everything that can break, and the load on it.

    Parameters
    ----------
    rig
        The engine.
    store, broker
        Its servers.
    given
        Rate, seconds and how long the broker is away.
    """

    def __init__(
        self, rig: Rig, store: EmbeddedStore, broker: EmbeddedBroker, given: argparse.Namespace
    ) -> None:
        self.rig, self.store, self.broker, self.given = rig, store, broker, given
        self.visitors = [f"visitor-{number}" for number in range(VISITORS)]
        self.asked: list[Asked] = []

    async def under(self, fault: Fault, rate: float) -> dict[str, Any]:
        """Break something under load; returns what it did to answers, and how long the recovery took."""
        over, load = asyncio.Event(), LadderLoad(self.rig.processes.apis, self.visitors)
        asking = asyncio.create_task(load.run(rate, over.is_set))
        try:
            await fault(self)
        finally:
            over.set()
        found = await asking
        self.asked += found
        return {"rate": round(rate, 1), **summary(found), "recovered_s": await self.recovery()}

    async def recovery(self) -> float | None:
        """Return how long it takes until answers are personal again, s; None where they do not become so."""
        repaired = time.monotonic()
        return round(time.monotonic() - repaired, 2) if await self.personal_again() else None

    async def personal_again(self) -> bool:
        """Wait until every server answers a known visitor from their own record."""
        deadline = time.monotonic() + PERSONAL_PATIENCE_S
        while time.monotonic() < deadline:
            answers = [await self.rig.ask(self.visitors[0], api=api) for api in self.rig.processes.apis]
            if all(answer.rung == "personal" for answer in answers):
                return True
            await asyncio.sleep(0.05)
        return False

    async def lost(self) -> int:
        """Return how many answered decisions are not in the topic once all have had time to be sent."""
        wished = {one.decision_id for one in self.asked if one.status == 200 and one.rung != "static"}
        try:
            logged = await self.rig.events("decisions", len(wished))
        except AssertionError:
            logged = []
        return len(wished - {decision.event_id for decision in logged})


async def calm(stage: Stage) -> None:
    """Break nothing."""
    await asyncio.sleep(stage.given.seconds)


async def store_killed(stage: Stage) -> None:
    """Kill the store, leave it away for a while, start it on its files."""
    await asyncio.sleep(1.0)
    await asyncio.to_thread(stage.store.kill)
    await asyncio.sleep(stage.given.seconds / 2)
    await asyncio.to_thread(stage.store.restart)
    await asyncio.sleep(stage.given.seconds / 2)


async def broker_away(stage: Stage) -> None:
    """Stop the broker without its knowing, and let it go on."""
    os.kill(stage.broker.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(stage.given.away)
    finally:
        os.kill(stage.broker.pid, signal.SIGCONT)
    await asyncio.sleep(2.0)


async def worker_dead(stage: Stage) -> None:
    """Kill one of two workers; the other takes over."""
    stage.rig.processes.workers[0].kill()
    await asyncio.sleep(stage.given.seconds)
    stage.rig.processes.worker()


async def feed_cut(stage: Stage) -> None:
    """Cut every connection that waits for the change feed, again and again."""
    end = time.monotonic() + stage.given.seconds
    async with redis_client(stage.rig.settings, timeout_s=5.0) as redis:
        while time.monotonic() < end:
            for one in await redis.client_list():
                if one["cmd"].startswith("xread"):
                    with contextlib.suppress(RedisError):  # it has gone by itself
                        await redis.client_kill_filter(_id=one["id"])
            await asyncio.sleep(CUT_EVERY_S)


async def store_slow(stage: Stage) -> None:
    """Let the store answer later than requests wait for it, most of the time."""
    end = time.monotonic() + stage.given.seconds
    async with redis_client(stage.rig.settings, timeout_s=5.0) as redis:
        while time.monotonic() < end:
            await redis.client_pause(PAUSE_MS, all=True)
            await asyncio.sleep(PAUSE_EVERY_S)


async def server_stopped(stage: Stage) -> None:
    """Tell one of two servers to stop; what it has taken it answers, and what it has decided it logs."""
    await asyncio.sleep(1.0)
    stopping = stage.rig.processes.servers[-1]
    stopping.terminate()
    await asyncio.sleep(stage.given.seconds)
    await stage.rig.ended(stopping)
    stage.rig.processes.apis.pop()


FAULTS: dict[str, Fault] = {
    "calm": calm,
    "store killed, restarted": store_killed,
    "broker away": broker_away,
    "worker dead": worker_dead,
    "change feed cut": feed_cut,
    "store slow": store_slow,
    "three times the capacity": calm,
    "server told to stop": server_stopped,
}


@asynccontextmanager
async def standing(given: argparse.Namespace) -> AsyncIterator[Stage]:
    """Yield an engine with two servers, two workers, a small catalogue and visitors with a history."""
    with EmbeddedStore(append_only=True, fsync="everysec") as store, EmbeddedBroker() as broker:
        settings = _settings(broker.address, store.url, given)
        with Processes(settings) as processes:
            async with Rig(processes) as rig:
                await rig.start(workers=2, servers=2)
                await rig.catalogue(make_items(GENRES, 40))
                stage = Stage(rig, store, broker, given)
                clicks = [click_on(user, f"drama-{n % 40}") for n, user in enumerate(stage.visitors)]
                await rig.publish(*clicks)
                await rig.counts(clicks=len(clicks))
                yield stage


def _settings(kafka: str, redis: str, given: argparse.Namespace) -> Settings:
    # Nothing may be late because a fault held it up, and nothing of a run closes before it ends.
    waits = {"lateness_s": 60_000.0, "attribution_window_s": 600.0, "decision_wait_s": 60_000.0}
    changes = {**waits, "redis_timeout_ms": 50, "seed": given.seed, "log_level": "ERROR", "shards": 4}
    return engine_settings(kafka, redis, f"ladder-{uuid.uuid4().hex[:8]}", **changes)


async def overload(stage: Stage) -> dict[str, Any]:
    """Ask one server, from another process, for what it can answer, then for three times as much."""
    calm_rate = (await _flood(stage, FLOOD_RPS, 3.0))["achieved_rps"]
    found = await _flood(stage, 3 * calm_rate, stage.given.seconds)
    answered = sum(found["statuses"].values())
    shed = sum(count for status, count in found["statuses"].items() if status.endswith("shed"))
    bad = {s: n for s, n in found["statuses"].items() if s != "200" and not s.endswith("shed")}
    asked = round(3 * calm_rate * stage.given.seconds)
    return {
        "capacity_rps": calm_rate, "rate": round(3 * calm_rate, 1), "asked": asked,
        "rungs": {rung: round(n / max(1, asked), 4) for rung, n in sorted(found["rungs"].items())},
        "shed": round(shed / max(1, asked), 4), "not_waited_for": max(0, asked - answered), "problems": bad,
        "errors_5xx": sum(n for s, n in bad.items() if s[0] == "5"), "cut_off": 0, "empty": 0,
        "other_errors": sum(n for s, n in bad.items() if s[0] != "5"),
        **{name: value for name, value in found.items() if name.endswith("_ms")},
        "recovered_s": await stage.recovery(),
    }  # fmt: skip


async def _flood(stage: Stage, rate: float, seconds: float) -> dict[str, Any]:
    """Return what the load generator of the other benchmarks finds, in a process of its own."""
    bodies = [msgspec.json.encode({"user_id": u, "session_id": u, "k": 5}).decode() for u in stage.visitors]
    requests = [("POST", "/v1/recommendations", body) for body in bodies]
    port = int(stage.rig.processes.apis[0].rsplit(":", 1)[1])
    return await asyncio.to_thread(send, port, requests, rate, seconds, FLOOD_WIRES)


async def run_ladder(given: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """Break the named things one after the other; returns what became of answers and decisions."""
    report: dict[str, Any] = {}
    async with standing(given) as stage:
        for name in names:
            is_flood = name == "three times the capacity"
            report[name] = await (overload(stage) if is_flood else stage.under(FAULTS[name], given.rate))
        answered = [one for one in stage.asked if one.status == 200]
        report["answered"], report["decisions_lost"] = len(answered), await stage.lost()
    return report


def failures(report: dict[str, Any]) -> list[str]:
    """Return what must not be."""
    found = [f"{report['decisions_lost']} decisions lost"] if report["decisions_lost"] else []
    for name in set(FAULTS) & set(report):
        one = report[name]
        kinds = [kind for kind in ("errors_5xx", "other_errors", "cut_off", "empty") if one[kind]]
        found += [f"{name}: {one[kind]} {kind} {one['problems']}" for kind in kinds]
        found += [f"{name}: never personal again"] if one["recovered_s"] is None else []
    return found


def table(report: dict[str, Any]) -> Table:
    """Return what is printed."""
    columns = (
        "asked",
        "personal",
        "other rungs",
        "shed",
        "5xx",
        "cut off",
        "p50 ms",
        "p99 ms",
        "back after s",
    )
    drawn = Table("while", *columns, title="answers under faults", title_justify="left")
    for name in FAULTS:
        if (one := report.get(name)) is None:
            continue
        rungs = dict(one["rungs"])
        personal = rungs.pop("personal", 0.0)
        others = ", ".join(f"{rung} {share:.3f}" for rung, share in rungs.items())
        parts = ("shed", "errors_5xx", "cut_off", "p50_ms", "p99_ms", "recovered_s")
        drawn.add_row(name, str(one["asked"]), f"{personal:.3f}", others, *(str(one.get(p)) for p in parts))
    return drawn


def main() -> int:
    """Run, print, and return the exit code."""
    parser = _run.options(__doc__, seconds=10.0, rate=60.0)
    parser.add_argument("--away", type=float, default=60.0, help="how long the broker is away, s")
    parser.add_argument("--only", nargs="+", choices=list(FAULTS), default=list(FAULTS), help="which faults")
    given = parser.parse_args()
    configure_logs("ERROR")
    report = asyncio.run(run_ladder(given, given.only))
    wrong = failures(report)
    _run.console.print(table(report))
    whole = {name: value for name, value in report.items() if name not in FAULTS}
    _run.console.print(_run.figures("all", {**whole, "wrong": wrong or "nothing"}))
    _run.finish(given, {**report, "wrong": wrong})
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
