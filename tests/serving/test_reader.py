"""Reads of one turn share a round trip; each gets its own value, and nobody waits for two failures."""

import asyncio
from collections.abc import Sequence

import pytest

from serving.breaker import Breaker
from serving.reader import Batches


class Slow:
    """Answers each batch when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        self.batches.append(list(keys))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [key.encode() for key in keys]


async def test_reads_of_one_turn_are_one_batch_and_those_that_come_meanwhile_the_next() -> None:
    slow = Slow()
    reads = Batches(slow.mget, Breaker())
    first = [reads.get("a"), reads.get("b")]
    await asyncio.sleep(0)
    later = [reads.get("c"), reads.get("d"), reads.get("c")]
    await asyncio.sleep(0)
    slow.gate.set()
    assert await asyncio.gather(*first, *later) == [b"a", b"b", b"c", b"d", b"c"]
    assert slow.batches == [["a", "b"], ["c", "d", "c"]]


async def test_a_failed_batch_fails_all_who_wait_and_the_next_read_tries_again() -> None:
    slow = Slow()
    reads, slow.error = Batches(slow.mget, Breaker()), TimeoutError("no answer")
    waiting = [reads.get("a")]
    await asyncio.sleep(0)
    waiting.append(reads.get("b"))
    slow.gate.set()
    failures = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(error) for error in failures] == ["no answer"] * 2
    slow.error = None
    assert await reads.get("c") == b"c"
    assert slow.batches == [["a"], ["c"]]


async def test_a_reader_that_gave_up_disturbs_nobody() -> None:
    slow = Slow()
    reads = Batches(slow.mget, Breaker())
    gone, stays = reads.get("a"), reads.get("b")
    await asyncio.sleep(0)
    gone.cancel()
    slow.gate.set()
    assert await stays == b"b"
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_a_lost_round_trip_counts_once_however_many_waited_for_it() -> None:
    slow, breaker = Slow(), Breaker(failures=2)
    reads, slow.error = Batches(slow.mget, breaker), TimeoutError("no answer")
    slow.gate.set()
    await asyncio.gather(*(reads.get("a") for _ in range(5)), return_exceptions=True)
    assert not breaker.is_open
    await asyncio.gather(reads.get("a"), return_exceptions=True)
    assert breaker.is_open
