"""Where a log begins and ends, told truly of every broker."""

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from headwater.embedded import EmbeddedRuntime
from stream.log_bounds import log_bounds
from tests.stream.engine_kit import make_topics


async def test_a_log_ends_behind_every_record_of_its_last_batch(
    runtime: EmbeddedRuntime, namespace: str
) -> None:
    await make_topics(runtime.kafka, {namespace: 2})
    filled, empty = TopicPartition(namespace, 0), TopicPartition(namespace, 1)
    producer = AIOKafkaProducer(bootstrap_servers=runtime.kafka)
    async with producer, AIOKafkaConsumer(bootstrap_servers=runtime.kafka) as consumer:
        for size in (1, 3):
            batch = producer.create_batch()
            for _ in range(size):
                batch.append(key=None, value=b"a record", timestamp=None)
            batch.close()
            await (await producer.send_batch(batch, namespace, partition=0))
        assert await log_bounds(consumer, [filled, empty], 10.0) == {filled: (0, 4), empty: (0, 0)}


async def test_a_broker_that_does_not_tell_in_time_is_named_with_the_topic_and_the_time(
    runtime: EmbeddedRuntime, namespace: str
) -> None:
    await make_topics(runtime.kafka, {namespace: 1})
    async with AIOKafkaConsumer(bootstrap_servers=runtime.kafka) as consumer:
        with pytest.raises(TimeoutError, match=rf"ends of {namespace} within 0\.0001 s"):
            await log_bounds(consumer, [TopicPartition(namespace, 0)], 0.0001)
