"""Two worker processes in one group: whatever happens to them, every record counts exactly once."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import redis.asyncio

from headwater.embedded import EmbeddedRuntime
from tests.stream.engine_kit import SESSION_TIMEOUT_S, Publisher, make_topics, until

PARTITIONS = 4
ROOT = Path(__file__).parents[2]


class WorkerProcess:
    """A worker in a process of its own, and what it has said."""

    def __init__(self, runtime: EmbeddedRuntime, group: str, topics: list[str], log: Path) -> None:
        command = [sys.executable, "-m", "tests.stream.engine_process", runtime.kafka, runtime.redis, group]
        self.log = log
        with log.open("w") as out, log.with_suffix(".err").open("w") as err:
            self.process = subprocess.Popen([*command, *topics], cwd=ROOT, stdout=out, stderr=err)

    def said(self, event: str) -> list[list[list[Any]]]:
        """The topic-partitions of every such event."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line["tps"] for line in lines if line["event"] == event]

    def owned(self) -> int:
        """How many topic-partitions it has claimed last."""
        return len(self.said("claim")[-1]) if self.said("claim") else 0

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    async def ended(self, patience_s: float = 15.0) -> int:
        """Exit code, once it has ended."""
        await until(lambda: self.process.poll() is not None, patience_s)
        return int(self.process.returncode)


class Group:
    """Two topics, a store, and workers as they come and go."""

    def __init__(self, runtime: EmbeddedRuntime, namespace: str, folder: Path) -> None:
        self.runtime, self.name, self.folder = runtime, namespace, folder
        self.topics = [f"{namespace}.a", f"{namespace}.b"]
        self.workers: list[WorkerProcess] = []
        self.sent = 0
        self.store = redis.asyncio.Redis.from_url(runtime.redis)

    def start(self) -> WorkerProcess:
        log = self.folder / f"worker{len(self.workers)}.log"
        self.workers.append(WorkerProcess(self.runtime, self.name, self.topics, log))
        return self.workers[-1]

    async def publish(self, publisher: Publisher, seconds: float) -> None:
        """Send a steady flow to all partitions."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for topic in self.topics:
                for partition in range(PARTITIONS):
                    await publisher.send(topic, [b"x"] * 5, partition)
                    self.sent += 5
            await asyncio.sleep(0.02)

    async def counts(self) -> list[int]:
        return [int(count) for count in await self.store.hvals(f"{self.name}:seen")]

    async def all_counted_once(self) -> None:
        """Wait until every record has counted, and check that none did so twice."""
        deadline = time.monotonic() + 30.0
        while len(counts := await self.counts()) < self.sent and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        assert (len(counts), set(counts)) == (self.sent, {1})


@asynccontextmanager
async def a_group(
    runtime: EmbeddedRuntime, namespace: str, folder: Path
) -> AsyncIterator[tuple[Group, Publisher]]:
    group = Group(runtime, namespace, folder)
    await make_topics(runtime.kafka, dict.fromkeys(group.topics, PARTITIONS))
    try:
        async with Publisher(runtime.kafka) as publisher:
            yield group, publisher
    finally:
        for worker in group.workers:
            worker.process.kill()
            worker.process.wait()
        await group.store.aclose()


async def two_workers(group: Group) -> tuple[WorkerProcess, WorkerProcess]:
    """Start two workers and return when each owns its half."""
    first = group.start()
    await until(lambda: first.owned() == 2 * PARTITIONS)
    second = group.start()
    await until(lambda: first.owned() == second.owned() == PARTITIONS)
    return first, second


async def test_a_worker_joins_and_leaves_in_full_flow(
    runtime: EmbeddedRuntime, namespace: str, tmp_path: Path
) -> None:
    """SIGTERM ends a worker with exit code 0, within seconds, and the other goes on with everything."""
    async with a_group(runtime, namespace, tmp_path) as (group, publisher):
        flow = asyncio.ensure_future(group.publish(publisher, 4 * SESSION_TIMEOUT_S + 4))
        first, second = await two_workers(group)
        assert first.said("release"), "what moves is released by its old owner"
        await asyncio.sleep(0.5)
        first.signal(signal.SIGTERM)
        started = time.monotonic()
        assert await first.ended() == 0
        assert time.monotonic() - started < 5.0
        assert sum(len(tps) for tps in first.said("release")) == sum(len(tps) for tps in first.said("claim"))
        await until(lambda: second.owned() == 2 * PARTITIONS)
        await flow
        await group.all_counted_once()
        assert "Traceback" not in first.log.with_suffix(".err").read_text()


async def test_a_killed_worker_is_replaced(runtime: EmbeddedRuntime, namespace: str, tmp_path: Path) -> None:
    """After SIGKILL the other claims all within the session timeout and a little."""
    async with a_group(runtime, namespace, tmp_path) as (group, publisher):
        first, second = await two_workers(group)
        flow = asyncio.ensure_future(group.publish(publisher, 2 * SESSION_TIMEOUT_S + 2))
        await asyncio.sleep(0.5)
        first.signal(signal.SIGKILL)
        await until(lambda: second.owned() == 2 * PARTITIONS, 2 * SESSION_TIMEOUT_S + 3)
        await flow
        await group.all_counted_once()
        assert second.owned() == 2 * PARTITIONS


async def test_a_paused_worker_that_wakes_up_is_fenced_and_comes_back(
    runtime: EmbeddedRuntime, namespace: str, tmp_path: Path
) -> None:
    """A worker stopped for longer than its session has lost its claim; what it still holds must not count."""
    async with a_group(runtime, namespace, tmp_path) as (group, publisher):
        first, second = await two_workers(group)
        flow = asyncio.ensure_future(group.publish(publisher, 5 * SESSION_TIMEOUT_S))
        await asyncio.sleep(0.5)
        first.signal(signal.SIGSTOP)
        await until(lambda: second.owned() == 2 * PARTITIONS, 2 * SESSION_TIMEOUT_S + 3)
        first.signal(signal.SIGCONT)
        await until(lambda: first.owned() == second.owned() == PARTITIONS and len(first.said("claim")) > 2)
        await flow
        await group.all_counted_once()
        assert first.process.poll() is second.process.poll() is None


async def test_a_handler_that_raises_ends_the_process_with_an_error(
    runtime: EmbeddedRuntime, namespace: str, tmp_path: Path
) -> None:
    async with a_group(runtime, namespace, tmp_path) as (group, publisher):
        worker = group.start()
        await until(lambda: worker.owned() == 2 * PARTITIONS)
        await publisher.send(group.topics[0], [b"poison"])
        assert await worker.ended() == 1
        assert "ValueError: poison" in worker.log.with_suffix(".err").read_text()
        assert await group.counts() == []


async def test_a_signal_during_the_start_ends_the_worker_cleanly(
    runtime: EmbeddedRuntime, namespace: str, tmp_path: Path
) -> None:
    async with a_group(runtime, namespace, tmp_path) as (group, _):
        worker = group.start()
        await until(lambda: worker.said("start"))
        await asyncio.sleep(0.1)
        worker.signal(signal.SIGINT)
        assert await worker.ended() == 0
