"""Decisions on their way to Kafka: gathered while they are few, sent in the order they were made."""

import asyncio
from typing import Any

import pytest

from serving import logbook
from serving.logbook import Logbook, Waiting
from serving.metrics import ServerMetrics
from tests.stream.folding import decision_event


class Noted(Logbook):
    """A logbook that notes the batches it would send."""

    def __init__(self) -> None:
        producer: Any = None
        super().__init__(producer, "decisions", ServerMetrics())
        self.batches: list[list[int]] = []

    async def _send(self, waiting: list[Waiting]) -> None:
        self.batches.append([shard for shard, *_ in waiting])


async def test_decisions_that_fill_a_batch_are_not_gathered_any_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logbook, "_GATHER_S", 3_600.0)
    book, one = Noted(), decision_event()
    for number in range(600):
        book.put(one, number)
    running = asyncio.ensure_future(book.run())
    await asyncio.sleep(0)
    running.cancel()
    assert [len(batch) for batch in book.batches] == [200, 200, 200]
    assert [number for batch in book.batches for number in batch] == list(range(600))


async def test_a_decision_goes_out_with_those_that_come_while_it_is_gathered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logbook, "_GATHER_S", 0.0)
    book, one = Noted(), decision_event()
    book.put(one, 1)
    running = asyncio.ensure_future(book.run())
    await asyncio.sleep(0)
    book.put(one, 2)
    await asyncio.sleep(0)
    running.cancel()
    assert book.batches == [[1, 2]]
