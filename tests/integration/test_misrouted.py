"""Events that a foreign partitioner put on the wrong shard are counted exactly once, at their owner.

librdkafka's default partitioner is CRC32 of the key, Java's and ours murmur2. librdkafka does not understand
the embedded broker, so there the same records are sent to the same wrong partitions by other means.
"""

import asyncio
import signal
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

from headwater.demo.counts import Folded
from headwater.embedded import EmbeddedRuntime
from state.events import Click, Feedback, encode
from state.partition import shard_of
from state.settings import Settings
from state.topics import topic_name
from tests.integration.rig import Processes, Rig, click_on, engine_settings, feedback_on, is_alive

SHARDS = 8
USERS = 150
CLICKS, LIKES = 2400, 600
# Longer than any worker is away here: an event that travels twice must not be late for it.
LATENESS_S = 12_000.0

Visit = Click | Feedback
Send = Callable[[Settings, Sequence[Visit]], Awaitable[None]]


def kind_of(event: Visit) -> str:
    return "clicks" if isinstance(event, Click) else "feedback"


def crc32_partition(subject: str) -> int:
    return zlib.crc32(subject.encode()) % SHARDS


def visits() -> list[Visit]:
    """Clicks and likes of many users, each user's of items of their own."""
    users = [f"user-{n}" for n in range(USERS)]
    return [
        *(click_on(users[n % USERS], f"item-{n // USERS}") for n in range(CLICKS)),
        *(feedback_on(users[n % USERS], f"item-{CLICKS + n}") for n in range(LIKES)),
    ]


async def send_by_librdkafka(settings: Settings, events: Sequence[Visit]) -> None:
    """Send with confluent-kafka as it comes; check that it put each event where CRC32 says."""
    from confluent_kafka import Producer

    placed: list[tuple[str, int]] = []

    def delivered(error: object, message: object) -> None:
        assert error is None, error
        placed.append((message.key().decode(), message.partition()))  # type: ignore[attr-defined]

    def send() -> None:
        producer = Producer({"bootstrap.servers": settings.kafka})
        for event in events:
            topic = topic_name(settings.namespace, kind_of(event))
            producer.produce(topic, encode(event), event.subject, on_delivery=delivered)
            producer.poll(0)
        assert producer.flush(60) == 0

    await asyncio.to_thread(send)
    assert Counter(placed) == Counter((one.subject, crc32_partition(one.subject)) for one in events)


@pytest.fixture
async def wide(runtime: EmbeddedRuntime, namespace: str) -> AsyncIterator[Rig]:
    settings = engine_settings(runtime.kafka, runtime.redis, namespace, shards=SHARDS, lateness_s=LATENESS_S)
    with Processes(settings) as processes:
        async with Rig(processes) as running:
            yield running


async def assert_each_counts_once_at_its_owner(rig: Rig, send: Send) -> None:
    """Three workers, one of them killed among the events: records and counters equal what was sent."""
    events = visits()
    wrong = [one for one in events if crc32_partition(one.subject) != shard_of(one.subject, SHARDS)]
    assert len(wrong) > len(events) / 2
    first, *others = await rig.start(workers=3, servers=0)
    before = await rig.epochs()
    await send(rig.settings, events[: len(events) // 2])
    await some_folded(rig)
    first.send_signal(signal.SIGKILL)
    await send(rig.settings, events[len(events) // 2 :])
    await rig.ended(first)
    folded = await rig.counts(clicks=CLICKS, feedback=LIKES)
    assert (folded.subjects["clicks"], folded.subjects["feedback"]) == (CLICKS, LIKES)
    assert folded.subjects["forwarded"] == len(wrong)
    assert folded.refused == 0
    assert not [name for name in folded.subjects if name.endswith(".late")], folded.subjects
    for user in {one.subject for one in events}:
        record = await rig.subject(user)
        wished = Counter(kind_of(one) for one in events if one.subject == user)
        assert (record.events, record.clicks) == (wished.total(), wished["clicks"]), user
    assert all(map(is_alive, others))
    assert any(epoch > before[unit] for unit, epoch in (await rig.epochs()).items()), "nobody was replaced"


async def some_folded(rig: Rig) -> Folded:
    return await rig.counts(forwarded=100, clicks=100)


async def test_events_on_wrong_shards_count_once_at_their_owners_while_a_worker_dies(wide: Rig) -> None:
    async def send(settings: Settings, events: Sequence[Visit]) -> None:
        for event in events:
            topic, key = topic_name(settings.namespace, kind_of(event)), event.subject.encode()
            partition = crc32_partition(event.subject)
            await wide.producer.send(topic, encode(event), key=key, partition=partition)
        await wide.producer.flush()

    await assert_each_counts_once_at_its_owner(wide, send)


@pytest.mark.kafka
async def test_what_librdkafka_sends_with_its_defaults_counts_once_while_a_worker_dies(wide: Rig) -> None:
    await assert_each_counts_once_at_its_owner(wide, send_by_librdkafka)
