"""Three real brokers: topics are kept on all of them, and the loss of one loses nothing."""

import os
from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from state.topics import TopicSpec, check_topics, create_topics, topic_name, topic_specs
from tests.kafka.cluster import KafkaCluster

pytestmark = pytest.mark.kafka
PARTITIONS = 3


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    with KafkaCluster(os.environ.get("TEST_KAFKA_VERSION", "4.x"), size=3) as running:
        yield running


async def produce(cluster: KafkaCluster, topic: str, numbers: range) -> None:
    async with AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, acks="all") as producer:
        for number in numbers:
            await producer.send_and_wait(topic, str(number).encode(), partition=number % PARTITIONS)


async def read(cluster: KafkaCluster, topic: str, count: int) -> list[int]:
    async with AIOKafkaConsumer(
        bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest"
    ) as consumer:
        consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
        return sorted([int((await consumer.getone()).value) for _ in range(count)])


async def test_each_partition_is_kept_on_three_brokers(cluster: KafkaCluster, namespace: str) -> None:
    specs = topic_specs(namespace, shards=PARTITIONS)
    await create_topics(cluster.bootstrap, specs, replication=3)
    assert await check_topics(cluster.bootstrap, specs) == []
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    await admin.start()
    topics = await admin.describe_topics([spec.name for spec in specs])
    await admin.close()
    assert {len(part["replicas"]) for topic in topics for part in topic["partitions"]} == {3}


async def test_a_killed_broker_loses_nothing_and_comes_back(cluster: KafkaCluster, namespace: str) -> None:
    topic = topic_name(namespace, "clicks")
    await create_topics(cluster.bootstrap, [TopicSpec(topic, PARTITIONS)], replication=3)
    await produce(cluster, topic, range(60))
    cluster.brokers[1].kill()
    await produce(cluster, topic, range(60, 120))
    cluster.brokers[1].restart()
    cluster.brokers[0].kill()
    await produce(cluster, topic, range(120, 150))
    assert await read(cluster, topic, 150) == list(range(150))
    cluster.brokers[0].restart()
