"""An import goes only so far ahead of the workers, and lets them reach the end once in a while."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headwater.embedded import EmbeddedRuntime
from headwater.imports import send
from headwater.imports.send import Destination, Workers
from state.clients import redis_client
from state.keys import meta_key
from state.settings import Settings

SENT = {0: 1_000, 1: 400}
STILL_S = 0.2
"""Long enough to see that nothing happens: ten looks at the store."""


class Folding:
    """Stands for the workers: says how far they have folded."""

    def __init__(self, redis: Any, settings: Settings) -> None:
        self._redis, destination = redis, Destination(settings, "clicks")
        self._metas = [meta_key(prefix) for prefix in destination.prefixes]
        self.told: list[str] = []
        self.workers = Workers(redis, destination, self.told.append)

    async def to(self, *offsets: int) -> None:
        for meta, offset in zip(self._metas, offsets, strict=True):
            await self._redis.hset(meta, "o:clicks", offset)


@pytest.fixture
async def folding(runtime: EmbeddedRuntime, namespace: str) -> AsyncIterator[Folding]:
    settings = Settings(redis=runtime.redis, namespace=namespace, shards=2, token_secret="of the tests only")
    async with redis_client(settings, timeout_s=10.0) as redis:
        yield Folding(redis, settings)


async def is_waiting(task: "asyncio.Task[None]") -> bool:
    await asyncio.wait([task], timeout=STILL_S)
    return not task.done()


async def test_an_import_goes_on_once_every_partition_has_few_enough_rows_left(
    folding: Folding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "DRAIN_EVERY_S", 3_600.0)
    assert await folding.workers.behind(SENT) == SENT
    waiting = asyncio.create_task(folding.workers.until_folded(SENT, 300))
    await folding.to(1_000, 0)
    assert await is_waiting(waiting)
    await folding.to(700, 100)
    await asyncio.wait_for(waiting, 20)
    assert await folding.workers.behind(SENT) == {0: 300, 1: 300}


async def test_once_in_a_while_an_import_waits_until_everything_is_folded_so_that_windows_close(
    folding: Folding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "DRAIN_EVERY_S", 0.0)
    waiting = asyncio.create_task(folding.workers.until_folded(SENT, 300))
    await folding.to(999, 400)
    assert await is_waiting(waiting)
    await folding.to(1_000, 400)
    await asyncio.wait_for(waiting, 20)


async def test_an_import_that_waits_in_vain_asks_for_a_worker(
    folding: Folding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "IMPATIENT_S", 0.05)
    await folding.to(1_000, 0)
    waiting = asyncio.create_task(folding.workers.until_folded(SENT))
    async with asyncio.timeout(20):
        while not folding.told:
            await asyncio.sleep(0.01)
    assert folding.told[0] == "400 rows wait for a worker on partitions 1: does one run?"
    await folding.to(1_000, 400)
    await asyncio.wait_for(waiting, 20)
