"""The engine in one process, against a real broker: positions, seeks, commits."""

import asyncio
import statistics
import time
from collections.abc import Mapping
from typing import Any

import pytest

from headwater.embedded import EmbeddedRuntime
from stream.engine import (
    HOLD,
    Bundle,
    Lease,
    bounds,
    build_app,
    consumer_of,
    end_offset,
    position,
    read_to_end,
    running,
    seek,
)
from stream.log_bounds import log_bounds
from tests.stream.engine_kit import (
    Collector,
    KnownPositions,
    Publisher,
    committed,
    make_topics,
    numbered,
    settings,
    until,
)


async def test_records_arrive_whole_and_in_order(runtime: EmbeddedRuntime, namespace: str) -> None:
    """Key, value, tombstone, headers and timestamp of every record reach the handler."""
    await make_topics(runtime.kafka, {namespace: 1})
    async with Publisher(runtime.kafka) as publisher:
        await publisher.send(
            namespace, [b"a"], key=b"k", headers=[("h", b"1"), ("h", b"2")], timestamp_ms=1_700
        )
        await publisher.send(namespace, [None], key=b"gone", timestamp_ms=1_800)
        await publisher.send(namespace, [b"\xff not json", b""])
    seen = Collector()
    app = build_app(settings(runtime.kafka, namespace), {namespace: seen}, KnownPositions())
    async with running(app):
        await until(lambda: len(seen.values()) == 4)
    rows = [row for bundle in seen.bundles for row in bundle.rows()]
    assert [row.offset for row in rows] == [0, 1, 2, 3]
    assert [row.value for row in rows] == [b"a", None, b"\xff not json", b""]
    assert [row.key for row in rows] == [b"k", b"gone", None, None]
    assert [row.timestamp_ms for row in rows[:2]] == [1_700, 1_800]
    assert list(rows[0].headers) == [("h", b"1"), ("h", b"2")]


async def test_a_record_is_seen_soon(runtime: EmbeddedRuntime, namespace: str) -> None:
    """The fetch wait is ours: with Faust's own, half the records would be seen after 0.75 s or later."""
    await make_topics(runtime.kafka, {namespace: 1})
    seen = Collector()
    app = build_app(settings(runtime.kafka, namespace), {namespace: seen}, KnownPositions())
    waits: list[float] = []
    async with Publisher(runtime.kafka) as publisher, running(app):
        for count in range(1, 16):
            sent = time.monotonic()
            await publisher.send(namespace, [b"now"])
            await until(lambda: len(seen.values()) == count)  # noqa: B023
            waits.append(time.monotonic() - sent)
    assert statistics.median(waits) < 0.2


async def test_claim_comes_once_and_before_records(runtime: EmbeddedRuntime, namespace: str) -> None:
    """Positions claimed are where reading starts; what has none starts at the beginning."""
    other = f"{namespace}.b"
    await make_topics(runtime.kafka, {namespace: 2, other: 1})
    async with Publisher(runtime.kafka) as publisher:
        for partition in (0, 1):
            await publisher.send(namespace, numbered(10), partition)
        await publisher.send(other, numbered(3))
    seen, positions = Collector(), KnownPositions({(namespace, 0): 7, (namespace, 1): 10})
    handled_before_claim: list[bool] = []

    async def handler(bundle: Bundle) -> None:
        handled_before_claim.append(not positions.claims)
        await seen(bundle)

    app = build_app(settings(runtime.kafka, namespace), {namespace: handler, other: handler}, positions)
    async with running(app):
        await until(lambda: len(seen.values()) == 6)
        await asyncio.sleep(0.3)
    assert seen.offsets(namespace, 0) == [7, 8, 9]
    assert seen.offsets(namespace, 1) == []
    assert seen.offsets(other) == [0, 1, 2]
    assert positions.claims == [frozenset({(namespace, 0), (namespace, 1), (other, 0)})]
    assert positions.releases == positions.claims
    assert not any(handled_before_claim)


async def test_without_a_position_reading_goes_on_where_the_group_left_off(
    runtime: EmbeddedRuntime, namespace: str
) -> None:
    await make_topics(runtime.kafka, {namespace: 1})
    async with Publisher(runtime.kafka) as publisher:
        await publisher.send(namespace, numbered(5))
        first = Collector()
        async with running(
            build_app(settings(runtime.kafka, namespace), {namespace: first}, KnownPositions())
        ):
            await until(lambda: len(first.values()) == 5)
        await publisher.send(namespace, numbered(2, start=5))
    second = Collector()
    async with running(build_app(settings(runtime.kafka, namespace), {namespace: second}, KnownPositions())):
        await until(second.values)
    assert second.values() == [b"5", b"6"]


