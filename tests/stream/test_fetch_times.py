"""What a partition's end is known as of, never later than the broker was asked, and how often it is asked."""

import asyncio
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition

from stream.fetch_times import BUSY_PARTITIONS, BUSY_WAIT_MS, Pace, asked_at, held, paced


class Assignment:
    def __init__(self, **timestamps: int | None) -> None:
        self.states = {name: SimpleNamespace(timestamp=at) for name, at in timestamps.items()}

    def state_value(self, tp: TopicPartition) -> Any:
        return self.states[tp.topic]


async def fetched(assignment: Assignment, *, asked: int, read: int, topics: tuple[str, ...]) -> bool:
    """Ask at one moment, and read the answer for these topics at another."""
    clock = iter([asked])

    async def fetch(held: Any, node: int, request: Any) -> bool:
        for topic in topics:
            held.states[topic].timestamp = read
        return bool(topics)

    request = SimpleNamespace(topics=[(topic, [(0, 17, 1)]) for topic in assignment.states])
    return await asked_at(fetch, lambda: next(clock))(assignment, 1, request)


async def test_an_answer_that_lay_unread_is_dated_by_when_it_was_asked_for() -> None:
    assignment = Assignment(clicks=100)
    assert await fetched(assignment, asked=1_000, read=9_000, topics=("clicks",))
    assert assignment.states["clicks"].timestamp == 1_000


async def test_what_the_answer_does_not_tell_of_keeps_its_date() -> None:
    assignment = Assignment(clicks=700, decisions=None)
    assert not await fetched(assignment, asked=1_000, read=1_200, topics=())
    assert (assignment.states["clicks"].timestamp, assignment.states["decisions"].timestamp) == (700, None)


def test_a_node_that_brought_records_is_asked_again_in_its_time_and_any_other_at_once() -> None:
    pace = Pace(2.0)
    assert pace.wait_s(1, 100.0) == 0.0
    pace.brought(1, 100.0)
    assert [pace.wait_s(1, now) for now in (100.5, 102.0, 107.0)] == [1.5, 0.0, 0.0]
    assert pace.wait_s(2, 100.5) == 0.0


async def test_a_fetch_given_up_while_it_waits_for_its_turn_brings_nothing() -> None:
    asked = []

    async def fetch(assignment: Any, node: int, request: Any) -> bool:
        asked.append(request)
        return True

    run = paced(fetch, Pace(3_600.0))
    assert await run(None, 1, "first")
    waiting = asyncio.ensure_future(run(None, 1, "second"))
    await asyncio.sleep(0)
    waiting.cancel()
    assert not await waiting
    assert asked == ["first"]


async def test_fetches_are_held_open_longer_only_while_they_bring_many_partitions() -> None:
    fetcher = SimpleNamespace(_fetch_max_wait_ms=5, _records={})
    waits, found = [], [0, 1, BUSY_PARTITIONS, BUSY_PARTITIONS - 1]

    async def fetch(assignment: Any, node: int, request: Any) -> bool:
        fetcher._records = dict.fromkeys(range(found.pop(0)))
        return True

    run = held(fetch, fetcher)
    while found:
        await run(None, 1, None)
        waits.append(fetcher._fetch_max_wait_ms)
    assert waits == [5, 5, BUSY_WAIT_MS, 5]
