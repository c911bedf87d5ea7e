"""Decisions on their way to Kafka: never in a request's way, kept (bounded, counted) while Kafka is away."""

import asyncio
from collections import deque
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer

from serving.metrics import ServerMetrics
from state.events import Decision, encode
from state.tracing import TRACE_HEADER

log = structlog.get_logger(__name__)
CAPACITY = 20_000
_BATCH = 200
_GATHER_S = 0.02
"""How long decisions are gathered: what a batch costs, it costs with one decision as with ten."""
BATCH_BYTES = 400_000
"""Of one batch of records; brokers take a megabyte unless told otherwise."""

Waiting = tuple[int, bytes, bytes, list[tuple[str, bytes]]]
"""Shard, key, value and headers of a decision."""


class Logbook:
    """Sends decisions in the background.

    Parameters
    ----------
    producer
        Started by the caller, or later: decisions wait until it can send.
    topic
        Full name of the decisions topic.
    metrics
        Where decisions logged, waiting and lost are counted.
    """

    def __init__(self, producer: AIOKafkaProducer, topic: str, metrics: ServerMetrics) -> None:
        self._producer, self._topic, self._metrics = producer, topic, metrics
        self._waiting: deque[Waiting] = deque()
        self._arrived = asyncio.Event()
        metrics.buffered.set_function(lambda: len(self._waiting))

    def put(self, decision: Decision, shard: int) -> None:
        """Take a decision; returns at once. A full buffer refuses the newest."""
        if len(self._waiting) >= CAPACITY:
            self._metrics.lost.inc()
            return
        self._waiting.append((shard, decision.subject.encode(), encode(decision), []))
        self._arrived.set()

    def join(self, decision_id: str, trace: str) -> None:
        """Let the newest decision be part of a trace, if it is the one that is meant."""
        if self._waiting and decision_id.encode() in self._waiting[-1][2]:
            self._waiting[-1] = (*self._waiting[-1][:3], [(TRACE_HEADER, trace.encode())])

    async def run(self) -> None:
        """Send what is put; runs until cancelled."""
        delay = 0.05
        while True:
            await self._arrived.wait()
            if len(self._waiting) < _BATCH:
                await asyncio.sleep(_GATHER_S)
            batch = [self._waiting[n] for n in range(min(_BATCH, len(self._waiting)))]
            try:
                await self._send(batch)
            except Exception as error:
                log.warning("decisions not logged yet", waiting=len(self._waiting), why=str(error))
                await asyncio.sleep(delay)
                delay = min(2.0, delay * 2)
                continue
            delay = 0.05
            for _ in batch:
                self._waiting.popleft()
            self._metrics.logged.inc(len(batch))
            if not self._waiting:
                self._arrived.clear()

    async def _send(self, waiting: list[Waiting]) -> None:
        # A batch may go out twice after an error: decisions are dropped as duplicates by their id.
        pending: list[Any] = []
        for shard, records in _by_shard(waiting).items():
            batch = self._producer.create_batch()
            for _, key, value, headers in records:
                record = {"key": key, "value": value, "timestamp": None, "headers": headers}
                if batch.append(**record) is None:
                    pending.append(await self._send_batch(batch, shard))
                    batch = self._producer.create_batch()
                    batch.append(**record)
            pending.append(await self._send_batch(batch, shard))
        await asyncio.gather(*pending)

    async def _send_batch(self, batch: Any, shard: int) -> Any:
        batch.close()
        return await self._producer.send_batch(batch, self._topic, partition=shard)

    async def drain(self, timeout_s: float) -> int:
        """Wait until everything is sent; returns how many decisions remain after the time is up."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self._waiting and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        return len(self._waiting)


def _by_shard(waiting: list[Waiting]) -> dict[int, list[Waiting]]:
    shards: dict[int, list[Waiting]] = {}
    for one in waiting:
        shards.setdefault(one[0], []).append(one)
    return shards