@pytest.mark.parametrize("lots", [(1,), (1, 1, 1), (2, 3), (1, 700), (1_700,), (0,)])
async def test_committed_offsets_add_up_to_what_was_produced(
    runtime: EmbeddedRuntime, namespace: str, lots: tuple[int, ...]
) -> None:
    """However records fall into bundles, from offset 0 on, the group ends with no lag."""
    tps = [(namespace, 0), (namespace, 1)]
    await make_topics(runtime.kafka, {namespace: 2})
    seen = Collector()
    app = build_app(settings(runtime.kafka, namespace), {namespace: seen}, KnownPositions())
    async with Publisher(runtime.kafka) as publisher, running(app):
        for lot, count in enumerate(lots):
            await publisher.send(namespace, numbered(count))
            so_far = sum(lots[: lot + 1])
            await until(lambda: position(app, namespace, 0) == end_offset(app, namespace, 0) == so_far)  # noqa: B023
    assert len(seen.values()) == sum(lots)
    assert await committed(runtime.kafka, namespace, tps) == [sum(lots), 0]


async def test_hold_keeps_a_topic_partition_unread_until_a_seek(
    runtime: EmbeddedRuntime, namespace: str
) -> None:
    await make_topics(runtime.kafka, {namespace: 2})
    seen, positions = Collector(), KnownPositions({(namespace, 0): HOLD})
    app = build_app(settings(runtime.kafka, namespace), {namespace: seen}, positions)
    async with Publisher(runtime.kafka) as publisher, running(app):
        for partition in (0, 1):
            await publisher.send(namespace, numbered(4), partition)
        await until(lambda: len(seen.offsets(namespace, 1)) == 4)
        await asyncio.sleep(0.3)
        assert seen.offsets(namespace, 0) == []
        assert position(app, namespace, 0) is None
        await seek(app, {(namespace, 0): 1})
        await until(lambda: seen.offsets(namespace, 0) == [1, 2, 3])
        await seek(app, {(namespace, 0): HOLD})
        await publisher.send(namespace, numbered(1), 0)
        await asyncio.sleep(0.3)
        assert seen.offsets(namespace, 0) == [1, 2, 3]


async def test_a_seek_back_makes_everything_in_flight_stale(runtime: EmbeddedRuntime, namespace: str) -> None:
    """With a bundle in the handler and more behind it, all rows come again, exactly from the new position."""
    await make_topics(runtime.kafka, {namespace: 1})
    entered, go_on = asyncio.Event(), asyncio.Event()
    handled: list[int] = []

    async def handler(bundle: Bundle) -> None:
        assert bundle.is_current, "a stale bundle must not reach a handler"
        entered.set()
        await go_on.wait()
        if bundle.is_current:
            handled.extend(bundle.offsets)

    app = build_app(settings(runtime.kafka, namespace, max_bundle=10), {namespace: handler}, KnownPositions())
    async with Publisher(runtime.kafka) as publisher:
        await publisher.send(namespace, numbered(1_000))
        async with running(app):
            await entered.wait()
            await asyncio.sleep(0.3)
            await seek(app, {(namespace, 0): 3})
            go_on.set()
            await until(lambda: len(handled) == 997)
            await publisher.send(namespace, numbered(1))
            await until(lambda: len(handled) == 998)
    assert handled == list(range(3, 1_001))
    assert await committed(runtime.kafka, namespace, [(namespace, 0)]) == [1_001]


async def test_many_seeks_in_full_flow_lose_and_repeat_nothing(
    runtime: EmbeddedRuntime, namespace: str
) -> None:
    """After each seek the rows under the new lease run on from its position without a hole."""
    await make_topics(runtime.kafka, {namespace: 2})
    seen = Collector()
    app = build_app(settings(runtime.kafka, namespace, max_bundle=7), {namespace: seen}, KnownPositions())
    async with Publisher(runtime.kafka) as publisher, running(app):
        for step in range(30):
            sending = [publisher.send(namespace, numbered(40), partition) for partition in (0, 1)]
            await asyncio.gather(*sending, seek(app, {(namespace, step % 2): step * 3}))
        await until(lambda: all(position(app, namespace, p) == 1_200 for p in (0, 1)))
    by_lease: dict[Lease, list[int]] = {}
    for bundle in seen.bundles:
        assert bundle.lease is not None
        by_lease.setdefault(bundle.lease, []).extend(bundle.offsets)
    for lease, offsets in by_lease.items():
        assert lease.start is not None
        assert offsets == list(range(lease.start, lease.start + len(offsets)))
    assert sum(offsets[-1] == 1_199 for offsets in by_lease.values()) == 2


