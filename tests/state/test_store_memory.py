"""The costs of keys and fields are those of a real store."""

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from headwater.embedded import EmbeddedStore
from state.clients import redis_client
from state.settings import Settings
from state.store_memory import LAYOUTS, RedisOnJemalloc, ValkeyOnLibc, entries_cost, hash_cost, strings_cost

VALKEY = ValkeyOnLibc()
CLOSE = 0.05


@pytest.fixture(scope="module")
def store() -> Iterator[EmbeddedStore]:
    """A store of its own: others' keys would be measured too."""
    with EmbeddedStore() as running:
        yield running


async def cost(store: EmbeddedStore, write: Any) -> int:
    """Return by how much memory grows when something is written to an empty store."""
    redis: Any = redis_client(Settings(redis=store.unix_url), timeout_s=60.0)
    async with redis:
        await redis.flushall()
        before = await _used(redis)
        async with redis.pipeline(transaction=False) as pipe:
            write(pipe)
            await pipe.execute()
        return await _used(redis) - before


async def _used(redis: Any) -> int:
    last = -1
    for _ in range(100):
        used = int((await redis.info("memory"))["used_memory"])
        if abs(used - last) < 4096:
            return used
        last = used
        await asyncio.sleep(0.3)
    raise AssertionError("memory does not stand still")


@pytest.mark.integration
@pytest.mark.parametrize(("count", "length"), [(10_000, 200), (20_000, 640), (3_000, 9_800)])
async def test_keys_with_a_time_to_live_cost_what_is_said(
    store: EmbeddedStore, count: int, length: int
) -> None:
    def write(pipe: Any) -> None:
        for n in range(count):
            pipe.set(f"{{hw:0}}:s:user-{n:06}", os.urandom(length), px=10**9)

    said = strings_cost(VALKEY, 20, length, count, count)
    assert said == pytest.approx(await cost(store, write), rel=CLOSE)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("count", "length"), [(20_000, 64), (9_000, 176), (30_000, 5), (14_000, 300), (300, 40), (32_600, 5)]
)
async def test_fields_of_hashes_cost_what_is_said(store: EmbeddedStore, count: int, length: int) -> None:
    def write(pipe: Any) -> None:
        for key in range(max(1, 6000 // count)):
            for n in range(count):
                pipe.hset(f"h{key}", f"item-{n:06}", b"x" * length)

    said = max(1, 6000 // count) * hash_cost(VALKEY, 11, length, count)
    assert said == pytest.approx(await cost(store, write), rel=2 * CLOSE)


@pytest.mark.integration
@pytest.mark.parametrize("length", [30, 300, 3_000])
async def test_entries_of_a_change_feed_cost_what_is_said(store: EmbeddedStore, length: int) -> None:
    def write(pipe: Any) -> None:
        for n in range(8_000):
            pipe.xadd("f", {"e": "1", "n": "0", "c": os.urandom(length)}, id=f"{n + 1}-0")

    said = entries_cost(VALKEY, [length], 8_000)
    assert said == pytest.approx(await cost(store, write), rel=3 * CLOSE)


@pytest.mark.parametrize(("asked", "given"), [(1, 24), (24, 24), (25, 40), (104, 104), (105, 120)])
def test_the_c_library_hands_out_steps_of_sixteen(asked: int, given: int) -> None:
    assert VALKEY.block(asked) == given


@pytest.mark.parametrize(
    ("asked", "given"),
    [(1, 8), (16, 16), (17, 32), (128, 128), (129, 160), (161, 192), (257, 320), (5_000, 5_120)],
)
def test_jemalloc_hands_out_four_classes_to_a_doubling(asked: int, given: int) -> None:
    assert RedisOnJemalloc().block(asked) == given


@pytest.mark.parametrize(
    ("name", "value", "measured"), [(11, 64, 127.4), (11, 176, 240.0), (40, 300, 400.0), (8, 96, 160.1)]
)
def test_fields_of_redis_cost_what_was_measured(name: int, value: int, measured: float) -> None:
    assert RedisOnJemalloc().field(name, value) == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_more_and_longer_never_cost_less(layout: str) -> None:
    told = LAYOUTS[layout]
    lengths = np.arange(0, 9_000, 7)
    assert (np.diff(told.string(20, lengths)) >= -16).all()  # where a value leaves its entry
    assert told.moving(0) == 0.0
    tables = [told.table(n) for n in range(0, 300_000, 977)]
    assert tables == sorted(tables)
    assert strings_cost(told, 20, lengths, 0, 1) == hash_cost(told, 5, 5, 0) == 0.0
