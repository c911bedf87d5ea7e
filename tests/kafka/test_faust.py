"""A plain Faust worker reads everything from whichever broker the tests run on."""

import signal
import subprocess
import sys
import threading

from aiokafka import AIOKafkaProducer

from headwater.embedded import EmbeddedRuntime
from state.topics import TopicSpec, create_topics, topic_name

COUNT = 200
TIMEOUT_S = 60


async def produce(bootstrap: str, topic: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for number in range(COUNT):
            await producer.send(topic, str(number).encode(), key=str(number).encode())
        await producer.flush()


def read(bootstrap: str, topic: str) -> set[int]:
    """Run a worker until it has read every number or the time is over, and return what it has read."""
    command = [sys.executable, "-m", "tests.kafka.plain_faust", bootstrap, topic]
    seen: set[int] = set()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        limit = threading.Timer(TIMEOUT_S, worker.kill)
        limit.start()
        for line in worker.stdout:
            if line.startswith("read "):
                seen.add(int(line.split()[1]))
            if len(seen) == COUNT:
                worker.send_signal(signal.SIGTERM)
        limit.cancel()
    return seen


async def test_a_plain_faust_worker_reads_every_record(runtime: EmbeddedRuntime, namespace: str) -> None:
    topic = topic_name(namespace, "clicks")
    await create_topics(runtime.kafka, [TopicSpec(topic, 4)])
    await produce(runtime.kafka, topic)
    assert read(runtime.kafka, topic) == set(range(COUNT))
