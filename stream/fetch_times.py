"""When the broker was asked for what it last said of a topic-partition's end."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiokafka

Fetch = Callable[[Any, int, Any], Awaitable[bool]]
"""Takes an assignment, a node and a fetch request, and takes in the answer."""


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


class DatedConsumer(aiokafka.AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka has no types
    """A consumer whose partitions' timestamps say when the broker was asked."""

    async def start(self) -> None:
        """Start as the base class does; its fetcher is made there."""
        await super().start()
        self._fetcher._proc_fetch_request = asked_at(self._fetcher._proc_fetch_request, _now_ms)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
