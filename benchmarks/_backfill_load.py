"""History for the benchmark of imports: clicks of many visitors, as a file and as plain records."""

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path

from aiokafka import AIOKafkaProducer

from benchmarks._publish import BATCH_BYTES
from state.events import Click, encode
from state.outbox import IMPORT_HEADER, NUMBER_HEADER, SENT_AT_ONCE
from state.partition import shard_of
from state.settings import Settings
from state.topics import topic_name

SPAN_MS = 30 * 86_400_000


def clicks(rows: int, seed: int) -> Iterator[Click]:
    """Yield clicks in time order: a visitor in ten rows, popular items more often."""
    source, end = random.Random(seed), time.time_ns() // 1_000_000
    users, items = max(10, rows // 10), max(100, rows // 50)
    for number in range(rows):
        at_ms = end - SPAN_MS + number * SPAN_MS // rows
        user = f"visitor-{source.randrange(users)}"
        item = f"item-{int(items * source.random() ** 2)}"
        yield Click(
            event_id=f"click-{number}",
            occurred_at=at_ms,
            session_id=f"{user}-{at_ms // 86_400_000}",
            user_id=user,
            item_id=item,
            surface="home",
        )


def write_file(path: Path, rows: int, seed: int) -> None:
    """Write the clicks as JSON Lines."""
    with path.open("wb") as file:
        for click in clicks(rows, seed):
            file.write(encode(click) + b"\n")


async def publish_plainly(settings: Settings, rows: int, seed: int) -> float:
    """Publish the same bytes by a plain producer, nothing else done to them; returns the seconds it took."""
    records = [(click, encode(click)) for click in clicks(rows, seed)]
    options = {"max_batch_size": BATCH_BYTES, "max_request_size": 8 * BATCH_BYTES}
    mark = (IMPORT_HEADER, b"floor@0123456789abcdef")
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all", **options) as producer:
        topic, started = topic_name(settings.namespace, "clicks"), time.perf_counter()
        for first in range(0, rows, SENT_AT_ONCE):
            waiting = [
                await producer.send(
                    topic,
                    value=raw,
                    key=click.subject.encode(),
                    partition=shard_of(click.subject, settings.shards),
                    timestamp_ms=click.occurred_at,
                    headers=[mark, (NUMBER_HEADER, b"%d" % number)],
                )
                for number, (click, raw) in enumerate(records[first : first + SENT_AT_ONCE], first + 1)
            ]
            await asyncio.gather(*waiting)
        return time.perf_counter() - started
