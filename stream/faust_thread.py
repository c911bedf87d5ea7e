"""The consumer thread's side of the Faust driver: all that touches the aiokafka consumer."""

import asyncio
from collections.abc import Collection, Coroutine, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import aiokafka
import uvloop
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.consumer import RecordMap, ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stream.bundles import Batch, Lease
from stream.fetch_times import DatedConsumer
from stream.log_bounds import log_bounds

T = TypeVar("T")


class PositionError(RuntimeError):
    """A position outside what the broker holds: the topic was made anew, or its records have expired."""


class Progress:
    """How far one topic-partition is read, all of one moment.

    Attributes
    ----------
    position
        Next offset to fetch.
    end
        Next offset the broker will give out, None before its first answer.
    end_seen_ms
        Unix time at which the broker was asked for the answer that said so, None before it.
    read_to
        Next offset after the last record fetched.
    lease
        Under which this was read.
    """

    __slots__ = ("end", "end_seen_ms", "lease", "position", "read_to")

    def __init__(self, state: Any, lease: Lease) -> None:
        self.position: int = state.position
        self.end: int | None = state.highwater
        self.end_seen_ms: int | None = state.timestamp
        self.read_to = lease.read_to
        self.lease = lease

    @property
    def at_end(self) -> bool:
        """Whether nothing was left to fetch when the broker last answered."""
        return self.end is not None and self.position >= self.end


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread with our fetch wait, and with every batch stamped with its lease.

    Stamping happens here because only here is it certain which position a batch was read from: seeks and
    fetches run on this thread's loop, with no await between a fetch and its stamp.
    """

    app: Any  # the EngineApp, which knows this module and not the other way round

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, thread_loop=uvloop.new_event_loop(), **options)
        self._close_thread_loop_on_stop = True
        self._leases: dict[TopicPartition, Lease] = {}

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:  # noqa: ARG002
        engine = self.app.engine
        # Faust's assignor keeps partition p of all topics with equal counts together; the round robin that
        # Faust takes for apps without tables does not. Positions are always set by us, so a position out of
        # range is an error and never a reason to start elsewhere.
        return DatedConsumer(
            client_id=engine.client_id,
            group_id=self.app.conf.id,
            bootstrap_servers=engine.bootstrap,
            partition_assignment_strategy=[self.app.assignor],
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_poll_interval_ms=_ms(engine.max_poll_interval_s),
            max_partition_fetch_bytes=engine.max_partition_fetch_bytes,
            fetch_max_wait_ms=engine.fetch_max_wait_ms,
            request_timeout_ms=_ms(engine.request_timeout_s),
            session_timeout_ms=_ms(engine.session_timeout_s),
            rebalance_timeout_ms=_ms(engine.rebalance_timeout_s),
            heartbeat_interval_ms=_ms(engine.heartbeat_s),
            **engine.security,
        )

    async def _fetch_records(self, consumer: Any, *args: Any, **options: Any) -> RecordMap:
        try:
            records = await super()._fetch_records(consumer, *args, **options)
        except NoOffsetForPartitionError:
            # Assigned and not yet claimed: a fetch on its way since before a rebalance may find that out.
            return {}
        except OffsetOutOfRangeError as error:
            if any(self._is_read(tp) for tp in error.args[0]):
                raise
            return {}
        return {ensure_TP(tp): self._stamped(tp, batch) for tp, batch in records.items()}

    def _is_read(self, tp: TopicPartition) -> bool:
        lease = self._leases.get(tp)
        return lease is not None and lease.live

    def _stamped(self, tp: TopicPartition, records: list[Any]) -> Batch:
        lease = self._leases.get(tp)
        if lease is not None:
            lease.read_to = records[-1].offset + 1
        return Batch(records, lease)

    async def _run(self, call: Coroutine[Any, Any, T]) -> T:
        """Run something on the thread's loop at once; of the two slots of Faust's queue a fetch takes one."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self.thread_loop))

    async def settle(self, leases: Mapping[TP, Lease]) -> None:
        """Seek to where each lease starts; one without a position starts where the group left off.

        A lease that is no longer ours, or has ended meanwhile, is left alone: whatever ended it settles its
        own, perhaps before this call comes to an end.

        Raises
        ------
        PositionError
            If a lease starts outside what the broker holds.
        """
        await self._run(self._settle({TopicPartition(*tp): lease for tp, lease in leases.items()}))

    async def _settle(self, leases: Mapping[TopicPartition, Lease]) -> None:
        consumer = self._ensure_consumer()
        holds = await log_bounds(consumer, leases.keys(), self.app.engine.request_timeout_s)
        unset = [tp for tp, lease in leases.items() if lease.start is None]
        committed = {tp: await consumer.committed(tp) for tp in unset}
        for tp, lease in leases.items():
            lease.begin(_position(lease, committed.get(tp), holds[tp]))
        # No await from here on: a fetch sees either all the old positions and leases or all the new ones.
        for tp in consumer.assignment() & leases.keys():
            if leases[tp].live:
                self._place(consumer, tp, leases[tp])

    def _place(self, consumer: Any, tp: TopicPartition, lease: Lease) -> None:
        self._leases[tp] = lease
        consumer.seek(tp, lease.read_to)
        if lease.held:
            consumer.pause(tp)
        else:
            consumer.resume(tp)

    async def bounds(self, tps: Collection[TP]) -> Mapping[TP, tuple[int, int]]:
        """Return the first offset the broker holds and the next it will give out, for each."""
        return await self._run(log_bounds(self._ensure_consumer(), tps, self.app.engine.request_timeout_s))

    async def progress(self) -> Mapping[TP, Progress]:
        """Return how far each topic-partition is read, all of one moment; nothing unless the thread runs."""
        if self._consumer is None or self.should_stop:
            return {}
        return await self._run(self._progress())

    async def _progress(self) -> dict[TP, Progress]:
        return {ensure_TP(tp): found for tp in self._leases if (found := self._progress_of(tp)) is not None}

    def peek(self, tp: TopicPartition) -> Progress | None:
        """Return a rough progress without asking the thread: good for lag, not for deciding idleness."""
        return self._progress_of(tp)

    def _progress_of(self, tp: TopicPartition) -> Progress | None:
        lease = self._leases.get(tp)
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = subscription.assignment if subscription is not None else None
        if lease is None or assignment is None or tp not in assignment.tps:
            return None
        state = assignment.state_value(tp)
        return Progress(state, lease) if state.has_valid_position else None

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit, and shrug if it fails: what is committed here is a hint for lag tools, never the truth."""
        consumer = self._ensure_consumer()
        ours = {tp: OffsetAndMetadata(offsets[tp], "") for tp in consumer.assignment() if tp in offsets}
        if not ours:
            return False
        try:
            await consumer.commit(ours)
        except KafkaError as error:
            self.log.warning("Offsets not committed, which loses nothing: %r", error)
            return False
        return True

    def _stopped_set(self) -> None:
        """Tell the thread to stop; after a crash its loop is closed already."""
        with suppress(RuntimeError):
            super()._stopped_set()

    def close(self) -> None:
        """Leave closing to the end of the thread: Faust would close thread-owned connections from outside."""


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _position(lease: Lease, committed: int | None, holds: tuple[int, int]) -> int:
    """Return where to start; refuse what the application asked for and the broker cannot serve."""
    first, end = holds
    if lease.held:
        return first
    if lease.start is None:
        return committed if committed is not None and first <= committed <= end else first
    if not first <= lease.start <= end:
        raise PositionError(
            f"{lease.topic}/{lease.partition} cannot be read from offset {lease.start}: the broker holds"
            f" {first} to {end} (a topic made anew starts at 0 again; expired records are gone)"
        )
    return lease.start
