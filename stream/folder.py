"""One folder per unit: takes events in arrival order, folds a micro-batch, commits it, sends its outbox."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import structlog
from redis.exceptions import RedisError

from state.commit import Change, Claim, FencedError, claim_unit, commit
from state.events import encode
from state.keys import outbox_key
from state.outbox import Message, decode_message, next_batch
from state.retention import MAX_UNSENT
from state.tracing import Tracing
from stream.effects import Effects, Place
from stream.gauges import Reading
from stream.isolation import Isolation
from stream.journal import Journal, JournalEntry, Rules, marks
from stream.rows import Row
from stream.tracing import trace_folds
from stream.watermark import Progress, Watermark

log = structlog.get_logger(__name__)
TICK_S = 0.05
# Learning what a few decisions earned costs as much as learning one: those that close soon after each other
# close together, and those of one shard when those of the next do not.
STEP_MS, FIRST_STEP_MS = 200, 50
# Rows of one fetch come topic by topic; a commit of each topic's would cost as much as one of all.
BUSY_S, GATHER_S = 0.05, 0.003
TRIM_AFTER_S = 0.5
RETRY_S = 0.2
STANDSTILL_RETRY_S = 1.0
# Two heartbeats and a little: by then the group has told a worker that slept whether the unit is still its
# own. Claiming at once would only take it from its new owner for a moment.
FENCED_PATIENCE_S = 1.2
_PROGRESS = "progress"


class UnitLogic(Protocol):
    """Pure logic of a unit: what the folder around it needs to know."""

    place: Place
    outbox_number: int

    @property
    def kinds(self) -> Sequence[str]:
        """Topic kinds the unit folds."""

    @property
    def hashes(self) -> list[str]:
        """Hash keys to load before the first fold."""

    def restore(self, meta: Mapping[str, str], hashes: Mapping[str, dict[bytes, bytes]]) -> None:
        """Take in what the store holds."""

    def next_due(self) -> int | None:
        """Return when, in event time, something falls due without an event."""

    def wanted(self, rows: Sequence[Row], watermark: int) -> list[str]:
        """Return the keys to load before these rows can be folded."""

    def put(self, values: Sequence[bytes | None]) -> None:
        """Take in the wanted values, in order."""

    def fold(self, rows: Sequence[Row], watermark: int) -> Effects:
        """Fold rows and return the change."""


class Ports(Protocol):
    """The outside world as a folder meets it."""

    redis: Any
    lateness_ms: int
    max_batch: int

    def end_seen_at(self, kind: str, partition: int) -> int | None:
        """Return when the broker last said that a topic-partition holds nothing more, ms; None if it does."""

    async def send(self, unit: str, messages: Sequence[Message]) -> None:
        """Send outbox messages to Kafka, in order, and return once they are acknowledged."""

    async def hold(self, kinds: Sequence[tuple[str, int]]) -> None:
        """Stop reading topic-partitions (kind, partition); what was read before is stale from the call on."""

    async def seek(self, offsets: Mapping[tuple[str, int], int | None]) -> None:
        """Read topic-partitions on from these offsets; None is their beginning."""

    def observe(self, unit: str, rows: int, seconds: float, event_age_ms: int | None) -> None:
        """Note one commit for metrics."""

    def observe_failure(self, unit: str) -> None:
        """Note a fold that failed unexpectedly."""


def now_ms() -> int:
    """Return the clock, ms since 1970."""
    return time.time_ns() // 1_000_000


class Folder:
    """The single writer of one unit.

    Parameters
    ----------
    make_logic
        Makes the unit's logic anew; called at every (re)load.
    partition
        Partition of every topic of the unit.
    ports
        Store, broker, clock.
    rules
        What the logic folds under; journalled whenever it is not what it was.
    tracing
        Notes what is folded of traces; None while they are off.
    """

    def __init__(
        self,
        make_logic: Callable[[], UnitLogic],
        partition: int,
        ports: Ports,
        rules: Rules | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._make_logic, self._partition, self._ports = make_logic, partition, ports
        self._rules = rules or {}
        self._queue: deque[Row] = deque()
        self._arrived, self._room = asyncio.Event(), asyncio.Event()
        self._unsent: deque[Message] = deque()
        self._to_send = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._isolation = Isolation()
        self._tracing = tracing
        self._lost = False
        self._generation = 0

    async def start(self) -> dict[tuple[str, int], int]:
        """Claim and load the unit; returns the next offset to read of each topic-partition."""
        await self._load()
        self._tasks = [asyncio.create_task(self._fold_loop()), asyncio.create_task(self._send_loop())]
        return self.positions()

    async def stop(self) -> None:
        """Stop after the commit under way; what is queued is read again by the next owner."""
        self._lost = True
        self._arrived.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def logic(self) -> UnitLogic:
        """The logic it runs now; another after each load."""
        return self._logic

    def positions(self) -> dict[tuple[str, int], int]:
        """Return the next offset to read of each topic-partition, as stored."""
        return {(kind, self._partition): at for kind, at in self._stored.items()}

    def reading(self) -> Reading:
        """Return how far the unit is; metrics ask from a thread of their own."""
        unit = self._logic.place.unit
        folded = {(kind, self._partition): self._stored.get(kind, 0) for kind in self._logic.kinds}
        return Reading(unit, self._watermark.value, len(self._queue), len(self._unsent), folded)

    def rewind(self) -> dict[tuple[str, int], int]:
        """Forget what is queued; returns where to read on from."""
        self._queue.clear()
        self._expected = dict(self._stored)
        self._room.set()
        return self.positions()

    async def enqueue(self, rows: Sequence[Row]) -> None:
        """Take in consecutive rows of one topic-partition; waits while the queue is full."""
        for row in rows:
            expected = self._expected.get(row.kind, 0)
            if row.offset >= expected:
                self._queue.append(row)
                self._expected[row.kind] = row.offset + 1
        self._arrived.set()
        while len(self._queue) > 8 * self._ports.max_batch and not self._lost:
            self._room.clear()
            await self._room.wait()

    async def _load(self) -> None:
        logic = self._make_logic()
        prefix = logic.place.prefix
        self._claim: Claim = await claim_unit(self._ports.redis, prefix)
        self._journal = Journal(self._claim.meta, self._rules)
        hashes = {key: await self._ports.redis.hgetall(key) for key in logic.hashes}
        outbox = await self._ports.redis.lrange(outbox_key(prefix), 0, -1)
        logic.restore(self._claim.meta, hashes)
        self._logic, self._stored = logic, self._claim.next_offsets()
        self._number = self._claim.commit
        self._expected = dict(self._stored)
        self._queue.clear()
        self._unsent = deque(decode_message(raw) for raw in outbox)
        self._sent = 0
        self._generation += 1
        self._to_send.set()
        progress = self._claim.meta.get(_PROGRESS)
        known = None if progress is None else _decode_progress(progress)
        steps = (STEP_MS, self._partition * FIRST_STEP_MS)
        self._watermark = Watermark(logic.kinds, self._ports.lateness_ms, known, steps)
        log.info("unit claimed", unit=logic.place.unit, epoch=self._claim.epoch, offsets=self._stored)

    async def _fold_loop(self) -> None:
        while not self._lost:
            rows: list[Row] = []
            try:
                await self._step(rows)
            except FencedError as error:
                log.warning("commit fenced", unit=self._logic.place.unit, why=str(error))
                await self._reload(FENCED_PATIENCE_S)
            except (RedisError, OSError, TimeoutError) as error:
                # The commit may or may not have happened: only the store knows, so ask it again.
                log.warning("store did not commit", unit=self._logic.place.unit, why=str(error))
                await self._reload(RETRY_S)
            except Exception as error:
                log.exception("fold failed", unit=self._logic.place.unit, rows=len(rows))
                self._ports.observe_failure(self._logic.place.unit)
                await self._reload(0.0 if self._isolation.failed(rows, error) else STANDSTILL_RETRY_S)

    async def _reload(self, patience_s: float) -> None:
        # Held first: a row read before must not slip in between the load and the seek.
        kinds = [(kind, self._partition) for kind in self._logic.kinds]
        await asyncio.sleep(patience_s)
        delay = 0.05
        while not self._lost:
            try:
                await self._ports.hold(kinds)
                await self._load()
                self._room.set()
                await self._ports.seek({kind: self._stored.get(kind[0]) for kind in kinds})
            except Exception as error:  # a folder that dies here would leave its unit standing still
                log.warning("unit not loaded yet", unit=self._logic.place.unit, why=repr(error))
                await asyncio.sleep(delay)
                delay = min(1.0, delay * 2)
            else:
                return

    async def _step(self, rows: list[Row]) -> None:
        # A broker that takes nothing must not fill our memory.
        while len(self._unsent) > MAX_UNSENT and not self._lost:
            await asyncio.sleep(TICK_S)
        rows += await self._take()
        self._isolation.mark(rows)
        started = time.perf_counter()
        live = [row for row in rows if not row.imported]
        for row in live:  # what an import brings says nothing of the present
            self._watermark.observe(row.kind, row.occurred_at(), row.received_at)
        watermark = self._watermark.advance(self._caught_up())
        if not rows and not self._is_due(watermark):
            await self._trim()
            return
        wanted = self._logic.wanted(rows, watermark)
        if wanted:
            self._logic.put(await self._ports.redis.mget(wanted))
        entry = self._journal.entry(rows, watermark, now_ms())
        await self._commit(self._journalled(self._logic.fold(rows, watermark), rows, entry), entry)
        self._isolation.passed(rows)
        if self._tracing is not None:
            trace_folds(self._tracing, self._logic.place.unit, rows)
        oldest = now_ms() - live[0].received_at if live else None
        self._ports.observe(self._logic.place.unit, len(rows), time.perf_counter() - started, oldest)

    def _is_due(self, watermark: int) -> bool:
        due = self._logic.next_due()
        return due is not None and due <= watermark

    async def _take(self) -> list[Row]:
        if not self._queue:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), TICK_S)
            except TimeoutError:
                return []
            if time.monotonic() - self._committed_at < BUSY_S:
                await asyncio.sleep(GATHER_S)
        most = self._isolation.most(self._ports.max_batch)
        rows = [self._queue.popleft() for _ in range(min(len(self._queue), most))]
        self._room.set()
        return rows

    def _caught_up(self) -> dict[str, int]:
        queued = {row.kind for row in self._queue}
        ends = {k: self._ports.end_seen_at(k, self._partition) for k in self._logic.kinds if k not in queued}
        return {kind: at for kind, at in ends.items() if at is not None}

    def _journalled(self, effects: Effects, rows: Sequence[Row], entry: JournalEntry) -> Change:
        offsets: dict[str, tuple[int | None, int]] = {}
        for row in rows:
            offsets[row.kind] = (self._stored.get(row.kind), row.offset + 1)
        place = self._logic.place
        # Shards know their partition; for the others their name as the key decides it.
        partition = place.number if place.unit.isdigit() else None
        effects.send("journal", place.unit.encode(), encode(entry), partition)
        self._logic.outbox_number = effects.outbox_number
        change = effects.finish()
        change.offsets = offsets
        change.meta[_PROGRESS] = encode(self._watermark.progress).decode()
        change.meta |= marks(entry)
        return change

    async def _commit(self, change: Change, entry: JournalEntry | None = None) -> None:
        change.sent, change.follows = self._sent, self._number
        self._number = await commit(self._ports.redis, self._logic.place.prefix, self._claim.epoch, change)
        self._journal.committed(self._number, entry)
        self._sent -= change.sent
        self._stored.update({kind: new for kind, (_, new) in change.offsets.items()})
        self._unsent.extend(decode_message(raw) for raw in change.outbox)
        self._committed_at = time.monotonic()
        self._to_send.set()

    _committed_at = 0.0

    async def _trim(self) -> None:
        if self._sent and time.monotonic() - self._committed_at > TRIM_AFTER_S:
            await self._commit(Change(feed=b""))

    async def _send_loop(self) -> None:
        while not self._lost:
            await self._to_send.wait()
            self._to_send.clear()
            while self._unsent:
                generation = self._generation
                batch = next_batch(self._unsent)
                await _until_sent(lambda b=batch: self._ports.send(self._logic.place.unit, b))  # type: ignore[misc]
                if generation == self._generation:
                    for _ in batch:
                        self._unsent.popleft()
                    self._sent += len(batch)


async def _until_sent(attempt: Callable[[], Awaitable[None]]) -> None:
    delay = 0.05
    while True:
        try:
            return await attempt()
        except Exception as error:
            log.warning("outbox not sent", why=str(error))
            await asyncio.sleep(delay)
            delay = min(2.0, delay * 2)


def _decode_progress(text: str) -> Progress:
    return msgspec.json.decode(text, type=Progress)
