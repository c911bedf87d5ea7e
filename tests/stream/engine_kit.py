"""What the engine's tests share: topics, records, a claimer that remembers, a handler that collects."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import TopicPartition

from stream.engine import Bundle, EngineSettings

# Apache Kafka refuses sessions under 6 s by default; joining the embedded broker takes half a session.
SESSION_TIMEOUT_S = 6.0 if "HEADWATER_TEST_KAFKA" in os.environ else 2.0
PATIENCE_S = 30.0


def settings(bootstrap: str, group: str, **changes: Any) -> EngineSettings:
    """Return engine settings for a test."""
    defaults: dict[str, Any] = {"session_timeout_s": SESSION_TIMEOUT_S, "heartbeat_s": 0.3}
    return EngineSettings(bootstrap=bootstrap, group=group, **{**defaults, **changes})


async def make_topics(bootstrap: str, partitions: Mapping[str, int]) -> None:
    """Create topics and return when the broker knows them."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, count, 1) for name, count in partitions.items()])
        while len(await admin.describe_topics(list(partitions))) < len(partitions):
            await asyncio.sleep(0.05)
    finally:
        await admin.close()


class Publisher:
    """Sends records to given partitions and waits until the broker has them."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=1)

    async def __aenter__(self) -> "Publisher":
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def send(
        self, topic: str, values: Sequence[bytes | None], partition: int = 0, **options: Any
    ) -> None:
        """Send values in order to one partition."""
        acknowledged = [
            await self._producer.send(topic, value, partition=partition, **options) for value in values
        ]
        await asyncio.gather(*acknowledged)


class KnownPositions:
    """Claims with the positions it was told, and remembers what happened in which order."""

    def __init__(self, positions: Mapping[tuple[str, int], int] | None = None) -> None:
        self.positions = dict(positions or {})
        self.claims: list[frozenset[tuple[str, int]]] = []
        self.releases: list[frozenset[tuple[str, int]]] = []

    async def claim(self, assigned: frozenset[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
        self.claims.append(assigned)
        return {tp: self.positions[tp] for tp in assigned if tp in self.positions}

    async def release(self, revoked: frozenset[tuple[str, int]]) -> None:
        self.releases.append(revoked)


class Collector:
    """A handler that keeps what it is given."""

    def __init__(self) -> None:
        self.bundles: list[Bundle] = []

    async def __call__(self, bundle: Bundle) -> None:
        self.bundles.append(bundle)

    def offsets(self, topic: str, partition: int = 0) -> list[int]:
        """Offsets in the order they came."""
        return [
            offset
            for bundle in self.bundles
            if (bundle.topic, bundle.partition) == (topic, partition)
            for offset in bundle.offsets
        ]

    def values(self) -> list[bytes | None]:
        """All values, in the order they came."""
        return [value for bundle in self.bundles for value in bundle.values]


def numbered(count: int, start: int = 0) -> list[bytes | None]:
    """Return values that tell their place."""
    return [b"%d" % (start + i) for i in range(count)]


async def until(condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> None:
    """Wait until a condition holds; fail if it does not come."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


async def committed(bootstrap: str, group: str, tps: Sequence[tuple[str, int]]) -> list[int | None]:
    """Return what a group has committed."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        return [await consumer.committed(TopicPartition(*tp)) for tp in tps]
    finally:
        await consumer.stop()
