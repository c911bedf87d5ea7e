"""A broker that delivers faster than the store takes fills no memory: what is too much stays where it is."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from headwater.embedded import EmbeddedRuntime, EmbeddedStore
from headwater.processes import free_port
from state.events import encode
from state.topics import topic_name
from tests.integration.rig import Child, Processes, Rig, click_on, engine_settings, is_alive, until

MAX_BATCH = 50
USERS = 20
EVENT_BYTES = 8_000
FILLING, MORE = 3_000, 6_000
FLAT_BYTES = 16_000_000
"""Growth that counts as none; what is published while it is measured is three times as much."""
# The embedded broker answers with what it has found when the wait is over: in a long log, nothing after 5 ms.
FETCH_WAIT_MS = 250


@pytest.fixture
def store() -> Iterator[EmbeddedStore]:
    with EmbeddedStore() as running:
        yield running


@pytest.fixture
async def rig(runtime: EmbeddedRuntime, namespace: str, store: EmbeddedStore) -> AsyncIterator[Rig]:
    sizes = {"shards": 1, "max_batch": MAX_BATCH, "fetch_wait_ms": FETCH_WAIT_MS}
    settings = engine_settings(runtime.kafka, store.url, namespace, **sizes)
    with Processes(settings) as processes:
        async with Rig(processes) as running:
            yield running


@contextmanager
def paused(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Watched:
    """A worker's figures: its metrics and its memory."""

    def __init__(self, rig: Rig, worker: Child, port: int) -> None:
        self._rig, self._worker, self._port = rig, worker, port

    async def figure(self, name: str, **labels: str) -> float:
        async with self._rig.http.get(f"http://127.0.0.1:{self._port}/metrics") as answer:
            families = text_string_to_metric_families(await answer.text())
        samples = [sample for family in families for sample in family.samples]
        return sum(s.value for s in samples if s.name == name and s.labels.items() >= labels.items())

    async def queued(self) -> int:
        return int(await self.figure("headwater_queue_events", unit="0"))

    async def lag(self) -> int:
        topic = topic_name(self._rig.settings.namespace, "clicks")
        return int(await self.figure("headwater_consumer_lag", topic=topic, partition="0"))

    def memory(self) -> int:
        pages = Path(f"/proc/{self._worker.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def publish(rig: Rig, count: int, watched: Watched) -> int:
    """Publish large clicks; returns the longest queue seen meanwhile."""
    topic, longest = topic_name(rig.settings.namespace, "clicks"), 0
    for start in range(0, count, 500):
        sent = []
        for number in range(start, start + 500):
            user = f"u{number % USERS}"
            document = msgspec.json.decode(encode(click_on(user, f"item-{number}")))
            raw = msgspec.json.encode(document | {"ballast": "x" * EVENT_BYTES})
            sent.append(await rig.producer.send(topic, raw, key=user.encode(), partition=0))
        await asyncio.gather(*sent)
        longest = max(longest, await watched.queued())
    return longest


async def test_memory_stays_flat_while_the_store_takes_nothing_and_then_everything_is_folded(
    rig: Rig, store: EmbeddedStore
) -> None:
    port = free_port()
    worker = rig.processes.worker(metrics_port=port)
    await rig.claimed()
    watched = Watched(rig, worker, port)
    await publish(rig, 500, watched)
    await rig.counts(clicks=500)
    with paused(store.pid):
        longest = await publish(rig, FILLING, watched)

        async def is_full() -> bool:
            return await watched.queued() > 8 * MAX_BATCH

        await until(is_full, "the queue is full")
        await asyncio.sleep(3.0)
        before = watched.memory()
        longest = max(longest, await publish(rig, MORE, watched))
        await asyncio.sleep(3.0)

        async def is_known_to_lag() -> bool:
            return await watched.lag() >= FILLING + MORE - 2 * MAX_BATCH

        await until(is_known_to_lag, "the lag is known while nothing is read")
        assert 8 * MAX_BATCH < longest <= 9 * MAX_BATCH
        grown = watched.memory() - before
        assert grown < FLAT_BYTES, f"{grown} bytes more after {MORE * EVENT_BYTES} bytes were published"
    total = 500 + FILLING + MORE
    folded = (await rig.counts(clicks=total)).subjects
    assert {name: folded.get(name, 0) for name in ("clicks", "clicks.late", "clicks.duplicate")} == {
        "clicks": total,
        "clicks.late": 0,
        "clicks.duplicate": 0,
    }
    for number in range(USERS):
        assert (await rig.subject(f"u{number}")).clicks == total / USERS

    async def has_caught_up() -> bool:
        return await watched.lag() == 0 and await watched.queued() == 0

    await until(has_caught_up, "lag and queue are empty again")
    assert await watched.figure("headwater_watermark_age_seconds", unit="0") > 0
    assert is_alive(worker)
