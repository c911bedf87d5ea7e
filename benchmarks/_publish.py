"""Publishes source events: all at once, or at a steady rate from a process of its own."""

import argparse
import asyncio
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import msgspec
import uvloop
from aiokafka import AIOKafkaProducer

from benchmarks._mix import PER_GROUP, Mix, Sent
from state.events import Decision
from state.settings import Settings
from state.topics import topic_name

BATCH_BYTES = 900_000


async def publish_all(settings: Settings, records: Sequence[Sent]) -> float:
    """Publish records in order, their Kafka timestamps their event times; returns the seconds it took."""
    started = time.perf_counter()
    async with AIOKafkaProducer(
        bootstrap_servers=settings.kafka, max_request_size=8 * BATCH_BYTES
    ) as producer:
        ordered = sorted(records, key=lambda record: (record.kind, record.partition))
        for (kind, partition), held in groupby(ordered, lambda record: (record.kind, record.partition)):
            await _fill(producer, topic_name(settings.namespace, kind), partition, list(held))
    return time.perf_counter() - started


async def _fill(producer: AIOKafkaProducer, topic: str, partition: int, records: list[Sent]) -> None:
    at = 0
    while at < len(records):
        batch, room = producer.create_batch(), BATCH_BYTES
        while at < len(records) and room > len(records[at].value):
            one = records[at]
            if batch.append(key=one.key, value=one.value, timestamp=one.at_ms) is None:
                break
            room, at = room - len(one.value) - 100, at + 1
        batch.close()
        await (await producer.send_batch(batch, topic, partition=partition))


async def publish_steadily(settings: Settings, mix: Mix, rate: float, seconds: float) -> int:
    """Publish groups of the mix at a rate of source events a second, as of now; returns how many events."""
    groups = max(1, round(rate * seconds / PER_GROUP))
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all", linger_ms=0) as producer:
        started = time.perf_counter()
        for number in range(groups):
            await asyncio.sleep(max(0.0, started + number * PER_GROUP / rate - time.perf_counter()))
            for one in mix.group(time.time_ns() // 1_000_000):
                topic = topic_name(settings.namespace, one.kind)
                await producer.send(topic, value=one.value, key=one.key, partition=one.partition)
    return groups * PER_GROUP


def main() -> None:
    """Publish at a steady rate; settings and templates come from files, the truth goes to standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings", type=Path)
    parser.add_argument("templates", type=Path)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--users", type=int, default=2_000)
    given = parser.parse_args()
    settings = msgspec.json.decode(given.settings.read_bytes(), type=Settings)
    templates = msgspec.json.decode(given.templates.read_bytes(), type=list[Decision])
    mix = Mix(settings, templates, given.users)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(publish_steadily(settings, mix, given.rate, given.seconds))
    print(msgspec.json.encode(mix.truth).decode())


if __name__ == "__main__":
    main()
