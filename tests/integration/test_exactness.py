"""Loses nothing, doubles nothing: workers are killed, paused, joined and sent away in mid-stream."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.integration.rig import Child, Rig, is_alive, make_items, until
from tests.integration.traffic import Visits, assert_exact

RATE = 25.0
GENRES = ("drama", "comedy", "crime", "romance")


@asynccontextmanager
async def steady(rig: Rig) -> AsyncIterator[Visits]:
    """Visits under way for as long as the block lasts."""
    visits = Visits(rig)
    async with asyncio.TaskGroup() as group:
        group.create_task(visits.run(RATE))
        try:
            yield visits
        finally:
            visits.stop()


async def more_folded(rig: Rig, events: int) -> None:
    """Wait until so many more impressions have been folded."""
    folded = await rig.folded()
    await rig.counts(impressions=folded.subjects.get("impressions", 0) + events)


async def more_published(visits: Visits, events: int) -> None:
    """Wait until so many more impressions have been published."""
    goal = visits.truth.events["impressions"] + events

    async def are_published() -> bool:
        return visits.truth.events["impressions"] >= goal

    await until(are_published, f"{goal} impressions published")


async def restart(rig: Rig, child: Child) -> Child:
    """Kill a worker, and start another in its place."""
    before = await rig.epochs()
    child.kill()
    assert await rig.ended(child) == -signal.SIGKILL
    new = rig.processes.worker()
    await rig.claimed(since=before)
    return new


async def test_killing_the_worker_mid_stream_loses_and_doubles_nothing(rig: Rig) -> None:
    (worker,) = await rig.start()
    await rig.catalogue(make_items(GENRES, 10))
    async with steady(rig) as visits:
        await more_folded(rig, 20)
        worker = await restart(rig, worker)
        await more_folded(rig, 1)  # in the middle of what has piled up
        worker = await restart(rig, worker)
        await more_folded(rig, 40)
    await assert_exact(rig, visits.truth)
    assert is_alive(worker)


async def test_a_paused_worker_that_wakes_up_can_change_nothing(rig: Rig) -> None:
    first, second = await rig.start(workers=2)
    await rig.catalogue(make_items(GENRES, 10))
    async with steady(rig) as visits:
        await more_folded(rig, 20)
        for paused in (first, second):
            before = await rig.epochs()
            paused.send_signal(signal.SIGSTOP)
            await rig.claimed(since=before)
            await more_folded(rig, 20)
            paused.send_signal(signal.SIGCONT)
            await more_folded(rig, 40)
    await assert_exact(rig, visits.truth)
    assert is_alive(first)
    assert is_alive(second)


async def test_a_second_worker_takes_its_share_and_nothing_is_lost(rig: Rig) -> None:
    (first,) = await rig.start()
    await rig.catalogue(make_items(GENRES, 10))
    async with steady(rig) as visits:
        await more_folded(rig, 20)
        before = await rig.epochs()
        second = rig.processes.worker()
        await rig.claimed(since=before)
        await more_folded(rig, 40)
        before = await rig.epochs()
        first.terminate()
        assert await rig.ended(first) == 0
        await rig.claimed(since=before)
        await more_folded(rig, 40)
    await assert_exact(rig, visits.truth)
    assert is_alive(second)
