"""Promise 2: nothing is lost and nothing counted twice, whatever dies meanwhile.

``python -m benchmarks.faults --minutes 10 --json faults.json``. Seeded visits are published to workers that
are killed, and stopped for longer than their group waits and woken up; the store is killed and restarted on
its append-only files; with ``--kafka cluster`` the brokers of a real Apache Kafka are killed and restarted
too. Events arrive late, out of order, some twice, among garbage. Meanwhile the truth is counted from the
events alone. When every window has closed it is compared with the store and with the topics read back.
Exit code 1 where anything was lost or doubled.
"""

import argparse
import asyncio
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from redis.exceptions import RedisError
from rich.table import Table

from benchmarks import _run
from benchmarks._faults_chaos import Broker, Chaos, Pace
from benchmarks._faults_found import check_all, read_log, standing
from benchmarks._faults_publish import Publisher
from benchmarks._faults_truth import Check, Truth
from benchmarks._faults_visits import Crowd
from headwater.embedded import EmbeddedRuntime, EmbeddedStore
from headwater.logs import configure_logs
from state.settings import Settings
from tests.integration.rig import Processes, Rig
from tests.kafka.cluster import KafkaCluster

CLUSTER = 3
POLL_S = 0.25
GRACE_S = 45.0
CALM_S = 1.0


class Plan(Struct, frozen=True):
    """What a run is told: length, load and faults."""

    seconds: float
    rate: float = 200.0
    workers: int = 3
    pace: Pace = Pace()


def fault_settings(kafka: str, redis: str, **changes: Any) -> Settings:
    """Return settings of a fresh namespace whose windows last seconds."""
    given: dict[str, Any] = {
        "namespace": f"faults-{uuid.uuid4().hex[:12]}",
        "kafka": kafka,
        "redis": redis,
        "shards": 12,
        "attribution_window_s": 3.0,
        "lateness_s": 6.0,
        "decision_wait_s": 5.0,
        "session_timeout_s": 2.0,
        "fetch_wait_ms": 5,
        "token_secret": uuid.uuid4().hex,
        "seed": 1,
        "log_level": "ERROR",
    }
    return Settings(**{**given, **changes})


@contextmanager
def embedded(**changes: Any) -> Iterator[tuple[Settings, EmbeddedStore, Sequence[Broker]]]:
    """Yield the embedded broker, which keeps nothing on disk and so is left alone, and a durable store."""
    store = durable_store()
    with EmbeddedRuntime(store) as runtime:
        yield fault_settings(runtime.kafka, runtime.redis, **changes), store, ()


@contextmanager
def cluster(**changes: Any) -> Iterator[tuple[Settings, EmbeddedStore, Sequence[Broker]]]:
    """Yield three brokers of Apache Kafka, and a durable store.

    A partition may be without a leader for the ten seconds in which the others give a dead broker up; an
    event must not be late for that.
    """
    store = durable_store()
    with KafkaCluster(size=CLUSTER) as kafka, EmbeddedRuntime(store, kafka.bootstrap) as runtime:
        slower = {"session_timeout_s": 6.0, "lateness_s": 30.0, "decision_wait_s": 10.0, "fetch_wait_ms": 20}
        settings = fault_settings(
            runtime.kafka, runtime.redis, **{"replication": CLUSTER, **slower, **changes}
        )
        yield settings, store, kafka.brokers


def durable_store() -> EmbeddedStore:
    """Return a store that has on disk whatever it has answered."""
    return EmbeddedStore(append_only=True, fsync="always")


async def run_faults(
    settings: Settings, store: EmbeddedStore, brokers: Sequence[Broker], plan: Plan
) -> dict[str, Any]:
    """Publish and break things, wait until all is closed, compare; returns the report."""
    truth = Truth(settings.feedback)
    with Processes(settings) as processes:
        chaos = Chaos(processes, store, brokers, plan.pace)
        async with Rig(processes) as rig:
            told = await tell(rig, truth, chaos, plan)
            _run.console.print(f"{len(truth.ids)} events told, {dict(chaos.figures)}; windows are closing")
            began = time.monotonic()
            is_closed = await all_closed(rig, truth, chaos.replace_crashed)
            closed_after_s = time.monotonic() - began
            found = await judge(rig, truth)
        stopping = time.monotonic()
    found |= {**told, **chaos.figures, "all_closed": is_closed, "closed_after_s": round(closed_after_s, 1)}
    return {**found, "stopped_after_s": round(time.monotonic() - stopping, 1)}


