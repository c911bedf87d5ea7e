"""The outside world of the folders: store, producer, engine and metrics."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer

from state.outbox import Message
from state.settings import Settings
from state.topics import topic_name
from stream.engine import HOLD, EngineApp, bounds, read_to_end, seek
from stream.metrics import WorkerMetrics

log = structlog.get_logger(__name__)
AT_END_EVERY_S = 0.02
AT_END_PATIENCE_S = 5.0


class WorkerPorts:
    """Ports of one worker process, shared by its folders.

    Parameters
    ----------
    settings
        Of the namespace.
    redis
        Client of the store.
    producer
        Sends outbox messages; acknowledged by all replicas, in order.
    metrics
        Where commits are noted.
    """

    def __init__(
        self, settings: Settings, redis: Any, producer: AIOKafkaProducer, metrics: WorkerMetrics
    ) -> None:
        self.redis, self._producer, self._metrics = redis, producer, metrics
        self._settings = settings
        self.lateness_ms, self.max_batch = settings.lateness_ms, settings.max_batch
        self._at_end: Mapping[tuple[str, int], int] = {}
        self._turn = 0
        self.app: EngineApp | None = None

    def end_seen_at(self, kind: str, partition: int) -> int | None:
        """Return when the broker last said that a topic-partition holds nothing more, ms; None if it does."""
        return self._at_end.get((self._topic(kind), partition))

    async def watch_ends(self) -> None:
        """Keep up with which topic-partitions are read to their ends; runs until cancelled."""
        while True:
            turn = self._turn
            try:
                async with asyncio.timeout(AT_END_PATIENCE_S):
                    ends = await read_to_end(self.app) if self.app is not None else {}
            except Exception as error:  # a watcher that dies would hold every watermark for ever
                log.warning("ends not known", why=repr(error))
                self.forget_ends()
            else:
                if turn == self._turn:  # else it speaks of positions before a seek
                    self._at_end = ends
            await asyncio.sleep(AT_END_EVERY_S)

    def forget_ends(self) -> None:
        """Forget what was read to its end: positions change, and a stale word would move watermarks on."""
        self._turn += 1
        self._at_end = {}

    async def send(self, unit: str, messages: Sequence[Message]) -> None:
        """Send outbox messages in order and return once all are acknowledged."""
        waiting = [await self._send_one(unit, message) for message in messages]
        await asyncio.gather(*waiting)

    async def _send_one(self, unit: str, message: Message) -> Any:
        return await self._producer.send(
            self._topic(message.kind),
            value=message.value,
            key=message.key,
            partition=message.partition,
            headers=message.headers(unit),
        )

    async def hold(self, kinds: Sequence[tuple[str, int]]) -> None:
        """Stop reading topic-partitions; what was read before is stale from the call on."""
        self.forget_ends()
        if self.app is not None:
            await seek(self.app, {(self._topic(kind), partition): HOLD for kind, partition in kinds})

    async def seek(self, offsets: Mapping[tuple[str, int], int | None]) -> None:
        """Read topic-partitions on from these offsets; None is their beginning."""
        self.forget_ends()
        if self.app is None:
            return
        wished = {(self._topic(kind), partition): at for (kind, partition), at in offsets.items()}
        held = await bounds(self.app, list(wished))
        await seek(self.app, {tp: start_position(tp, at, held[tp]) for tp, at in wished.items()})

    def observe(self, unit: str, rows: int, seconds: float, age_ms: int | None) -> None:
        """Note one commit."""
        self._metrics.commits.labels(unit).inc()
        self._metrics.events.labels(unit).inc(rows)
        self._metrics.fold_seconds.observe(seconds)
        if age_ms is not None:
            self._metrics.commit_age.observe(max(0, age_ms) / 1000)

    def observe_failure(self, unit: str) -> None:
        """Note a fold that failed unexpectedly."""
        self._metrics.failures.labels(unit).inc()

    def _topic(self, kind: str) -> str:
        return topic_name(self._settings.namespace, kind)


def start_position(tp: tuple[str, int], stored: int | None, held: tuple[int, int]) -> int:
    """Return where to read a topic-partition, given the stored offset and what the broker holds.

    A log that ends below the stored offset stands still, with a clear error: its topic was recreated.
    """
    first, end = held
    if stored is None:
        return first
    if stored > end:
        log.error(
            "topic ends before the stored offset: was it recreated? its unit stands still",
            topic=tp[0], partition=tp[1], stored=stored, end=end,
        )  # fmt: skip
        return HOLD
    if stored < first:
        log.warning("retention overtook the reader", topic=tp[0], partition=tp[1], stored=stored, first=first)
    return max(first, stored)