async def test_of_two_seeks_at_once_the_later_wins(
    runtime: EmbeddedRuntime, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seek that the broker answers late must not undo one that came after it."""
    await make_topics(runtime.kafka, {namespace: 1})
    seen, delays = Collector(), [0.6, 0.0]

    async def late_bounds(*args: Any) -> Any:
        await asyncio.sleep(delays.pop(0))
        return await log_bounds(*args)

    app = build_app(settings(runtime.kafka, namespace), {namespace: seen}, KnownPositions())
    async with Publisher(runtime.kafka) as publisher, running(app):
        await publisher.send(namespace, numbered(9))
        await until(lambda: position(app, namespace, 0) == 9)
        monkeypatch.setattr("stream.faust_thread.log_bounds", late_bounds)
        first = asyncio.ensure_future(seek(app, {(namespace, 0): 7}))
        await asyncio.sleep(0.1)
        await seek(app, {(namespace, 0): 4})
        await first
        await publisher.send(namespace, numbered(1))
        await until(lambda: position(app, namespace, 0) == 10)
    assert seen.offsets(namespace) == [*range(9), *range(4, 10)]


async def test_a_seek_of_what_is_not_owned_is_left_alone(runtime: EmbeddedRuntime, namespace: str) -> None:
    await make_topics(runtime.kafka, {namespace: 1})
    app = build_app(settings(runtime.kafka, namespace), {namespace: Collector()}, KnownPositions())
    async with running(app):
        await seek(app, {("elsewhere", 0): 5, (namespace, 9): 1})
        assert position(app, "elsewhere", 0) is None


async def test_bounds_are_true_after_batches_of_many_records(
    runtime: EmbeddedRuntime, namespace: str
) -> None:
    await make_topics(runtime.kafka, {namespace: 2})
    asked: list[dict[tuple[str, int], tuple[int, int]]] = []

    class Asking(KnownPositions):
        async def claim(self, assigned: frozenset[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
            asked.append(await bounds(app, list(assigned)))
            return await super().claim(assigned)

    async with Publisher(runtime.kafka) as publisher:
        await publisher.send(namespace, numbered(40))
    app = build_app(settings(runtime.kafka, namespace), {namespace: Collector()}, Asking())
    async with running(app):
        assert asked == [{(namespace, 0): (0, 40), (namespace, 1): (0, 0)}]


async def test_read_to_end_tells_what_has_nothing_left(runtime: EmbeddedRuntime, namespace: str) -> None:
    await make_topics(runtime.kafka, {namespace: 2})
    gate = asyncio.Event()

    async def handler(bundle: Bundle) -> None:
        if bundle.partition == 0:
            await gate.wait()

    app = build_app(settings(runtime.kafka, namespace), {namespace: handler}, KnownPositions())
    async with Publisher(runtime.kafka) as publisher, running(app):
        await publisher.send(namespace, numbered(3), 1)
        await until(lambda: position(app, namespace, 1) == 3)
        before_ms = time.time() * 1_000
        await asyncio.sleep(0.3)
        ends = await read_to_end(app)
        assert ends.keys() == {(namespace, 0), (namespace, 1)}
        assert min(ends.values()) >= before_ms
        await publisher.send(namespace, numbered(3), 0)
        await asyncio.sleep(0.3)
        assert (await read_to_end(app)).keys() == {(namespace, 1)}, "handed over is not yet handled"
        gate.set()
        await until(lambda: position(app, namespace, 0) == 3)
        await asyncio.sleep(0.3)
        assert len(await read_to_end(app)) == 2


async def test_topics_of_equal_partition_counts_are_owned_together(
    runtime: EmbeddedRuntime, namespace: str
) -> None:
    """Partition p of all of them has one owner; topics with other counts come along in the same app."""
    together = [f"{namespace}.{kind}" for kind in ("impressions", "clicks", "feedback")]
    counts = {**dict.fromkeys(together, 4), f"{namespace}.items": 2, f"{namespace}.control": 1}
    await make_topics(runtime.kafka, counts)
    sides = [KnownPositions(), KnownPositions()]
    apps = [
        build_app(settings(runtime.kafka, namespace), dict.fromkeys(counts, Collector()), side)
        for side in sides
    ]
    everything = {(topic, p) for topic, count in counts.items() for p in range(count)}
    async with running(apps[0]), running(apps[1]):
        await until(
            lambda: (
                len(sides[1].claims) and consumer_of(apps[0]).owned | consumer_of(apps[1]).owned == everything
            )
        )
        owned = [consumer_of(app).owned for app in apps]
        assert owned[0].isdisjoint(owned[1])
        for mine in owned:
            shards = [{p for topic, p in mine if topic == name} for name in together]
            assert len(shards[0]) == 2
            assert shards[0] == shards[1] == shards[2]
    assert sides[0].releases[0] == everything, (
        "the first owner gives all back before the second gets its part"
    )