async def tell(rig: Rig, truth: Truth, chaos: Chaos, plan: Plan) -> dict[str, Any]:
    """Publish and break things at the same time; returns what was published."""
    workers = await rig.start(workers=plan.workers, servers=0)
    publisher, began = Publisher(rig, Crowd(rig.settings), truth), time.monotonic()
    async with asyncio.TaskGroup() as group:
        group.create_task(publisher.run(plan.rate, plan.seconds))
        group.create_task(chaos.run(workers, plan.seconds))
    lasted = {"events": len(truth.ids), "seconds": round(time.monotonic() - began, 1)}
    return {**lasted, **publisher.figures, "slowest_confirmed_ms": publisher.slowest_ms}


async def judge(rig: Rig, truth: Truth) -> dict[str, Any]:
    """Compare the truth with all that was folded; returns the verdict."""
    log = await read_log(rig, truth)
    stuck, checks = await standing(rig, log), await check_all(rig, truth, log)
    return {
        "lost": sum(check.lost for check in checks),
        "doubled": sum(check.doubled for check in checks),
        "stuck_units": stuck,
        "counters": {check.name: _figures(check) for check in checks},
    }


def _figures(check: Check) -> dict[str, int]:
    return {name: value for name, value in msgspec.to_builtins(check).items() if name != "name"}


async def all_closed(rig: Rig, truth: Truth, look_after: Callable[[], None]) -> bool:
    """Wait until windows have closed and all outcomes are learnt; returns False where all stands still."""
    settings = rig.settings
    waits_ms = settings.lateness_ms + max(settings.window_ms, settings.decision_wait_ms)
    done, moved_at = -1, time.monotonic()
    while time.monotonic() < moved_at + waits_ms / 1000 + GRACE_S:
        look_after()
        try:
            folded = await rig.folded()
        except (RedisError, OSError):
            await asyncio.sleep(POLL_S)
            continue
        standing_at = sum(folded.subjects.values()) + folded.learnt
        if standing_at != done:
            done, moved_at = standing_at, time.monotonic()
        expected = truth.expected()
        reached = all(folded.subjects.get(name, 0) >= number for name, number in expected.items())
        if reached and folded.learnt >= expected["closed.outcome"]:
            await asyncio.sleep(CALM_S)  # a copy folded after its event would come now
            return True
        await asyncio.sleep(POLL_S)
    return False


def tables(report: dict[str, Any]) -> list[Table]:
    """Return what is printed."""
    counters = Table("counter", "expected", "found", "lost", "doubled", title="truth and engine")
    for name, check in report["counters"].items():
        counters.add_row(name, *(str(check[part]) for part in ("expected", "found", "lost", "doubled")))
    whole = {name: value for name, value in report.items() if name != "counters"}
    return [counters, _run.figures("run", whole)]


def main() -> int:
    """Run, print, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to publish and break things")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here")
    parser.add_argument("--workers", type=int, default=3, help="worker processes")
    parser.add_argument("--shards", type=int, default=12, help="partitions of each subject topic")
    parser.add_argument("--seed", type=int, default=1, help="of visits and faults")
    parser.add_argument("--kafka", choices=("embedded", "cluster"), default="embedded", help="which brokers")
    parser.add_argument("--rate", type=float, default=200.0, help="events a second")
    parser.add_argument("--lateness", type=float, help="lateness bound, s (6; with a cluster 30)")
    parser.add_argument("--log-level", default="ERROR", help="of the workers")
    given = parser.parse_args()
    configure_logs("ERROR")
    is_cluster = given.kafka == "cluster"
    pace = Pace(kill_s=10.0, broker_kill_s=40.0) if is_cluster else Pace()
    plan = Plan(60.0 * given.minutes, given.rate, given.workers, pace)
    changes = {"seed": given.seed, "shards": given.shards, "log_level": given.log_level}
    if given.lateness is not None:
        changes["lateness_s"] = given.lateness
    with (cluster if is_cluster else embedded)(**changes) as (settings, store, brokers):
        report = asyncio.run(run_faults(settings, store, brokers, plan))
    for table in tables(report):
        _run.console.print(table)
    _run.finish(given, report)
    return int(report["lost"] > 0 or report["doubled"] > 0)


if __name__ == "__main__":
    sys.exit(main())
