"""The connection kept for reads: values of the keys asked, in time or not at all."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import RedisError

from headwater.embedded import EmbeddedStore
from state.clients import redis_client
from state.read_connection import ReadConnection
from state.settings import Settings


@pytest.fixture(scope="module")
def store() -> Iterator[EmbeddedStore]:
    """A store that may be held up."""
    with EmbeddedStore() as running:
        yield running


def clients(store: EmbeddedStore, timeout_s: float) -> tuple[Any, ReadConnection]:
    client: Any = redis_client(Settings(redis=store.unix_url), timeout_s=5.0)
    return client, ReadConnection(client, timeout_s)


async def test_values_come_in_the_order_of_keys_and_nothing_for_unknown_ones(store: EmbeddedStore) -> None:
    client, reads = clients(store, 5.0)
    async with client:
        await client.mset({"a": b"1", "b": b"\x00\xff"})
        for _ in range(3):
            assert await reads.mget(["b", "nobody", "a"]) == [b"\x00\xff", None, b"1"]
        await reads.aclose()
        assert await reads.mget(["a"]) == [b"1"]
        await reads.aclose()


async def test_an_answer_that_came_too_late_is_never_taken_for_the_next_ones(store: EmbeddedStore) -> None:
    client, reads = clients(store, 0.2)
    async with client:
        await client.mset({"a": b"1", "b": b"2"})
        assert await reads.mget(["a"]) == [b"1"]
        await client.execute_command("CLIENT", "PAUSE", 600, "ALL")
        with pytest.raises(TimeoutError):
            await reads.mget(["a"])
        await asyncio.sleep(0.7)
        assert await reads.mget(["b"]) == [b"2"]
        await reads.aclose()


async def test_a_connection_the_store_closed_fails_one_read_and_the_next_goes(store: EmbeddedStore) -> None:
    client, reads = clients(store, 5.0)
    async with client:
        await client.set("a", b"1")
        assert await reads.mget(["a"]) == [b"1"]
        await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with pytest.raises((RedisError, OSError)):
            await reads.mget(["a"])
        assert await reads.mget(["a"]) == [b"1"]
        await reads.aclose()


async def test_a_store_that_is_away_is_an_error_within_the_limit(store: EmbeddedStore) -> None:
    client: Any = redis_client(Settings(redis="redis://127.0.0.1:1/0"), timeout_s=5.0)
    async with client:
        with pytest.raises((RedisError, OSError)):
            await ReadConnection(client, 0.5).mget(["a"])
