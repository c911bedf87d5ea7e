"""One import from its first row to its last: what is done is asked for first, and kept as it goes on."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from msgspec import Struct
from redis.exceptions import RedisError

from headwater.imports.progress import (
    Progress,
    Rejected,
    fingerprint_of,
    progress_path,
    read_progress,
    write_progress,
)
from headwater.imports.send import BATCH_BYTES, Destination, Numbered, Sender, Workers
from headwater.imports.shape import EventMaker, Shape, is_expired
from headwater.imports.sources import Found, Source
from state.clients import kafka_security, redis_client
from state.decoding import Refusal
from state.events import Item
from state.imports import import_fingerprints, import_mark
from state.keys import item_times_key, item_unit, meta_key, subject_unit, unit_prefix
from state.outbox import SENT_AT_ONCE
from state.settings import Settings
from state.topics import TopicError, check_topics, topic_specs

CHUNK = SENT_AT_ONCE // 2
"""Rows of one chunk; two are under way at a time, so that shards tell every row sent twice by its number."""
KEEP_EVERY_S = 1.0


class ImportFailed(RuntimeError):  # noqa: N818 - it is what became of the import
    """An import that cannot begin or go on; the message says why and what to do."""


class Plan(Struct, frozen=True):
    """What an import was asked to do.

    Attributes
    ----------
    shape
        What to make of each row.
    paths
        Files, in order.
    rate
        Rows a second at most; 0 for as many as go.
    ahead
        Records a partition may hold that no worker has folded; 0 for any number.
    max_rejected
        Rejected rows the import goes on with; None for any number.
    dry_run
        Whether only to look.
    again
        Whether to send all rows again, whatever is known to be done.
    """

    shape: Shape
    paths: Sequence[Path]
    rate: float = 0.0
    ahead: int = 2_000
    max_rejected: int | None = None
    dry_run: bool = False
    again: bool = False


class Screen(Protocol):
    """Where an import tells how it goes."""

    def fingerprinting(self, read: int, size: int) -> None:
        """Tell how much of the files was looked at."""

    def going(self, read: int, size: int, counts: Counter[str]) -> None:
        """Tell how much of the files is done."""

    def tell(self, sentence: str) -> None:
        """Say something that matters."""


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
        self._maker = EventMaker(plan.shape, settings)
        self._sources = [Source(path) for path in plan.paths]
        self._size = sum(source.size for source in self._sources)
        self._path = progress_path(plan.paths[0], settings.namespace, plan.shape.name)
        self.counts: Counter[str] = Counter()
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
            return await self._look()
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
                self._screen.fingerprinting(read, self._size)
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

    async def _look(self) -> Counter[str]:
        try:
            for _ in self._chunks():
                self._tell_progress()
        finally:
            self._close_rejected()
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
            ends = await consumer.end_offsets([TopicPartition(topic, partition) for partition in offsets])
        if any(end < offsets[tp.partition] for tp, end in ends.items()):
            self._screen.tell(f"topic {topic} ends before what was sent: all rows are sent again")
            self.progress = Progress(self.progress.fingerprint)
            self.counts.clear()

    async def _send_all(self) -> None:
        self._screen.tell(self._greeting())
        under_way: tuple[asyncio.Future[Any], int, Counter[str]] | None = None
        try:
            for last, rows in self._chunks():
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
            self._close_rejected()

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
        for rejected in self._rejected:
            rejected.flush()
        write_progress(self._path, self.progress)

    def _tell_progress(self) -> None:
        self._screen.going(sum(source.position for source in self._sources), self._size, self.counts)

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

    _rejected: Sequence[Rejected] = ()

    def _close_rejected(self) -> None:
        for rejected in self._rejected:
            rejected.close()

    def _chunks(self) -> Iterator[tuple[int, list[Numbered]]]:
        """Give the rows to send in chunks, each with the number of the last row looked at for it."""
        done, limit = self.progress.row, _chunk_rows(self._plan.rate)
        self._rejected = [Rejected(source.path, done) for source in self._sources]
        rows: list[Numbered] = []
        number = first = 0
        for number, (file, line, found) in enumerate(self._lines(), 1):
            if number <= done:
                first = number
                continue
            ready = self._ready(number, (file, line, found))
            if ready is not None:
                rows.append(ready)
            if number - first >= limit:
                yield number, rows
                rows, first = [], number
        yield number, rows

    def _lines(self) -> Iterator[tuple[int, int, Found]]:
        return chain.from_iterable(
            ((file, line, found) for line, found in source.rows())
            for file, source in enumerate(self._sources)
        )

    def _ready(self, number: int, at: tuple[int, int, Found]) -> Numbered | None:
        file, line, found = at
        now_ms = time.time_ns() // 1_000_000
        self.counts["rows"] += 1
        try:
            event, raw = self._maker.make(number, found, now_ms)
        except Refusal as refusal:
            self._reject(file, (line, number), refusal)
            return None
        if is_expired(event, now_ms):
            self.counts["expired"] += 1
            return None
        return Numbered(number, event, raw)

    def _reject(self, file: int, place: tuple[int, int], refusal: Refusal) -> None:
        self._rejected[file].add(*place, refusal)
        self.counts["rejected"] += 1
        self.counts[f"rejected.{refusal.reason}"] += 1
        most = self._plan.max_rejected
        if most is not None and self.counts["rejected"] > most:
            raise ImportFailed(f"more than {most} rows rejected, the last one in line {place[0]}: {refusal}")


def _chunk_rows(rate: float) -> int:
    """Return how many rows a chunk has: of a slow import fewer, so that they come steadily."""
    return max(1, min(CHUNK, int(rate / 20))) if rate else CHUNK


def _other_files(name: str, others: set[str], ours: str) -> str:
    held = ", ".join(sorted(others))
    return (
        f"import {name!r} was begun with other files or options (fingerprint {held}, now {ours}); "
        "wished: the very same files and options, or another --name"
    )
