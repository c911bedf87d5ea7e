"""A whole engine for a test: its settings, its processes, and everything a test says to it or asks of it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Self

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from headwater.demo.counts import Folded, read_folded
from headwater.demo.run import start_child
from headwater.processes import free_port
from serving.requests import RecommendationAnswer
from state.clients import redis_client
from state.events import (
    EVENT_TYPES,
    Click,
    Event,
    Feedback,
    Impression,
    Item,
    ShownItem,
    SubjectEvent,
    User,
    encode,
)
from state.keys import (
    CONTROL,
    item_unit,
    lane_unit,
    meta_key,
    outbox_key,
    subject_key,
    subject_unit,
    unit_prefix,
)
from state.partition import shard_of
from state.settings import Settings
from state.subject import SubjectRecord, decode_subject
from state.topics import create_topics, topic_name, topic_specs

PATIENCE_S = 120.0
STOP_PATIENCE_S = 30.0
POLL_S = 0.05
# Apache Kafka refuses sessions under 6 s by default; joining the embedded broker takes half a session.
ON_KAFKA = "HEADWATER_TEST_KAFKA" in os.environ
SESSION_TIMEOUT_S = 6.0 if ON_KAFKA else 2.0
# Divided by the speed-up: 2 s, and more where broker and test share a machine with a Java process.
LATENESS_S = 1000.0 if ON_KAFKA else 400.0
HTTP_TIMEOUT_S = 20.0
# Servers close what was idle for 5 s: a request that is just being sent then is lost with the connection.
HTTP_IDLE_S = 1.0

Child = subprocess.Popen[bytes]
_answers = msgspec.json.Decoder(RecommendationAnswer)


def engine_settings(kafka: str, redis: str, namespace: str, **changes: Any) -> Settings:
    """Return settings of a namespace whose windows last seconds."""
    given: dict[str, Any] = {
        "kafka": kafka,
        "redis": redis,
        "namespace": namespace,
        "speed_up": 200.0,
        "attribution_window_s": 600.0,
        "lateness_s": LATENESS_S,
        "decision_wait_s": 800.0,
        "fetch_wait_ms": 5,
        "session_timeout_s": SESSION_TIMEOUT_S,
        "holdout": 0.0,
        "seed": 1,
        "token_secret": "integration-tests",
        "redis_timeout_ms": 500,
        "drain_s": 0.0,
        "log_level": "WARNING",
    }
    return Settings(**{**given, **changes})


def now_ms() -> int:
    """Return the present, ms."""
    return time.time_ns() // 1_000_000


def stamp() -> dict[str, Any]:
    """Return what every event needs: an id of its own and the present."""
    return {"event_id": uuid.uuid4().hex, "occurred_at": now_ms()}


async def until(condition: Callable[[], Awaitable[Any]], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Wait until a condition holds and return its value; fail with its last value if it does not come."""
    deadline = time.monotonic() + patience_s
    while True:
        value = await condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {patience_s:.0f} s: {what}"
        await asyncio.sleep(POLL_S)


