"""Sends rows of an import to their shards, in numbered batches, only so far ahead of the workers."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from msgspec import Struct

from state.events import Event, Item, SubjectEvent, User
from state.keys import item_unit, meta_key, subject_unit, unit_prefix
from state.outbox import IMPORT_HEADER, NUMBER_HEADER
from state.partition import shard_of
from state.settings import Settings
from state.topics import topic_name

BATCH_BYTES = 900_000
POLL_S = 0.02
# Watermarks go on where a worker finds a partition read to its end, which it looks for every 20 ms.
BREATH_S = 0.06
DRAIN_EVERY_S = 1.0
IMPATIENT_S = 10.0


class Numbered(Struct):
    """An event ready to be sent: its row number, itself, and its bytes."""

    number: int
    event: Event
    raw: bytes


class Destination:
    """The partitions of one topic kind, and the units that fold them.

    Parameters
    ----------
    settings
        Of the namespace.
    kind
        Topic kind.
    """

    def __init__(self, settings: Settings, kind: str) -> None:
        self.kind, self.topic = kind, topic_name(settings.namespace, kind)
        self.partitions = settings.item_shards if kind == "items" else settings.shards
        name = item_unit if kind == "items" else subject_unit
        self.prefixes = [unit_prefix(settings.namespace, name(n)) for n in range(self.partitions)]

    def partition(self, event: Event) -> int:
        """Return where an event belongs."""
        return shard_of(key_of(event), self.partitions)


def key_of(event: Event) -> str:
    """Return the key an event is sent under."""
    if isinstance(event, Item):
        return event.item_id
    assert isinstance(event, SubjectEvent | User)
    return event.subject


class Sender:
    """Sends chunks of rows; knows how far each partition was sent.

    Parameters
    ----------
    producer
        Started; its batches may be as large as `BATCH_BYTES`.
    destination
        Where the rows go.
    mark
        The import's mark.
    """

    def __init__(self, producer: AIOKafkaProducer, destination: Destination, mark: str) -> None:
        self._producer, self.destination = producer, destination
        self._mark = (IMPORT_HEADER, mark.encode())
        self.sent: dict[int, int] = {}

    async def send(self, rows: Sequence[Numbered]) -> "asyncio.Future[Any]":
        """Send rows, in order; returns what is done once all of them are acknowledged."""
        parts: dict[int, list[Numbered]] = defaultdict(list)
        for row in rows:
            parts[self.destination.partition(row.event)].append(row)
        waiting = [
            await batch for partition, held in parts.items() for batch in self._batches(partition, held)
        ]
        return asyncio.gather(*(self._acknowledged(*one) for one in waiting))

    def _batches(self, partition: int, rows: Sequence[Numbered]) -> list[Awaitable[tuple[int, Any, int]]]:
        batches, batch = [], self._producer.create_batch()
        for row in rows:
            if not self._append(batch, row):
                batches.append(self._put(batch, partition))
                batch = self._producer.create_batch()
                self._append(batch, row)
        return [*batches, self._put(batch, partition)]

    def _append(self, batch: Any, row: Numbered) -> bool:
        # An interaction's record bears its own time. Profiles and items are kept for longer than the log is,
        # and a record that looks too old may be deleted before it is read.
        at_ms = row.event.occurred_at if isinstance(row.event, SubjectEvent) else time.time_ns() // 1_000_000
        headers = [self._mark, (NUMBER_HEADER, b"%d" % row.number)]
        key = key_of(row.event).encode()
        return batch.append(timestamp=at_ms, key=key, value=row.raw, headers=headers) is not None

    async def _put(self, batch: Any, partition: int) -> tuple[int, Any, int]:
        batch.close()
        topic = self.destination.topic
        return (
            partition,
            await self._producer.send_batch(batch, topic, partition=partition),
            batch.record_count(),
        )

    async def _acknowledged(self, partition: int, answer: Any, records: int) -> None:
        metadata = await answer
        self.sent[partition] = max(self.sent.get(partition, 0), metadata.offset + records)


class Workers:
    """What the workers have folded of a destination, as the store says.

    Parameters
    ----------
    redis
        Client of the store.
    destination
        Where the rows go.
    tell
        Called with a sentence when they take long.
    """

    def __init__(self, redis: Any, destination: Destination, tell: Callable[[str], None]) -> None:
        self._redis, self._destination, self._tell = redis, destination, tell
        self._drained_at = time.monotonic()

    async def behind(self, sent: Mapping[int, int]) -> dict[int, int]:
        """Return by partition how many records wait to be folded, where any do."""
        sent = dict(sent)  # more may be acknowledged before the store has answered
        async with self._redis.pipeline(transaction=False) as pipe:
            for partition in sent:
                pipe.hget(meta_key(self._destination.prefixes[partition]), f"o:{self._destination.kind}")
            folded = await pipe.execute()
        waiting = {p: end - int(done or 0) for (p, end), done in zip(sent.items(), folded, strict=True)}
        return {partition: records for partition, records in waiting.items() if records > 0}

    async def until_folded(self, sent: Mapping[int, int], but: int = 0) -> None:
        """Wait until of everything sent only so many rows of a partition wait to be folded.

        Where none may, wait a little longer, so that watermarks go on and windows can close.
        """
        if but and time.monotonic() - self._drained_at < DRAIN_EVERY_S:
            await self._until(sent, but)
            return
        await self._until(sent, 0)
        await asyncio.sleep(BREATH_S)
        self._drained_at = time.monotonic()

    async def _until(self, sent: Mapping[int, int], but: int) -> None:
        impatient_at, before = time.monotonic() + IMPATIENT_S, -1
        while max((behind := await self.behind(sent)).values(), default=0) > but:
            if sum(behind.values()) != before:
                impatient_at, before = time.monotonic() + IMPATIENT_S, sum(behind.values())
            elif time.monotonic() > impatient_at:
                impatient_at = time.monotonic() + 6 * IMPATIENT_S
                shards = ", ".join(map(str, sorted(behind)))
                self._tell(f"{before} rows wait for a worker on partitions {shards}: does one run?")
            await asyncio.sleep(POLL_S)
