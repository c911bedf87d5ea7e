"""The engine in trouble: bad positions, raising handlers and claims, slow stores, slow handlers."""

import asyncio
import os
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from faust.types import TP

from headwater.embedded import EmbeddedRuntime
from stream.engine import (
    Bundle,
    PositionError,
    build_app,
    consumer_of,
    position,
    running,
)
from stream.faust_driver import Consumer
from tests.stream.engine_kit import (
    SESSION_TIMEOUT_S,
    Collector,
    KnownPositions,
    Publisher,
    committed,
    make_topics,
    numbered,
    settings,
    until,
)


@pytest.mark.parametrize("offset", [4, 1_000])
async def test_a_position_beyond_the_log_stops_with_a_clear_error(
    runtime: EmbeddedRuntime, namespace: str, offset: int
) -> None:
    """A topic made anew must not be read from its middle, nor silently from its start."""
    await make_topics(runtime.kafka, {namespace: 1})
    async with Publisher(runtime.kafka) as publisher:
        await publisher.send(namespace, numbered(3))
    seen = Collector()
    app = build_app(
        settings(runtime.kafka, namespace), {namespace: seen}, KnownPositions({(namespace, 0): offset})
    )
    with pytest.raises(PositionError, match=rf"{namespace}/0 .* offset {offset}: the broker holds 0 to 3"):
        async with running(app):
            pass
    assert seen.values() == []


async def test_a_handler_that_raises_ends_the_worker_and_commits_nothing_of_its_bundle(
    runtime: EmbeddedRuntime, namespace: str
) -> None:
    await make_topics(runtime.kafka, {namespace: 1})
    handled: list[int] = []

    async def handler(bundle: Bundle) -> None:
        if bundle.offsets[0] >= 2:
            raise ValueError("poison")
        handled.extend(bundle.offsets)

    app = build_app(settings(runtime.kafka, namespace, max_bundle=2), {namespace: handler}, KnownPositions())
    async with Publisher(runtime.kafka) as publisher:
        await publisher.send(namespace, numbered(9))
    with pytest.raises(ValueError, match="poison"):
        async with running(app):
            await app.wait_until_stopped()
    assert handled == [0, 1]
    assert await committed(runtime.kafka, namespace, [(namespace, 0)]) in ([2], [None])


