"""How often a broker is asked for records, and when it was asked for what it last said of a log's end."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiokafka

Fetch = Callable[[Any, int, Any], Awaitable[bool]]
"""Takes an assignment, a node and a fetch request, and takes in the answer."""
FETCH_EVERY_S = 0.015
"""Least time between two fetches of a node while records keep coming.

What a fetch costs does not depend on how many records it brings, and of the bundles, folds and commits it
leads to that holds for the most part. One that waited for the first record after a silence is not held up.
"""

BUSY_PARTITIONS, BUSY_WAIT_MS = 4, 100
"""After a fetch of so many partitions the broker may hold the next one open for so long.

The embedded broker looks through the partitions of a fetch one by one and stops where its time is up: under
load those at the end waited for several fetches. It answers a long one once it has looked at all of them.
"""


class Pace:
    """When each node may be asked again.

    Parameters
    ----------
    every_s
        Least time between two fetches of a node, s.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._next: dict[int, float] = {}

    def wait_s(self, node: int, now: float) -> float:
        """Return how long to wait before a node is asked again, s."""
        return max(0.0, self._next.get(node, now) - now)

    def brought(self, node: int, asked_at: float) -> None:
        """Note that a node had records when it was asked; one that had none may be asked at once."""
        self._next[node] = asked_at + self._every_s


def paced(fetch: Fetch, pace: Pace) -> Fetch:
    """Return a fetch that does not begin before its node's turn."""

    async def run(assignment: Any, node: int, request: Any) -> bool:
        try:
            await asyncio.sleep(pace.wait_s(node, time.monotonic()))
        except asyncio.CancelledError:  # as the fetch itself takes it: nobody wants the answer any more
            return False
        asked_at_s = time.monotonic()
        needs_wakeup = await fetch(assignment, node, request)
        if needs_wakeup:
            pace.brought(node, asked_at_s)
        return needs_wakeup

    return run


def asked_at(fetch: Fetch, now_ms: Callable[[], int]) -> Fetch:
    """Return a fetch that dates what it learns by when it asked, not by when it read the answer.

    The answer may lie unread for seconds, while a thread waits for the processor or its process is stopped;
    what the log took meanwhile is not in it, and must not be taken for late.
    """

    async def run(assignment: Any, node: int, request: Any) -> bool:
        at_ms = now_ms()
        needs_wakeup = await fetch(assignment, node, request)
        for topic, partitions in request.topics:
            for partition, *_ in partitions:
                state = assignment.state_value(aiokafka.TopicPartition(topic, partition))
                if state.timestamp is not None:
                    state.timestamp = min(state.timestamp, at_ms)
        return needs_wakeup

    return run


def wait_ms(partitions: int, wished_ms: int) -> int:
    """Return how long a fetch may be held open after one that brought records of so many partitions, ms."""
    return max(wished_ms, BUSY_WAIT_MS) if partitions >= BUSY_PARTITIONS else wished_ms


def held(fetch: Fetch, fetcher: Any) -> Fetch:
    """Return a fetch that settles how long the fetcher's next one may be held open."""
    wished_ms = fetcher._fetch_max_wait_ms

    async def run(assignment: Any, node: int, request: Any) -> bool:
        needs_wakeup = await fetch(assignment, node, request)
        fetcher._fetch_max_wait_ms = wait_ms(len(fetcher._records), wished_ms)
        return needs_wakeup

    return run


class DatedConsumer(aiokafka.AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka has no types
    """A consumer whose partitions' timestamps say when the broker was asked, and which asks at a pace."""

    async def start(self) -> None:
        """Start as the base class does; its fetcher is made there."""
        await super().start()
        fetcher = self._fetcher
        fetch = held(asked_at(fetcher._proc_fetch_request, _now_ms), fetcher)
        fetcher._proc_fetch_request = paced(fetch, Pace(FETCH_EVERY_S))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
