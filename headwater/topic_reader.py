"""Reads a topic to the end it has now, record by record and in bounded memory."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from state.clients import kafka_security
from state.settings import Settings
from state.topics import TopicError, topic_name
from stream.log_bounds import log_bounds

PATIENCE_S = 30.0
_POLL_MS = 500
_MOST_RECORDS = 500
# Bounds what is fetched ahead, whatever the topic holds.
_FETCH_BYTES = 4 * 1024 * 1024

Positions = dict[TopicPartition, int]


async def read_to_end(
    settings: Settings, kind: str, *, since_ms: int = 0, starts: Mapping[int, int] | None = None
) -> AsyncGenerator[Any, None]:
    """Yield the records a topic holds at the time of the call; each partition's in order.

    Parameters
    ----------
    settings
        Of the namespace.
    kind
        Topic kind.
    since_ms
        Kafka timestamp records begin at; some older ones may come before it.
    starts
        Partition -> offset to begin at; other partitions are not read. None is all, from the beginning.

    Raises
    ------
    TopicError
        If the topic is missing, or the broker sends nothing for half a minute.
    """
    topic = topic_name(settings.namespace, kind)
    async with AsyncExitStack() as stack:
        consumer = _consumer(settings)
        stack.push_async_callback(consumer.stop)  # also where it cannot be started
        await consumer.start()
        wanted = await _partitions(consumer, topic, starts)
        consumer.assign(wanted)
        held = await log_bounds(consumer, wanted, PATIENCE_S)
        ends = {tp: end for tp, (first, end) in held.items() if end > first}
        for tp, at in (await _first_wanted(consumer, held, since_ms, starts or {})).items():
            consumer.seek(tp, at)
        async for record in _read(consumer, ends):
            yield record


def _consumer(settings: Settings) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        bootstrap_servers=settings.kafka,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_bytes=_FETCH_BYTES,
        **kafka_security(settings),
    )


async def _partitions(
    consumer: AIOKafkaConsumer, topic: str, starts: Mapping[int, int] | None
) -> list[TopicPartition]:
    # The public call gives the names alone, and asking for one topic makes it where that is allowed.
    found = (await consumer._client.fetch_all_metadata()).partitions_for_topic(topic)
    if not found:
        raise TopicError(f"topic {topic} is missing: headwater topics create makes it")
    return [
        TopicPartition(topic, number) for number in sorted(found if starts is None else found & set(starts))
    ]


async def _first_wanted(
    consumer: AIOKafkaConsumer,
    held: Mapping[TopicPartition, tuple[int, int]],
    since_ms: int,
    starts: Mapping[int, int],
) -> Positions:
    if not since_ms:
        return {tp: max(first, starts.get(tp.partition, 0)) for tp, (first, _) in held.items()}
    found = await consumer.offsets_for_times(dict.fromkeys(held, since_ms))
    places: Positions = {}
    for tp, (first, end) in held.items():
        answer = found.get(tp)
        # The embedded broker may not know, and then says so by a timestamp below zero.
        places[tp] = end if answer is None else answer.offset if answer.timestamp >= 0 else first
    return places


async def _read(consumer: AIOKafkaConsumer, ends: Positions) -> AsyncGenerator[Any, None]:
    heard_at = time.monotonic()
    while left := [tp for tp, end in ends.items() if await consumer.position(tp) < end]:
        batch = await consumer.getmany(*left, timeout_ms=_POLL_MS, max_records=_MOST_RECORDS)
        if batch:
            heard_at = time.monotonic()
        elif time.monotonic() - heard_at > PATIENCE_S:
            raise TopicError(f"the broker sends nothing of {left[0].topic} although it holds more")
        for tp, records in batch.items():
            for record in records:
                if record.offset < ends[tp]:
                    yield record
        await asyncio.sleep(0)
