"""``headwater export``: decisions and outcomes from their topics as Parquet files.

A file covers a range of offsets of one partition and appears when it is whole, so that a run that was stopped
goes on after the last file, and a later run adds what has come since. Memory is bounded by a batch of rows.
"""

import asyncio
import importlib.util
from collections import OrderedDict
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from msgspec import Struct, ValidationError

from headwater.console import command_settings, finish
from headwater.export_files import ExportError, Manifest, PartitionFile, check_folder, next_offset
from headwater.export_rows import DECODERS, schemas
from state.clients import kafka_security
from state.settings import Settings
from state.topics import topic_name
from stream.log_bounds import log_bounds

FOREVER = 4_102_444_800_000
ROWS_A_FILE = 20_000
_REMEMBERED = 50_000
_SILENCE_S = 30.0


class Wish(Struct, frozen=True):
    """What to export: event times from ``since`` to before ``until``, ms, and rows a file."""

    into: Path
    since: int = 0
    until: int = FOREVER
    rows_a_file: int = ROWS_A_FILE


class Tally(Struct):
    """What an export did with one topic."""

    rows: int = 0
    files: int = 0
    repeated: int = 0
    unreadable: int = 0


class _Time(click.ParamType):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return ms since 1970 of an ISO date or time, UTC where it names no zone."""
        if isinstance(value, int):
            return value
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time; wished: 2026-01-31 or 2026-01-31T18:00:00+02:00", param, ctx)
        return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


@click.command("export")
@click.option(
    "--into", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the files."
)
@click.option("--since", type=_Time(), default=0, help="First event time, for example 2026-01-31.")
@click.option("--until", type=_Time(), default=FOREVER, help="First event time left out.")
@click.option(
    "--rows-a-file", type=click.IntRange(1), default=ROWS_A_FILE, show_default=True, help="At most."
)
def export(into: Path, since: int, until: int, rows_a_file: int) -> None:
    """Write decisions and outcomes as Parquet; a second run goes on where the first ended."""
    settings = command_settings()
    if importlib.util.find_spec("pyarrow") is None:
        raise click.ClickException("export needs the package pyarrow: pip install headwater[parquet]")
    try:
        tallies = asyncio.run(run_export(settings, Wish(into, since, until, rows_a_file)))
    except (ExportError, OSError) as error:
        raise click.ClickException(str(error)) from None
    finish((True, [_line(kind, tally) for kind, tally in tallies.items()]))


def _line(kind: str, tally: Tally) -> str:
    said = f"{kind}: {tally.rows:,} rows in {tally.files} files, {tally.repeated} repeated"
    return f"{said}, {tally.unreadable} unreadable records left out" if tally.unreadable else said


async def run_export(settings: Settings, wish: Wish) -> dict[str, Tally]:
    """Export both topics up to where they end now; returns what was done with each.

    Raises
    ------
    ExportError
        If the folder holds another export, or the broker is away or falls silent.
    """
    check_folder(wish.into, Manifest(settings.namespace, wish.since, wish.until))
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka, enable_auto_commit=False, auto_offset_reset="earliest",
        **kafka_security(settings),
    )  # fmt: skip
    tallies = {kind: Tally() for kind in DECODERS}
    try:
        await consumer.start()
        for kind, tally in tallies.items():
            topic = topic_name(settings.namespace, kind)
            for partition in range(_partitions(settings, kind)):
                await _Export(consumer, wish, kind, tally).run(TopicPartition(topic, partition))
    except (KafkaError, TimeoutError) as error:
        raise ExportError(f"broker {settings.kafka}: {str(error) or type(error).__name__}") from error
    finally:
        await consumer.stop()
    return tallies


def _partitions(settings: Settings, kind: str) -> int:
    return settings.shards if kind == "decisions" else settings.lanes


class _Export:
    """Exports one partition."""

    def __init__(self, consumer: AIOKafkaConsumer, wish: Wish, kind: str, tally: Tally) -> None:
        self._consumer, self._wish, self._tally = consumer, wish, tally
        self._folder, self._schema = wish.into / kind, schemas()[kind]
        self._decode, self._time = DECODERS[kind]
        self._latest: OrderedDict[str, None] = OrderedDict()

    async def run(self, tp: TopicPartition) -> None:
        self._consumer.assign([tp])
        first, end = (await log_bounds(self._consumer, [tp], _SILENCE_S))[tp]
        start = max(next_offset(self._folder, tp.partition), first)
        if start >= end:
            return
        file = PartitionFile(self._folder, tp.partition, self._schema, start)
        try:
            async for record in self._records(tp, start, end):
                self._take(file, record)
                if file.count >= self._wish.rows_a_file and record.offset + 1 < end:
                    self._kept(file, record.offset)
                    file = PartitionFile(self._folder, tp.partition, self._schema, record.offset + 1)
        except BaseException:
            file.drop()
            raise
        self._kept(file, end - 1)

    def _kept(self, file: PartitionFile, last: int) -> None:
        file.keep(last)
        self._tally.files += 1
        self._tally.rows += file.count

    async def _records(self, tp: TopicPartition, start: int, end: int) -> AsyncIterator[Any]:
        self._consumer.seek(tp, start)
        while await self._consumer.position(tp) < end:
            before = await self._consumer.position(tp)
            found = await self._consumer.getmany(tp, timeout_ms=round(_SILENCE_S * 1000), max_records=500)
            for record in found.get(tp, []):
                if record.offset < end:
                    yield record
            if await self._consumer.position(tp) == before:
                raise ExportError(
                    f"broker gives nothing of {tp.topic}/{tp.partition} from {before} to {end - 1}"
                )

    def _take(self, file: PartitionFile, record: Any) -> None:
        try:
            row = self._decode(record.value or b"")
        except (ValueError, ValidationError):
            self._tally.unreadable += 1
            return
        if not self._wish.since <= row[self._time] < self._wish.until:
            return
        if row["decision_id"] in self._latest:
            self._tally.repeated += 1
            return
        self._latest[row["decision_id"]] = None
        if len(self._latest) > _REMEMBERED:
            self._latest.popitem(last=False)
        file.add(row | {"partition": record.partition, "offset": record.offset})
