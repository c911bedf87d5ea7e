"""What the broker holds of a topic-partition: its first offset, and the next it will give out."""

import asyncio
from collections import defaultdict
from collections.abc import Collection
from typing import Any

import aiokafka
from aiokafka.errors import KafkaError, LeaderNotAvailableError, TopicAuthorizationFailedError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

# The embedded broker answers a fetch that may not wait with nothing at all. With no bytes wished for, brokers
# answer at once anyway.
MAX_WAIT_MS = 100
NO_BYTES = 0
AS_LITTLE_AS_CAN_BE = 1
READ_UNCOMMITTED = 0
RETRY_S = 0.1


async def log_bounds(
    consumer: aiokafka.AIOKafkaConsumer, tps: Collection[TopicPartition], timeout_s: float
) -> dict[TopicPartition, tuple[int, int]]:
    """Return first and end offset of each topic-partition; runs on the consumer's own loop.

    The broker is asked twice for the end: the embedded one answers that question with the start of its last
    batch plus one, and only tells the truth beside fetched records.

    Raises
    ------
    TimeoutError
        If an end is not told in time.
    TopicAuthorizationFailedError
        If the topic may not be read.
    """
    wanted = [TopicPartition(*tp) for tp in tps]
    first = await consumer.beginning_offsets(wanted)
    listed = await consumer.end_offsets(wanted)
    try:
        async with asyncio.timeout(timeout_s):
            seen = await _patiently_fetched_ends(consumer._client, listed)
    except TimeoutError:
        topics = ", ".join(sorted({tp.topic for tp in wanted}))
        raise TimeoutError(f"the broker told no ends of {topics} within {timeout_s:g} s") from None
    return {tp: (first[tp], max(listed[tp], seen[tp])) for tp in wanted}


async def _patiently_fetched_ends(client: Any, near: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
    while True:
        try:
            return await _fetched_ends(client, near)
        except KafkaError as error:
            if not error.retriable:
                raise
            await client.force_metadata_update()
            await asyncio.sleep(RETRY_S)


async def _fetched_ends(client: Any, near: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Fetch as little as can be from near the ends, for the high watermarks that come along."""
    ends: dict[TopicPartition, int] = {}
    for node, led in _by_leader(client.cluster, near).items():
        response = await client.send(node, _request(led, near))
        for topic, partitions in response.topics:
            for partition, error, end, *_ in partitions:
                if error == 0:
                    ends[TopicPartition(topic, partition)] = end
                elif error == TopicAuthorizationFailedError.errno:
                    raise TopicAuthorizationFailedError(topic)
    if len(ends) < len(near):
        raise LeaderNotAvailableError(f"no high watermark of {sorted(set(near) - set(ends))}")
    return ends


def _by_leader(cluster: Any, tps: Collection[TopicPartition]) -> dict[int, list[TopicPartition]]:
    led: dict[int, list[TopicPartition]] = defaultdict(list)
    for tp in tps:
        leader = cluster.leader_for_partition(tp)
        if leader is None or leader < 0:
            raise LeaderNotAvailableError(tp)
        led[leader].append(tp)
    return led


def _request(tps: Collection[TopicPartition], near: dict[TopicPartition, int]) -> FetchRequest:
    topics: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for tp in tps:
        topics[tp.topic].append((tp.partition, near[tp], AS_LITTLE_AS_CAN_BE))
    return FetchRequest(MAX_WAIT_MS, NO_BYTES, AS_LITTLE_AS_CAN_BE, READ_UNCOMMITTED, list(topics.items()))
