"""The raw events of one subject, read from the topics: Kafka keeps them for a time, the store never does."""

from collections.abc import AsyncIterator, Collection
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from msgspec import Struct

from state.clients import kafka_security
from state.erasure import subjects_named
from state.settings import Settings
from state.topics import topic_name, topic_specs

KINDS = ("impressions", "clicks", "feedback", "users", "decisions", "outcomes", "deadletters")
_PATIENCE_MS = 1_000


class RawEvent(Struct):
    """One record of a topic; ``event`` is its value, as text where it is no JSON."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    event: Any


async def read_raw_events(settings: Settings, subjects: Collection[str]) -> list[RawEvent]:
    """Return every record about one of the subjects, up to the ends the topics have now or a little later."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        **kafka_security(settings),
    )
    found = []
    async with consumer:
        async for record in _records(consumer, settings):
            if subjects_named(record.key, record.value).intersection(subjects):
                place = (record.topic, record.partition, record.offset, record.timestamp)
                found.append(RawEvent(*place, _readable(record.value)))
    return sorted(found, key=_when)


async def _records(consumer: Any, settings: Settings) -> AsyncIterator[Any]:
    names = {topic_name(settings.namespace, kind) for kind in KINDS}
    specs = topic_specs(settings.namespace, settings.shards, settings.item_shards, settings.lanes)
    held = [TopicPartition(s.name, n) for s in specs if s.name in names for n in range(s.partitions)]
    consumer.assign(held)
    starts, ends = await consumer.beginning_offsets(held), await consumer.end_offsets(held)
    left = {tp for tp in held if starts[tp] < ends[tp]}
    while left:
        for records in (await consumer.getmany(*left, timeout_ms=_PATIENCE_MS)).values():
            # Not cut at the end: of its last batch's records the embedded broker counts one alone.
            for record in records:
                yield record
        left = {tp for tp in left if await consumer.position(tp) < ends[tp]}


def _readable(value: bytes | None) -> Any:
    try:
        return msgspec.json.decode(value or b"null")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return (value or b"").decode(errors="replace")


def _when(event: RawEvent) -> tuple[int, str, int, int]:
    return event.timestamp_ms, event.topic, event.partition, event.offset
