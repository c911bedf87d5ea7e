"""A traced decision carries its trace into Kafka, and one that is not traced carries nothing."""

import asyncio
import uuid
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from headwater.embedded import EmbeddedRuntime
from serving.logbook import Logbook
from serving.metrics import ServerMetrics
from state.events import Decision
from state.topics import create_topics, topic_specs
from state.tracing import TRACE_HEADER
from tests.stream.folding import decision

TRACE = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


async def test_a_decision_carries_the_trace_of_its_request(runtime: EmbeddedRuntime) -> None:
    namespace = f"t{uuid.uuid4().hex[:12]}"
    await create_topics(runtime.kafka, topic_specs(namespace, 1), 1)
    plain, traced = (decision(["i1"], number=number).event for number in (1, 2))
    assert isinstance(plain, Decision)
    assert isinstance(traced, Decision)
    async with AIOKafkaProducer(bootstrap_servers=runtime.kafka) as producer:
        logbook = Logbook(producer, f"{namespace}.decisions", ServerMetrics())
        for event in (plain, traced):
            logbook.put(event, 0)
        logbook.join(traced.event_id, TRACE)
        logbook.join(plain.event_id, "of another decision")
        sending = asyncio.create_task(logbook.run())
        assert await logbook.drain(10.0) == 0
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending
    consumer = AIOKafkaConsumer(
        f"{namespace}.decisions", bootstrap_servers=runtime.kafka, auto_offset_reset="earliest"
    )
    async with consumer:
        records = [await asyncio.wait_for(consumer.getone(), 10.0) for _ in range(2)]
    assert [list(record.headers) for record in records] == [[], [(TRACE_HEADER, TRACE.encode())]]
