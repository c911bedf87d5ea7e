"""One import from its first row to its last: what is done is asked for first, and kept as it goes on."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from redis.exceptions import RedisError

from headwater.imports.plan import ImportFailed, Plan, Screen
from headwater.imports.progress import (
    Progress,
    fingerprint_of,
    progress_path,
    read_progress,
    write_progress,
)
from headwater.imports.reading import Reader
from headwater.imports.send import BATCH_BYTES, Destination, Numbered, Sender, Workers
from headwater.topic_reader import PATIENCE_S
from state.clients import kafka_security, redis_client
from state.events import Item
from state.imports import import_fingerprints, import_mark
from state.keys import item_times_key, item_unit, meta_key, subject_unit, unit_prefix
from state.settings import Settings
from state.topics import TopicError, check_topics, topic_specs
from stream.log_bounds import log_bounds

KEEP_EVERY_S = 1.0


class Import:
    """One run of an import.

    Parameters
    ----------
    settings
        Of the namespace.
    plan
        What to do.
    screen
        Where to tell how it goes.
    """

    def __init__(self, settings: Settings, plan: Plan, screen: Screen) -> None:
        self._settings, self._plan, self._screen = settings, plan, screen
        self._reader = Reader(plan, settings)
        self.counts = self._reader.counts
        self._path = progress_path(plan.paths[0], settings.namespace, plan.shape.name)
        self._kept_at = self._next_at = time.monotonic()

    async def run(self) -> Counter[str]:
        """Import everything that is not done yet; returns what became of all rows.

        Raises
        ------
        ImportFailed
            If it cannot begin or go on; the same command goes on from there.
        SourceError
            If a file cannot be read on.
        """
        self.progress = self._known(self._fingerprint())
        if self.progress.complete:
            return self.counts
        if self._plan.dry_run:
            return self._look()
        try:
            async with AsyncExitStack() as stack:
                await self._open(stack)
                await self._send_all()
        except (KafkaError, RedisError, OSError, TimeoutError, TopicError) as error:
            said = str(error) or type(error).__name__
            raise ImportFailed(f"{said}; the same command goes on from row {self.progress.row}") from error
        return self.counts

    def _fingerprint(self) -> str:
        read, fingerprint = 0, ""
        for step in fingerprint_of(self._plan.shape, self._plan.paths):
            if isinstance(step, str):
                fingerprint = step
            else:
                read += step
                self._screen.fingerprinting(read, self._reader.size)
        return fingerprint

    def _known(self, fingerprint: str) -> Progress:
        fresh = Progress(fingerprint)
        if self._plan.dry_run:
            return fresh
        known = read_progress(self._path)
        if known is None or (known.fingerprint != fingerprint and not known.counts.get("sent")):
            return fresh
        if known.fingerprint != fingerprint:
            raise ImportFailed(_other_files(self._plan.shape.name, {known.fingerprint}, fingerprint))
        if self._plan.again:
            return fresh
        self.counts.update(known.counts)
        return known

    def _look(self) -> Counter[str]:
        try:
            for _ in self._reader.chunks(0):
                self._tell_progress()
        finally:
            self._reader.close()
        return self.counts

    async def _open(self, stack: AsyncExitStack) -> None:
        settings, kind = self._settings, self._plan.shape.kind
        self._destination = Destination(settings, kind)
        await self._check_topic()
        self._redis = redis_client(settings, timeout_s=10.0)
        stack.push_async_callback(self._redis.aclose)
        await self._check_name()
        await self._check_logs()
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.kafka,
            acks="all",
            max_batch_size=BATCH_BYTES,
            max_request_size=8 * BATCH_BYTES,
            **kafka_security(settings),
        )
        await stack.enter_async_context(producer)
        mark = import_mark(self._plan.shape.name, self.progress.fingerprint)
        self._sender = Sender(producer, self._destination, mark)
        self._workers = Workers(self._redis, self._destination, self._screen.tell)

    async def _check_topic(self) -> None:
        settings = self._settings
        specs = topic_specs(settings.namespace, settings.shards, settings.item_shards, settings.lanes)
        specs = [spec for spec in specs if spec.name == self._destination.topic]
        problems = await check_topics(settings.kafka, specs, kafka_security(settings))
        if problems:
            raise ImportFailed("; ".join(problems))

    async def _check_name(self) -> None:
        """Refuse a name under which shards have folded rows of other files."""
        settings, name, found = self._settings, self._plan.shape.name, set[str]()
        units = [subject_unit(n) for n in range(settings.shards)]
        units += [item_unit(n) for n in range(settings.item_shards)]
        for unit in units:
            fields: list[Any] = await self._redis.hkeys(meta_key(unit_prefix(settings.namespace, unit)))
            found |= import_fingerprints([field.decode() for field in fields], name)
        others = found - {self.progress.fingerprint}
        if others:
            raise ImportFailed(_other_files(name, others, self.progress.fingerprint))

    async def _check_logs(self) -> None:
        """Begin anew where a log ends before what it once acknowledged: then it has lost the rows."""
        offsets, topic = self.progress.offsets, self._destination.topic
        if not offsets:
            return
        consumer = AIOKafkaConsumer(bootstrap_servers=self._settings.kafka, **kafka_security(self._settings))
        async with consumer:
            held = await log_bounds(consumer, [TopicPartition(topic, n) for n in offsets], PATIENCE_S)
        if any(end < offsets[tp.partition] for tp, (_, end) in held.items()):
            self._screen.tell(f"topic {topic} ends before what was sent: all rows are sent again")
            self.progress = Progress(self.progress.fingerprint)
            self.counts.clear()

    async def _send_all(self) -> None:
        self._screen.tell(self._greeting())
        under_way: tuple[asyncio.Future[Any], int, Counter[str]] | None = None
        try:
            for last, rows in self._reader.chunks(self.progress.row):
                wanted = await self._without_older(rows)
                self.counts["sent"] += len(wanted)
                following = await self._sender.send(wanted), last, self.counts.copy()
                await self._settle(under_way)
                under_way = following
                await self._pause(len(wanted), following[0])
            await self._settle(under_way)
            if self._plan.ahead:
                await self._workers.until_folded(self._sender.sent)
            self.progress.complete = True
        finally:
            self._keep()
            self._reader.close()

    def _greeting(self) -> str:
        shape = self._plan.shape
        done = f", going on after row {self.progress.row}" if self.progress.row else ""
        return f"import {shape.name} of {shape.kind} into {self._settings.namespace}{done}"

    async def _settle(self, under_way: tuple["asyncio.Future[Any]", int, Counter[str]] | None) -> None:
        """Wait until a chunk is acknowledged, and note it as done."""
        if under_way is None:
            return
        acknowledged, last, counts = under_way
        await acknowledged
        self.progress.row, self.progress.counts = last, dict(counts)
        self.progress.offsets |= self._sender.sent
        self._tell_progress()
        if time.monotonic() - self._kept_at > KEEP_EVERY_S:
            self._keep()

    def _keep(self) -> None:
        self._kept_at = time.monotonic()
        self._reader.flush()
        write_progress(self._path, self.progress)

    def _tell_progress(self) -> None:
        self._screen.going(self._reader.position, self._reader.size, self.counts)

    async def _pause(self, sent: int, latest: "asyncio.Future[Any]") -> None:
        """Keep to the rate, and let the workers catch up before live events wait for long."""
        if self._plan.rate:
            self._next_at = max(self._next_at, time.monotonic()) + sent / self._plan.rate
            await asyncio.sleep(self._next_at - time.monotonic())
        if not self._plan.ahead:
            return
        waiting = await self._workers.behind(self._sender.sent)
        if max(waiting.values(), default=0) >= self._plan.ahead:
            await latest
            await self._workers.until_folded(self._sender.sent, self._plan.ahead // 2)

    async def _without_older(self, rows: list[Numbered]) -> list[Numbered]:
        """Leave out items of which the catalogue has newer ones: a compacted log would keep the older."""
        if self._plan.shape.kind != "items" or not rows:
            return rows
        known = await self._item_times(rows)
        wanted = [row for row in rows if row.event.occurred_at >= known[row.number]]
        self.counts["older"] += len(rows) - len(wanted)
        return wanted

    async def _item_times(self, rows: Sequence[Numbered]) -> dict[int, int]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for row in rows:
                assert isinstance(row.event, Item)
                prefix = self._destination.prefixes[self._destination.partition(row.event)]
                pipe.hget(item_times_key(prefix), row.event.item_id)
            stored = await pipe.execute()
        return {row.number: int((at or b"0").lstrip(b"-")) for row, at in zip(rows, stored, strict=True)}


def _other_files(name: str, others: set[str], ours: str) -> str:
    held = ", ".join(sorted(others))
    return (
        f"import {name!r} was begun with other files or options (fingerprint {held}, now {ours}); "
        "wished: the very same files and options, or another --name"
    )