class Processes:
    """Workers and servers of one namespace, each a process of its own, all ended at the end.

    Parameters
    ----------
    settings
        Of the namespace; each server gets a port of its own.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.children: list[Child] = []
        self.workers: list[Child] = []
        self.servers: list[Child] = []
        self.apis: list[str] = []

    def worker(self, **changes: Any) -> Child:
        """Start a worker."""
        self.workers.append(self._start("worker", msgspec.structs.replace(self.settings, **changes)))
        return self.workers[-1]

    def server(self, **changes: Any) -> str:
        """Start a server; returns its address."""
        settings = msgspec.structs.replace(self.settings, port=free_port(), **changes)
        self.servers.append(self._start("serve", settings))
        self.apis.append(f"http://127.0.0.1:{settings.port}")
        return self.apis[-1]

    def _start(self, command: str, settings: Settings) -> Child:
        child = start_child(command, settings)
        self.children.append(child)
        return child

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self.children:
            if child.poll() is None:
                child.send_signal(signal.SIGCONT)
                child.terminate()
        for child in self.children:
            try:
                child.wait(STOP_PATIENCE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdout is not None:  # a test that failed has not read it to its end
                child.stdout.close()


class Rig:
    """Talks to one namespace: publishes events, asks servers, reads what was folded.

    Parameters
    ----------
    processes
        Of the namespace; started and stopped by whoever made them.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes, self.settings = processes, processes.settings
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        settings = self.settings
        specs = topic_specs(settings.namespace, settings.shards, settings.item_shards, settings.lanes)
        await create_topics(settings.kafka, specs, settings.replication)
        timeout = aiohttp.ClientTimeout(total=HTTP_TIMEOUT_S)
        connector = aiohttp.TCPConnector(keepalive_timeout=HTTP_IDLE_S)
        session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        self.http = await self._stack.enter_async_context(session)
        producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all", linger_ms=0)
        self.producer = await self._stack.enter_async_context(producer)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    # -- processes

    @property
    def api(self) -> str:
        """Address of the first server."""
        return self.processes.apis[0]

    @property
    def units(self) -> list[str]:
        """Every unit of the namespace."""
        settings = self.settings
        return [
            *map(subject_unit, range(settings.shards)),
            *map(item_unit, range(settings.item_shards)),
            *map(lane_unit, range(settings.lanes)),
            CONTROL,
        ]

    async def epochs(self) -> dict[str, int]:
        """Return how often each unit was claimed."""
        keys = {unit: meta_key(unit_prefix(self.settings.namespace, unit)) for unit in self.units}
        async with redis_client(self.settings, timeout_s=5.0) as redis:
            return {unit: int(await redis.hget(key, "epoch") or 0) for unit, key in keys.items()}

    async def claimed(self, since: dict[str, int] | None = None) -> None:
        """Wait until a worker has claimed every unit, anew where earlier epochs are given."""
        before = since or {}

        async def all_claimed() -> bool:
            return all(epoch > before.get(unit, 0) for unit, epoch in (await self.epochs()).items())

        await until(all_claimed, f"every unit is claimed since {before}")

    async def start(self, workers: int = 1, servers: int = 1) -> list[Child]:
        """Start workers and servers and wait until they are at work; returns the workers."""
        started = [self.processes.worker() for _ in range(workers)]
        for _ in range(servers):
            self.processes.server()
        await asyncio.gather(self.claimed(), *(self.ready(api) for api in self.processes.apis))
        return started

    async def ready(self, api: str, items: int = 0) -> None:
        """Wait until a server is ready and holds so many items."""

        async def is_ready() -> bool:
            try:
                async with self.http.get(f"{api}/readyz") as answer:
                    return answer.status == 200 and (await answer.json())["items"] >= items
            except (aiohttp.ClientError, TimeoutError):
                return False

        await until(is_ready, f"{api} is ready with {items} items")

    async def ended(self, child: Child) -> int:
        """Wait until a process has ended; returns its exit code."""

        async def has_ended() -> bool:
            return child.poll() is not None

        await until(has_ended, f"process {child.pid} ends", STOP_PATIENCE_S)
        return child.wait()

    async def is_sent(self) -> bool:
        """Return whether every outbox is empty."""
        keys = [outbox_key(unit_prefix(self.settings.namespace, unit)) for unit in self.units]
        async with redis_client(self.settings, timeout_s=5.0) as redis:
            return not any([await redis.llen(key) for key in keys])

    async def rest(self) -> None:
        """End all workers once they have sent all they have committed: the topics tell everything then.

        What one commits in its last moment is sent by another.
        """
        while True:
            await until(self.is_sent, "every outbox is sent")
            ending = [worker for worker in self.processes.workers if is_alive(worker)]
            for worker in ending:
                worker.terminate()
            for worker in ending:
                await self.ended(worker)
            if await self.is_sent():
                return
            before = await self.epochs()
            self.processes.worker()
            await self.claimed(since=before)

    async def command(self, *arguments: str) -> str:
        """Run a ``headwater`` command and return what it prints."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HEADWATER_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "headwater",
            *arguments,
            env=environment | self.settings.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            printed, _ = await process.communicate()
        finally:
            if process.returncode is None:  # the test is over before the command is
                process.kill()
                await process.communicate()
        assert process.returncode == 0, printed.decode()
        return printed.decode()

    # -- saying

    async def send(
        self, kind: str, value: bytes | None, key: bytes | None, partition: int, **options: Any
    ) -> Any:
        """Send raw bytes; returns where Kafka put them."""
        topic = topic_name(self.settings.namespace, kind)
        return await self.producer.send_and_wait(topic, value, key=key, partition=partition, **options)

    async def publish(self, *events: Event) -> None:
        """Publish events to where they belong, in order."""
        acknowledged = [await self._send(event) for event in events]
        await asyncio.gather(*acknowledged)

    async def _send(self, event: Event) -> Any:
        kind = next(kind for kind, type_ in EVENT_TYPES.items() if type(event) is type_)
        if isinstance(event, SubjectEvent | User):
            key, partition = event.subject, shard_of(event.subject, self.settings.shards)
        else:
            assert isinstance(event, Item)
            key, partition = event.item_id, shard_of(event.item_id, self.settings.item_shards)
        topic = topic_name(self.settings.namespace, kind)
        return await self.producer.send(topic, encode(event), key=key.encode(), partition=partition)

    async def catalogue(self, items: Sequence[Item]) -> None:
        """Publish a catalogue and wait until every server holds it."""
        await self.publish(*items)
        await asyncio.gather(*(self.ready(api, len(items)) for api in self.processes.apis))

    async def gateway(self, *events: tuple[str, Any], api: str | None = None) -> list[dict[str, Any]]:
        """Post events (kind, body) to a server's gateway and return the verdicts."""
        body = {"events": [{"kind": kind, "event": event} for kind, event in events]}
        raw = msgspec.json.encode(body)
        headers = {"content-type": "application/json"}
        async with self.http.post(f"{api or self.api}/v1/events", data=raw, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            verdicts: list[dict[str, Any]] = (await answer.json())["verdicts"]
            return verdicts

    # -- asking

    async def ask(self, user: str, *, api: str | None = None, **wishes: Any) -> RecommendationAnswer:
        """Ask for a slate; every answer must be 200."""
        body = {"session_id": f"{user}-session", "user_id": user, **wishes}
        async with self.http.post(f"{api or self.api}/v1/recommendations", json=body) as answer:
            raw = await answer.read()
            assert answer.status == 200, raw.decode(errors="replace")
        return _answers.decode(raw)

    async def folded(self) -> Folded:
        """Return the folded counts."""
        return await read_folded(self.settings)

    async def counts(self, **wished: int) -> Folded:
        """Wait until each named subject counter reaches its number, and return all counts."""
        folded = await self.folded()
        deadline = time.monotonic() + PATIENCE_S
        while any(folded.subjects.get(name, 0) < number for name, number in wished.items()):
            assert time.monotonic() < deadline, f"folded {folded.subjects}, wished at least {wished}"
            await asyncio.sleep(POLL_S)
            folded = await self.folded()
        return folded

    async def learnt(self, outcomes: int) -> Folded:
        """Wait until windows have closed and the lane has learnt so many outcomes; returns all counts."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            folded = await self.folded()
            if folded.closed >= outcomes and folded.learnt >= outcomes:
                return folded
            wished = f"{outcomes} outcomes"
            assert time.monotonic() < deadline, f"folded {folded.subjects} {folded.lanes}, wished {wished}"
            await asyncio.sleep(POLL_S)

    async def subject(self, subject: str) -> SubjectRecord:
        """Return a subject's record."""
        shard = shard_of(subject, self.settings.shards)
        prefix = unit_prefix(self.settings.namespace, subject_unit(shard))
        async with redis_client(self.settings, timeout_s=5.0) as redis:
            raw = await redis.get(subject_key(prefix, subject))
        assert not isinstance(raw, str)
        return decode_subject(raw)

    async def read(
        self, kind: str, enough: Callable[[list[Any]], bool], patience_s: float = PATIENCE_S
    ) -> list[Any]:
        """Read a topic from its beginning until it holds enough, and what comes right after that."""
        records, is_enough = await read_topic(self.settings, kind, enough, patience_s)
        assert is_enough, f"{kind} has only {len(records)} records"
        return records

    async def events(self, kind: str, at_least: int) -> list[Any]:
        """Return the events of a topic once it holds so many different ones (by id), each once."""
        decode = msgspec.json.Decoder(EVENT_TYPES[kind]).decode

        def enough(records: list[Any]) -> bool:
            return len({decode(record.value).event_id for record in records}) >= at_least

        records = await self.read(kind, enough)
        return list({event.event_id: event for event in (decode(r.value) for r in records)}.values())


async def read_topic(
    settings: Settings, kind: str, enough: Callable[[list[Any]], bool], patience_s: float
) -> tuple[list[Any], bool]:
    """Read a topic from its beginning until it is silent and holds enough, or patience ends; says which."""
    topic = topic_name(settings.namespace, kind)
    specs = topic_specs(settings.namespace, settings.shards, settings.item_shards, settings.lanes)
    count = next(spec.partitions for spec in specs if spec.name == topic)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka, auto_offset_reset="earliest", fetch_max_wait_ms=50
    )
    records: list[Any] = []
    deadline = time.monotonic() + patience_s
    async with consumer:
        consumer.assign([TopicPartition(topic, partition) for partition in range(count)])
        while True:
            found = await consumer.getmany(timeout_ms=500)
            records += [record for part in found.values() for record in part]
            if not found and enough(records):
                return records, True
            if time.monotonic() > deadline:
                return records, False