async def test_a_claim_that_raises_ends_the_worker(runtime: EmbeddedRuntime, namespace: str) -> None:
    class Refusing(KnownPositions):
        async def claim(self, assigned: frozenset[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
            raise ConnectionError(f"store is gone, {len(assigned)} wanted")

    await make_topics(runtime.kafka, {namespace: 1})
    seen = Collector()
    app = build_app(settings(runtime.kafka, namespace), {namespace: seen}, Refusing())
    with pytest.raises(ConnectionError, match="store is gone"):
        async with running(app):
            pass


async def test_a_claim_may_wait_for_the_store_longer_than_a_session(
    runtime: EmbeddedRuntime, namespace: str
) -> None:
    class Patient(KnownPositions):
        async def claim(self, assigned: frozenset[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
            await asyncio.sleep(SESSION_TIMEOUT_S * 1.5)
            return await super().claim(assigned)

    await make_topics(runtime.kafka, {namespace: 1})
    async with Publisher(runtime.kafka) as publisher:
        await publisher.send(namespace, numbered(3))
    seen, positions = Collector(), Patient()
    async with running(build_app(settings(runtime.kafka, namespace), {namespace: seen}, positions)):
        await until(lambda: len(seen.values()) == 3)
    assert len(positions.claims) == 1


async def test_a_rebalance_during_a_claim_ends_that_claim(runtime: EmbeddedRuntime, namespace: str) -> None:
    """What was being claimed is released, and the next assignment is claimed anew."""

    class Stuck(KnownPositions):
        async def claim(self, assigned: frozenset[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
            claimed = await super().claim(assigned)
            if len(self.claims) == 1:
                await asyncio.Event().wait()
            return claimed

    await make_topics(runtime.kafka, {namespace: 2})
    positions = Stuck()
    first = build_app(settings(runtime.kafka, namespace), {namespace: Collector()}, positions)
    second = build_app(settings(runtime.kafka, namespace), {namespace: Collector()}, KnownPositions())
    starting = asyncio.ensure_future(first.start())
    try:
        await until(lambda: positions.claims)
        async with running(second):
            await asyncio.wait_for(starting, 10.0)
            assert [len(claimed) for claimed in positions.claims] == [2, 1]
            assert positions.releases == positions.claims[:1]
    finally:
        await first.stop()


async def test_nothing_is_lost_between_the_seek_and_the_flow(
    runtime: EmbeddedRuntime, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a fetch on its way since before a rebalance brings from after the seek waits for the flow."""
    settle, fetch = Consumer.reposition, Consumer._wait_next_records
    positions, settled = KnownPositions(), asyncio.Event()

    async def slowly(*args: Any) -> None:
        await settle(*args)
        if len(positions.claims) == 2:
            settled.set()
        await asyncio.sleep(0.5)

    async def patiently(self: Consumer, _timeout: float) -> Any:
        return await fetch(self, 10.0)

    monkeypatch.setattr(Consumer, "reposition", slowly)
    monkeypatch.setattr(Consumer, "_wait_next_records", patiently)
    await make_topics(runtime.kafka, {namespace: 2})
    seen = Collector()
    first = build_app(settings(runtime.kafka, namespace), {namespace: seen}, positions)
    second = build_app(settings(runtime.kafka, namespace), {namespace: Collector()}, KnownPositions())
    async with Publisher(runtime.kafka) as publisher, running(first):
        joining = asyncio.ensure_future(second.start())
        try:
            await settled.wait()
            for partition in (0, 1):
                await publisher.send(namespace, numbered(3), partition)
            await joining
            await until(lambda: len(seen.values()) == 3)
            assert seen.values() == numbered(3)
        finally:
            await second.stop()


async def test_a_rebalance_before_the_first_commit_is_no_error(
    runtime: EmbeddedRuntime, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetch on its way may learn that the group has no position yet; claiming is what gives it one."""
    fetch = Consumer._wait_next_records

    async def patiently(self: Consumer, _timeout: float) -> Any:
        return await fetch(self, 10.0)

    monkeypatch.setattr(Consumer, "_wait_next_records", patiently)
    monkeypatch.setattr(Consumer, "_new_offset", lambda *_: None)
    await make_topics(runtime.kafka, {namespace: 2})
    seen = Collector()
    first = build_app(settings(runtime.kafka, namespace), {namespace: seen}, KnownPositions())
    second = build_app(settings(runtime.kafka, namespace), {namespace: seen}, KnownPositions())
    async with Publisher(runtime.kafka) as publisher, running(first), running(second):
        for partition in (0, 1):
            await publisher.send(namespace, numbered(3), partition)
        await until(lambda: len(seen.values()) == 6)
        assert sorted(filter(None, seen.values())) == sorted([b"0", b"1", b"2"] * 2)


async def test_a_flow_turned_on_too_early_loses_nothing(
    runtime: EmbeddedRuntime, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebalance hard on another finds the flow on again; Faust empties all buffers when it is done."""
    settle, settled, seen = Consumer.reposition, asyncio.Event(), Collector()

    class TooEarly(KnownPositions):
        async def release(self, revoked: frozenset[tuple[str, int]]) -> None:
            await super().release(revoked)
            first.flow_control.resume()
            consumer_of(first).resume_flow()

    async def slowly(self: Consumer, *args: Any) -> None:
        await settle(self, *args)
        if len(positions.claims) == 2:
            settled.set()
        await asyncio.sleep(0.5)

    async def slow(bundle: Bundle) -> None:
        await asyncio.sleep(0.2)
        await seen(bundle)

    monkeypatch.setattr(Consumer, "reposition", slowly)
    await make_topics(runtime.kafka, {namespace: 2})
    positions, changes = TooEarly(), {"max_bundle": 1}
    first = build_app(settings(runtime.kafka, namespace, **changes), {namespace: slow}, positions)
    second = build_app(settings(runtime.kafka, namespace, **changes), {namespace: slow}, KnownPositions())
    async with Publisher(runtime.kafka) as publisher, running(first):
        joining = asyncio.ensure_future(second.start())
        try:
            await settled.wait()
            for partition in (0, 1):
                await publisher.send(namespace, numbered(5), partition)
            await joining
            await until(lambda: len(seen.values()) == 10)
            assert sorted(filter(None, seen.values())) == sorted([b"0", b"1", b"2", b"3", b"4"] * 2)
        finally:
            await second.stop()


async def test_while_a_handler_waits_memory_is_bounded_and_other_topics_go_on(
    runtime: EmbeddedRuntime, namespace: str
) -> None:
    other = f"{namespace}.b"
    await make_topics(runtime.kafka, {namespace: 1, other: 1})
    gate, seen = asyncio.Event(), Collector()

    async def slow(bundle: Bundle) -> None:
        await gate.wait()
        await seen(bundle)

    changes = {"max_bundle": 5, "stream_buffer_maxsize": 8, "max_partition_fetch_bytes": 4_000}
    app = build_app(
        settings(runtime.kafka, namespace, **changes), {namespace: slow, other: seen}, KnownPositions()
    )
    async with Publisher(runtime.kafka) as publisher, running(app):
        for _ in range(20):
            await publisher.send(namespace, [b"x" * 100] * 100)
        await asyncio.sleep(1.0)
        lease = consumer_of(app).lease_of(TP(namespace, 0))
        assert lease is not None
        assert 0 < lease.read_to < 600, "reading must pause while the handler waits"
        gate.set()
        started = time.monotonic()
        await until(lambda: len(seen.offsets(namespace)) == 2_000)
        assert time.monotonic() - started < 5.0, "reading must go on as soon as there is room"
        await publisher.send(other, numbered(1))
        await until(lambda: seen.offsets(other) == [0])
    assert seen.offsets(namespace) == list(range(2_000))


async def test_a_slow_handler_is_never_kept_waiting(runtime: EmbeddedRuntime, namespace: str) -> None:
    """As soon as its buffer has room it is filled again, even beside an idle topic; Faust waits a second."""
    other = f"{namespace}.b"
    await make_topics(runtime.kafka, {namespace: 1, other: 1})
    called: list[float] = []

    async def slow(bundle: Bundle) -> None:
        called.append(time.monotonic())
        await asyncio.sleep(0.003)

    changes = {"max_bundle": 20, "stream_buffer_maxsize": 8}
    app = build_app(
        settings(runtime.kafka, namespace, **changes), {namespace: slow, other: slow}, KnownPositions()
    )
    async with Publisher(runtime.kafka) as publisher, running(app):
        for _ in range(60):
            await publisher.send(namespace, [b"x"] * 200)
            await asyncio.sleep(0.02)
        await until(lambda: position(app, namespace, 0) == 12_000)
    assert max(after - before for before, after in pairwise(called)) < 0.9


async def test_a_hanging_handler_does_not_hold_up_the_group(runtime: EmbeddedRuntime, namespace: str) -> None:
    """A second worker gets its share although the first is stuck, and what the first still holds is stale."""
    await make_topics(runtime.kafka, {namespace: 2})
    held: list[Bundle] = []

    async def stuck(bundle: Bundle) -> None:
        held.append(bundle)
        await asyncio.Event().wait()

    seen = Collector()
    first = build_app(settings(runtime.kafka, namespace), {namespace: stuck}, KnownPositions())
    second = build_app(settings(runtime.kafka, namespace), {namespace: seen}, KnownPositions())
    async with Publisher(runtime.kafka) as publisher, running(first):
        for partition in (0, 1):
            await publisher.send(namespace, [b"x"], partition)
        await until(lambda: held)
        async with running(second):
            await until(seen.values)
            assert not held[0].is_current


async def test_starting_and_stopping_is_quick_and_leaves_nothing(
    runtime: EmbeddedRuntime, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No directory is made, the environment is not listened to, and a stop takes no time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BROKER_URL", "kafka://nowhere.invalid:1")
    monkeypatch.setenv("BROKER_SESSION_TIMEOUT", "7000")
    await make_topics(runtime.kafka, {namespace: 1})
    positions = KnownPositions()
    app = build_app(settings(runtime.kafka, namespace), {namespace: Collector()}, positions)
    async with running(app):
        stopping = time.monotonic()
    assert time.monotonic() - stopping < 3.0
    assert positions.releases
    assert os.listdir(tmp_path) == []
