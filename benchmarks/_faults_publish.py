"""Publishes visits as a rough network would: late, out of order, some twice, with garbage in between."""

import asyncio
import heapq
import random
import time
from collections import Counter
from itertools import count
from typing import Any

from aiokafka.errors import KafkaError
from msgspec import Struct

from benchmarks._faults_truth import Truth
from benchmarks._faults_visits import Crowd, Told
from state.decoding import Refusal, decode_event
from state.events import encode
from state.partition import shard_of
from tests.integration.malformed import Bad, bad_events
from tests.integration.rig import Rig, now_ms

TWICE, GARBAGE = 0.10, 0.01
PROMPT = 0.6
PROMPT_MS = 30
# Of the lateness bound: how long an event and its copy are held back at most; the rest is the broker's.
HELD_BACK, COPY_HELD_BACK = 0.35, 0.5
EVENTS_PER_VISIT = 3.1
TICK_S = 0.005
RETRY_S = 0.1
PATIENCE_S = 90.0


class Sent(Struct):
    """One record to publish; garbage has no event time."""

    kind: str
    value: bytes | None
    key: bytes | None
    partition: int
    occurred_at: int = 0
    headers: list[tuple[str, bytes]] = []


class Publisher:
    """Tells visits to the broker and to the truth.

    A send whose result is not known is sent again, with the same event id: the log may then hold it twice,
    and the engine has to drop the copy. The truth therefore counts ids, never sends.

    Parameters
    ----------
    rig
        Of the namespace.
    crowd
        Who visits.
    truth
        Told every event once.
    """

    def __init__(self, rig: Rig, crowd: Crowd, truth: Truth) -> None:
        self._rig, self._crowd, self._truth = rig, crowd, truth
        settings = rig.settings
        self._rng = random.Random(f"publish {settings.seed}")
        self._shards, self._lateness_ms = settings.shards, settings.lateness_ms
        self._planned: list[tuple[int, int, Sent]] = []
        self._number = count()
        self._garbage: list[Bad] = []
        self.figures: Counter[str] = Counter(garbage=0, copies=0, send_retries=0, past_lateness=0)
        self.slowest_ms = 0

    async def run(self, rate: float, seconds: float) -> None:
        """Publish so many events a second for a time, and wait until the broker has confirmed each."""
        begun, visits = time.monotonic(), 0
        async with asyncio.TaskGroup() as sending:
            while self._planned or time.monotonic() < begun + seconds:
                passed = min(seconds, time.monotonic() - begun)
                while visits < passed * rate / EVENTS_PER_VISIT:
                    self._plan_visit(now_ms())
                    visits += 1
                while self._planned and self._planned[0][0] <= now_ms():
                    sending.create_task(self._deliver(heapq.heappop(self._planned)[2]))
                await asyncio.sleep(TICK_S)

    def _plan_visit(self, at_ms: int) -> None:
        for told in self._crowd.visit(at_ms):
            self._truth.add(told.kind, told.event, told.names)
            self._plan_event(told)

    def _plan_event(self, told: Told) -> None:
        rng, event = self._rng, told.event
        subject = event.subject
        home = shard_of(subject, self._shards)
        record = Sent(told.kind, encode(event), subject.encode(), home, event.occurred_at)
        prompt = rng.random() < PROMPT
        held_back = rng.uniform(0, PROMPT_MS if prompt else HELD_BACK * self._lateness_ms)
        self._plan(event.occurred_at + held_back, record)
        if rng.random() < TWICE:
            self.figures["copies"] += 1
            self._plan(event.occurred_at + rng.uniform(held_back, COPY_HELD_BACK * self._lateness_ms), record)
        if rng.random() < GARBAGE:
            self.figures["garbage"] += 1
            self._plan(event.occurred_at + held_back, self._bad())

    def _plan(self, at_ms: float, record: Sent) -> None:
        heapq.heappush(self._planned, (int(at_ms), next(self._number), record))

    def _bad(self) -> Sent:
        if not self._garbage:
            self._garbage = [
                one for one in bad_events(next(self._number), self._shards) if counts_nowhere(one)
            ]
            self._rng.shuffle(self._garbage)
        bad = self._garbage.pop()
        return Sent(bad.kind, bad.raw, bad.key, bad.partition, headers=list(bad.headers))

    async def _deliver(self, record: Sent) -> None:
        """Send until the broker confirms.

        Raises
        ------
        KafkaError
            If it does not within a minute and a half.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                await self._send(record)
            except KafkaError:
                if time.monotonic() > deadline:
                    raise
                self.figures["send_retries"] += 1
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _send(self, record: Sent) -> Any:
        options: dict[str, Any] = {"headers": record.headers} if record.headers else {}
        placed = await self._rig.send(record.kind, record.value, record.key, record.partition, **options)
        if record.occurred_at:
            age = now_ms() - record.occurred_at
            self.slowest_ms = max(self.slowest_ms, age)
            self.figures["past_lateness"] += age > self._lateness_ms
        return placed


def counts_nowhere(bad: Bad) -> bool:
    """Return whether a bad record is refused before any counter but the refusals' has moved."""
    if bad.kind not in ("feedback", "decisions") or bad.headers:
        return True
    try:
        decode_event(bad.kind, bad.raw, received_at=now_ms())
    except Refusal:
        return True
    return False