def is_alive(child: Child) -> bool:
    """Return whether a process runs."""
    return child.poll() is None


def make_items(genres: Iterable[str], each: int, **more: Any) -> list[Item]:
    """Return a catalogue of so many items of each genre, named genre-number."""
    return [
        Item(
            event_id=f"item-{genre}-{number}",
            occurred_at=now_ms(),
            item_id=f"{genre}-{number}",
            title=f"{genre} number {number}",
            categories=[genre],
            attributes={"genre": genre},
            **more,
        )
        for genre in genres
        for number in range(each)
    ]


def genres_of(answer: RecommendationAnswer) -> Counter[str]:
    """Return how many items of each genre a slate has."""
    return Counter(item.item_id.rsplit("-", 1)[0] for item in answer.items)


def click_on(user: str, item_id: str, decision: str | None = None) -> Click:
    """Return a click of the present."""
    return Click(
        **stamp(),
        session_id=f"{user}-session",
        user_id=user,
        item_id=item_id,
        surface="home",
        decision=decision,
    )


def feedback_on(user: str, item_id: str, kind: str = "like", **more: Any) -> Feedback:
    """Return feedback of the present."""
    return Feedback(**stamp(), session_id=f"{user}-session", user_id=user, item_id=item_id, kind=kind, **more)


def impression_of(user: str, answer: RecommendationAnswer) -> Impression:
    """Return the impression of a slate, of the present."""
    shown = [ShownItem(item.item_id, item.position) for item in answer.items]
    return Impression(
        **stamp(),
        session_id=f"{user}-session",
        user_id=user,
        surface=answer.surface,
        items=shown,
        decision=answer.decision,
    )
