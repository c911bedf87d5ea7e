"""What a replay reads of the broker: the journal of a unit, and the records its entries name."""

from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from state.clients import kafka_security
from state.outbox import NUMBER_HEADER, SOURCE_HEADER
from state.settings import Settings
from state.topics import topic_name
from stream.journal import InOrder, JournalEntry, JournalError, Mark, Run, decode_entry, journal_partition
from stream.log_bounds import log_bounds
from stream.rows import Row, decode_row

COMPACTED = frozenset({"items"})
_POLL_MS = 500
_PATIENCE, _CALM = 60, 6
_BOUNDS_S = 30.0


def consumer_of(settings: Settings) -> AIOKafkaConsumer:
    """Return a consumer outside of any group, that reads exactly where it is told to."""
    return AIOKafkaConsumer(
        bootstrap_servers=settings.kafka,
        group_id=None,
        auto_offset_reset="none",
        enable_auto_commit=False,
        fetch_max_wait_ms=_POLL_MS,
        **kafka_security(settings),
    )


async def journal_entries(settings: Settings, unit: str, mark: Mark) -> AsyncGenerator[JournalEntry, None]:
    """Yield the entries of a unit that follow a mark, in the order of their commits, up to the present end.

    Raises
    ------
    JournalError
        If one is missing or cannot be read.
    """
    ordered = InOrder(unit, mark)
    async with aclosing(raw_entries(settings, unit)) as entries:
        async for entry in entries:
            ordered.add(entry)
            for ready in ordered.ready():
                yield ready
    for ready in ordered.ready(at_end=True):
        yield ready


async def raw_entries(settings: Settings, unit: str) -> AsyncGenerator[JournalEntry, None]:
    """Yield the entries of a unit as the broker holds them: some twice, or in another order."""
    tp = TopicPartition(topic_name(settings.namespace, "journal"), journal_partition(unit, settings.shards))
    async with consumer_of(settings) as consumer:
        consumer.assign([tp])
        first, end = (await log_bounds(consumer, [tp], _BOUNDS_S))[tp]
        consumer.seek(tp, first)
        while first < end:
            found = await consumer.getmany(tp, timeout_ms=_POLL_MS)
            for record in found.get(tp, ()):
                marks = dict(record.headers)
                if marks.get(SOURCE_HEADER) == unit.encode():
                    yield decode_entry(record.value, int(marks[NUMBER_HEADER]))
            first = await consumer.position(tp)


class UnitLog:
    """The records of one unit's topics, handed out in the order the journal names.

    Parameters
    ----------
    settings
        Of the namespace that is replayed.
    kinds, partition
        Of the unit.
    """

    def __init__(self, settings: Settings, kinds: Sequence[str], partition: int) -> None:
        self._settings, self._partition = settings, partition
        self._tps = {kind: TopicPartition(topic_name(settings.namespace, kind), partition) for kind in kinds}
        self._read: dict[str, deque[Any]] = {kind: deque() for kind in kinds}
        self.missing = 0

    async def __aenter__(self) -> "UnitLog":
        self._consumer = consumer_of(self._settings)
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def begin(self, stored: Mapping[str, int]) -> None:
        """Go to where the state stands."""
        tps = list(self._tps.values())
        self._consumer.assign(tps)
        self._first = await self._consumer.beginning_offsets(tps)
        for kind, tp in self._tps.items():
            self._consumer.seek(tp, max(self._first[tp], stored.get(kind, 0)))

    async def rows(self, order: Sequence[Run]) -> list[Row]:
        """Return the rows of an entry in order, decoded as an agent decodes them.

        Raises
        ------
        JournalError
            If the broker no longer holds them.
        """
        rows: list[Row] = []
        for kind, first, last in order:
            self._check_held(kind, first)
            before = len(rows)
            while (record := await self._next(kind, last)) is not None:
                if record.offset >= first:
                    rows.append(self._row(kind, record))
            self.missing += last + 1 - first - (len(rows) - before)
        return rows

    def _row(self, kind: str, record: Any) -> Row:
        row = Row(kind, self._partition, record.offset, record.timestamp, record.key, record.value)
        return decode_row(row, record.headers, self._settings.max_skew_ms)

    def _check_held(self, kind: str, offset: int) -> None:
        held = self._first[self._tps[kind]]
        if offset < held and kind not in COMPACTED:
            raise self._lost(kind, offset, held)

    def _lost(self, kind: str, offset: int, first: int) -> JournalError:
        return JournalError(
            f"{self._place(kind)} begins at offset {first}; offset {offset} is needed: retention took it; "
            "wished: a snapshot taken later, or a longer retention"
        )

    def _ended(self, kind: str, last: int) -> JournalError:
        held = self._consumer.highwater(self._tps[kind])
        found = "gives nothing" if held is None else f"ends at offset {held}"
        return JournalError(
            f"{self._place(kind)} {found}, the journal names {last}: was it made anew? wished: the topic of "
            "the journal"
        )

    def _place(self, kind: str) -> str:
        return f"topic {self._tps[kind].topic}, partition {self._partition},"

    async def _next(self, kind: str, last: int) -> Any:
        """Return the next record up to an offset; None where there is none."""
        read = self._read[kind]
        if not read and not await self._fill(kind, last):
            return None
        return read.popleft() if read[0].offset <= last else None

    async def _fill(self, kind: str, last: int) -> bool:
        tp, read = self._tps[kind], self._read[kind]
        for polls in range(_PATIENCE):
            at = await self._consumer.position(tp)
            if at > last:
                return False
            try:
                found = await self._consumer.getmany(tp, timeout_ms=_POLL_MS)
            except OffsetOutOfRangeError:
                first = (await self._consumer.beginning_offsets([tp]))[tp]
                raise self._lost(kind, at, first) if at < first else self._ended(kind, last) from None
            read.extend(found.get(tp, ()))
            if read:
                return True
            held = self._consumer.highwater(tp)
            if polls >= _CALM and held is not None and last >= held:
                break
        raise self._ended(kind, last)
