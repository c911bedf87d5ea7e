"""The main thread's side of the Faust driver: claim, then seek, then read; drop what a seek made stale."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, ClassVar

from faust.tables.manager import TableManager
from faust.tables.recovery import RebalanceAgain
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from stream.bundles import Bundle, Lease
from stream.faust_thread import ConsumerThread

HOLD = -1
ROOM_WAIT_S = 0.02
HINT_TIMEOUT_S = 1.0


class NoReadOffsets(dict[TP, int | None]):
    """Faust's memory of the last offset read, switched off.

    With it Faust would drop records after a seek backwards, and take the offset jump between two bundles for
    a gap in the log. Leases decide what is current instead.
    """

    def __getitem__(self, tp: TP) -> None:
        return None

    def __setitem__(self, tp: TP, offset: int | None) -> None:
        """Forget it."""

    def update(self, *_args: Any, **_kwargs: Any) -> None:
        """Forget it."""


class Consumer(driver.Consumer):
    """Faust's consumer, reading from positions the application claims."""

    app: Any  # the EngineApp, which knows this module and not the other way round
    _thread: ConsumerThread

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._read_offset = NoReadOffsets()
        self._leases: dict[TP, Lease] = {}
        self._claimed: frozenset[TP] = frozenset()
        self._claiming: asyncio.Future[Mapping[TP, int]] | None = None
        self._room = asyncio.Event()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- claim, seek, release

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Claim what was assigned and seek to where the application says; called once an assignment."""
        # Of two rebalances in quick succession the first may have turned the flow on again. Faust turns it on
        # after this call, and then empties all buffers: nothing may have got there before.
        self.stop_flow()
        self.app.flow_control.suspend()
        assigned = frozenset(TP(*tp) for tp in self.assignment())
        if assigned:
            await self.reposition(await self._claim(assigned), assigned)
        # Nothing to note: Faust keeps this for bookkeeping that leases have taken over.
        return {}

    async def _claim(self, assigned: frozenset[TP]) -> Mapping[TP, int]:
        self._claimed = assigned
        claiming = self._claiming = asyncio.ensure_future(self.app.positions.claim(assigned))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # A rebalance during the claim cancels the claim alone; Faust then waits for the next assignment.
            if claiming.cancelled():
                raise RebalanceAgain from None
            claiming.cancel()
            raise

    async def reposition(self, positions: Mapping[TP, int], tps: Iterable[TP]) -> None:
        """End the leases of `tps`, and read them on from `positions` under new ones.

        Parameters
        ----------
        positions
            Next offset to read; `HOLD` stops the reading, none starts where the group left off.
        tps
            What to reposition.
        """
        leases = {TP(*tp): _lease(tp, positions.get(tp)) for tp in tps}
        self._end(leases)
        # In place before the thread seeks, so that a rebalance meanwhile can end them.
        self._leases.update(leases)
        try:
            await self._thread.settle(leases)
        except BaseException:
            self._end(tp for tp, lease in leases.items() if self._leases.get(tp) is lease)
            raise

    def _end(self, tps: Iterable[TP]) -> None:
        for tp in list(tps):
            lease = self._leases.pop(tp, None)
            if lease is not None:
                lease.end()
            self._committed_offset.pop(tp, None)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Give everything back before the group hands it to others."""
        if self._claiming is not None and not self._claiming.done():
            self._claiming.cancel()
            await asyncio.wait([self._claiming])
        await self._commit_hint()
        self._end(revoked)
        self._buffered_partitions.difference_update(revoked)
        await super().on_partitions_revoked(revoked)
        await self.release(revoked)

    async def release_all(self) -> None:
        """Give everything back, at the end."""
        await self._commit_hint()
        await self.release(self._claimed)

    async def release(self, tps: Collection[TP]) -> None:
        """Tell the application what is no longer its own."""
        released = self._claimed.intersection(tps)
        self._claimed -= released
        self._end(released)
        if not released:
            return
        try:
            await asyncio.wait_for(self.app.positions.release(released), self.app.engine.release_timeout_s)
        except TimeoutError:
            # The next owner's claim fences us, so going on is safe; staying would hold up the whole group.
            self.log.warning("Release of %d topic-partitions took too long; going on", len(released))
        except Exception as error:
            await self.app.crash(error)

    @property
    def owned(self) -> frozenset[TP]:
        """What has been claimed and not been released."""
        return self._claimed

    def lease_of(self, tp: TP) -> Lease | None:
        """Return the lease under which a topic-partition is read now, if any."""
        return self._leases.get(tp)

    @property
    def thread(self) -> ConsumerThread:
        """The consumer thread, for what it alone knows."""
        return self._thread

    # -- reading

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:  # noqa: ASYNC109
        """Yield the current bundles of one poll."""
        records, _ = await self._wait_next_records(timeout)
        if not records or self.should_stop:
            return
        for tp, bundle in self.scheduler.iterate(records):
            if await self._is_wanted(bundle.lease):
                yield tp, self._to_message(tp, bundle)

    async def _is_wanted(self, lease: Lease | None) -> bool:
        """Tell whether a bundle counts, once the flow is on.

        A fetch on its way since before a rebalance may bring records from after the seek while the flow is
        still off. Nobody would read those again: they wait, where Faust drops them and seeks anew.
        """
        while lease is not None and lease.live and not self.flow_active and not self.should_stop:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type]
        return lease is not None and lease.live

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ASYNC109
        """Wait for records, and for room: where a buffer is full Faust looks again after a whole second."""
        while self.flow_active and not self._active_partitions and not self.should_stop:
            self._room.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._room.wait(), ROOM_WAIT_S)
        return await super()._wait_next_records(ROOM_WAIT_S if self._buffered_partitions else timeout)

    def on_buffer_drop(self, tp: TP) -> None:
        """Go on reading what was paused because its buffer was full."""
        super().on_buffer_drop(tp)
        self._room.set()

    def _to_message(self, tp: TP, record: Bundle) -> ConsumerMessage:
        return ConsumerMessage(
            topic=record.topic,
            partition=record.partition,
            offset=record.offsets[-1],
            timestamp=record.timestamps_ms[-1] / 1000.0,
            timestamp_type=0,
            headers=None,
            key=None,
            value=record,  # type: ignore[arg-type]
            checksum=None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    # -- committing: what handlers have returned from, as a hint for lag tools

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in list(self._leases) if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        lease = self._leases.get(tp)
        return lease.handled_to if lease is not None and lease.is_reading else None

    async def _commit_hint(self) -> None:
        """Commit what is handled while we may; nobody waits long for a hint."""
        if self._leases:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.commit(), HINT_TIMEOUT_S)

    async def verify_all_partitions_active(self) -> None:
        """Do nothing: Faust's livelock detector reads its own acks, which are switched off."""


class NoTables(TableManager):
    """Faust's table manager, which also starts the reading; it need not wait a second for tables to come."""

    async def on_start(self) -> None:
        """Begin at once."""
        await self._update_channels()
        await self.recovery.start()


class Producer(driver.Producer):
    """Faust's producer with the engine's own security options."""

    app: Any

    def _settings_auth(self) -> Mapping[str, Any]:
        return dict(self.app.engine.security)


class Transport(driver.Transport):
    """Faust's Kafka transport with our consumer and producer."""

    Consumer: ClassVar[Any] = Consumer
    Producer: ClassVar[Any] = Producer


def _lease(tp: TP, start: int | None) -> Lease:
    topic, partition = tp
    return Lease(topic, partition, start, held=start is not None and start < 0)
