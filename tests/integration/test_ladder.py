"""Whatever is gone: answers go on, say what they were made from, and nothing is lost."""

import asyncio
import os
import signal
import time
from argparse import Namespace
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from benchmarks.ladder import FAULTS, failures, run_ladder
from headwater.embedded import EmbeddedBroker, EmbeddedRuntime, EmbeddedStore
from serving.requests import RecommendationAnswer
from tests.integration.rig import (
    Processes,
    Rig,
    click_on,
    engine_settings,
    is_alive,
    make_items,
    stamp,
    until,
)

GENRES = ("drama", "comedy", "crime")
ANSWER_LIMIT_S = 3.0


@pytest.fixture
def store() -> Iterator[EmbeddedStore]:
    """A store of the test's own that keeps every write it has answered."""
    with EmbeddedStore(append_only=True, fsync="always") as running:
        yield running


@pytest.fixture
async def fragile(runtime: EmbeddedRuntime, store: EmbeddedStore, namespace: str) -> AsyncIterator[Rig]:
    """An engine on a store that may be stopped."""
    settings = engine_settings(runtime.kafka, store.url, namespace, redis_timeout_ms=200)
    with Processes(settings) as processes:
        async with Rig(processes) as rig:
            yield rig


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    """A broker of the test's own."""
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
async def silenced(runtime: EmbeddedRuntime, broker: EmbeddedBroker, namespace: str) -> AsyncIterator[Rig]:
    """An engine on a broker that may be paused; whatever comes late because of that is in time."""
    settings = engine_settings(
        broker.address, runtime.redis, namespace, lateness_s=12_000.0, session_timeout_s=2.0
    )
    with Processes(settings) as processes:
        async with Rig(processes) as rig:
            yield rig


async def timely(rig: Rig, user: str, **wishes: Any) -> RecommendationAnswer:
    """Return an answer that has to be in time and may not be empty."""
    started = time.monotonic()
    answer = await rig.ask(user, k=5, **wishes)
    took = time.monotonic() - started
    assert took < ANSWER_LIMIT_S, f"an answer after {took:.1f} s"
    assert answer.items, f"an empty answer of rung {answer.rung}"
    return answer


async def becomes(rig: Rig, user: str, rung: str) -> RecommendationAnswer:
    """Ask until answers come from a rung again."""
    found: list[RecommendationAnswer] = []

    async def is_there() -> bool:
        found[:] = [await timely(rig, user)]
        return found[0].rung == rung

    await until(is_there, f"{user} is answered from rung {rung}")
    return found[0]


async def click(rig: Rig, user: str, item_id: str) -> str:
    """Click through the gateway, which has to take it; returns the event id."""
    event = {**stamp(), "user_id": user, "session_id": f"{user}-session", "item_id": item_id}
    (verdict,) = await rig.gateway(("clicks", event))
    assert verdict["accepted"], verdict
    return str(event["event_id"])


async def assert_rungs_are_named(rig: Rig, seconds: float) -> None:
    """Ask in every way for a while: each answer names the rung that this way leads to without a store."""
    deadline = time.monotonic() + seconds
    asked = 0
    while asked < 5 or time.monotonic() < deadline:
        answers = {
            "trend": await timely(rig, "stranger"),
            "session": await timely(rig, "known", recent_items=["drama-1", "drama-2"]),
            "segment": await timely(rig, "unknown", categories=["crime"]),
        }
        assert {wished: answer.rung for wished, answer in answers.items()} == {r: r for r in answers}
        assert all(item.item_id.startswith("crime-") for item in answers["segment"].items)
        asked += 1
        await asyncio.sleep(0.05)


async def test_without_the_store_the_server_still_answers_and_names_its_rung(
    fragile: Rig, store: EmbeddedStore
) -> None:
    rig = fragile
    (worker,) = await rig.start()
    server = rig.processes.children[1]
    await rig.catalogue(make_items(GENRES, 10))
    for number in range(3):
        await click(rig, "known", f"drama-{number}")
        await click(rig, "other", f"crime-{number}")
    await rig.counts(clicks=6)
    await becomes(rig, "known", "personal")

    store.kill()
    await until_rung_changes(rig)
    await assert_rungs_are_named(rig, seconds=1.5)
    stale = await timely(rig, "known", after=await click(rig, "known", "comedy-1"), wait_ms=50)
    assert stale.stale
    assert stale.staleness_ms > 1000
    store.restart()
    await becomes(rig, "known", "personal")

    os.kill(store.pid, signal.SIGSTOP)
    try:
        await until_rung_changes(rig)
        await assert_rungs_are_named(rig, seconds=1.5)
        last = await click(rig, "known", "comedy-2")
    finally:
        os.kill(store.pid, signal.SIGCONT)
    await becomes(rig, "known", "personal")

    folded = await rig.counts(clicks=8)
    assert folded.subjects["clicks"] == 8
    assert (await rig.subject("known")).clicks == 5
    assert not (await timely(rig, "known", after=last, wait_ms=1000)).stale
    assert is_alive(worker)
    assert is_alive(server)


async def until_rung_changes(rig: Rig) -> None:
    """Ask until the server has noticed that its store is gone; meanwhile answers are as good as ever."""

    async def has_noticed() -> bool:
        return (await timely(rig, "known")).rung != "personal"

    await until(has_noticed, "the server notices that its store is gone", patience_s=10.0)


async def test_decisions_wait_for_kafka_and_none_is_lost(silenced: Rig, broker: EmbeddedBroker) -> None:
    rig = silenced
    (worker,) = await rig.start()
    await rig.catalogue(make_items(GENRES, 10))
    asked = [await timely(rig, f"user-{number % 7}") for number in range(30)]
    await rig.counts(decisions=len(asked))

    os.kill(broker.pid, signal.SIGSTOP)
    try:
        late_server = rig.processes.server()  # one that has never seen the broker
        paused_until = time.monotonic() + 4.0
        while time.monotonic() < paused_until:
            asked.append(await timely(rig, f"user-{len(asked) % 7}"))
            await asyncio.sleep(0.02)
        await rig.ready(late_server)
        asked += [await timely(rig, f"user-{number % 7}", api=late_server) for number in range(30)]
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    asked += [await timely(rig, f"user-{number % 7}") for number in range(30)]

    ids = {answer.decision_id for answer in asked}
    assert len(ids) == len(asked)
    logged = await rig.events("decisions", len(ids))
    assert {decision.event_id for decision in logged} == ids
    shown = {decision.event_id: [slot.item_id for slot in decision.slots] for decision in logged}
    assert shown == {answer.decision_id: [item.item_id for item in answer.items] for answer in asked}
    folded = await rig.counts(decisions=len(ids))
    assert folded.subjects["decisions"] == len(ids)
    assert Counter(decision.subject for decision in logged).keys() == {f"user-{n}" for n in range(7)}
    await rig.publish(click_on("user-1", "drama-1"))
    await rig.counts(clicks=1)
    assert is_alive(worker)


async def test_workers_feeds_and_servers_may_go_while_every_request_is_answered() -> None:
    given = Namespace(rate=20.0, seconds=2.0, away=0.0, seed=1)
    report = await run_ladder(given, ["worker dead", "change feed cut", "server told to stop"])
    assert failures(report) == []
    assert report["answered"] > 100
    assert all(report[name]["rungs"]["personal"] > 0.9 for name in FAULTS if name in report)
