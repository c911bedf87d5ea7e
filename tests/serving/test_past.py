"""Sessions of an import are taken in by time, beside live ones, and nothing of the blend is touched."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from redis.asyncio import Redis

from headwater.embedded import EmbeddedRuntime
from online_models.retrieval import Recommender
from serving import past
from serving.live import LiveState
from serving.past import PastSessions
from state.events import encode
from state.feed import NO_SESSION, Interaction, ShardFeed
from state.keys import sessions_key, unit_prefix
from state.sessions import SessionRow, encode_session
from tests.serving.world import empty, item
from tests.stream.folding import AT

Stored = dict[int, tuple[list[str], list[int]]]
OLD: Stored = {n: ([f"i{n}", f"i{n + 1}"], [AT - 10**8 + n, AT - 10**8 + n + 500]) for n in range(30)}
NEW: Stored = {n: ([f"i{n % 7}", "i9"], [AT + n, AT + n + 500]) for n in range(100, 130)}


def shop() -> LiveState:
    live = empty()
    for number in range(40):
        live.put_item(encode(item(number)))
    return live


def interactions(sessions: Stored) -> list[Interaction]:
    return [
        Interaction(session, name, at, 1.0)
        for session, (names, times) in sessions.items()
        for name, at in zip(names, times, strict=True)
    ]


@pytest.fixture
async def redis(runtime: EmbeddedRuntime) -> AsyncIterator[Any]:
    client = Redis.from_url(runtime.redis)
    yield client
    await client.aclose()


@pytest.fixture
def prefix() -> str:
    return unit_prefix(f"t{uuid.uuid4().hex[:8]}", "0")


async def store(redis: Any, prefix: str, sessions: Stored) -> None:
    for session, (names, times) in sessions.items():
        await redis.hset(sessions_key(prefix), str(session), encode_session(SessionRow(names, times)))


async def taken_in(sessions: PastSessions, times: int = 1) -> None:
    async with asyncio.timeout(20):
        while sessions.rebuilds < times:
            sessions.tick()
            await asyncio.sleep(0.005)


def votes(live: LiveState, taken: str = "i9") -> tuple[list[int], list[float], list[int]]:
    row = live.items.row(taken)
    rows, scores = live.sessions.score([row], AT + 10**6, limit=20)
    return rows.tolist(), scores.round(9).tolist(), live.covisits.score([row], limit=20)[0].tolist()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "CALM_S", 0.0)
    monkeypatch.setattr(past, "BUILT", 3)


async def test_after_an_import_a_server_ranks_as_one_that_starts_then(redis: Any, prefix: str) -> None:
    await store(redis, prefix, OLD | NEW)
    live, fresh = shop(), shop()
    live.apply_shard(0, ShardFeed(interactions(NEW)))
    entry = ShardFeed(history=interactions(OLD))
    live.apply_shard(0, entry)
    sessions = PastSessions(live, redis, [prefix])
    sessions.note(entry)
    await taken_in(sessions)
    fresh.load_sessions(OLD | NEW)
    assert votes(live) == votes(fresh)
    assert votes(live, "i5") == votes(fresh, "i5")
    assert live.sessions.sessions == len(OLD | NEW)


async def test_what_happens_while_sessions_are_taken_in_is_kept_and_counts_once(
    redis: Any, prefix: str
) -> None:
    await store(redis, prefix, OLD | NEW)
    live = shop()
    sessions = PastSessions(live, redis, [prefix])
    sessions.note(ShardFeed(history=interactions(OLD)))
    sessions.tick()
    known = Interaction(100, "i9", AT + 600, 1.0)  # session 100 has it already, at this very time
    more = [Interaction(100, "i20", AT + 900, 1.0), Interaction(500, "i9", AT + 901, 1.0), known]
    live.apply_shard(0, entry := ShardFeed(more, dropped_sessions=[3]))
    sessions.note(entry)
    await taken_in(sessions)
    held = [live.items.ids[row] for row in live.sessions.session_items(100)]
    assert held == ["i2", "i9", "i20"]
    assert live.sessions.session_items(500).tolist() == [live.items.row("i9")]
    assert live.sessions.session_items(3).size == 0


async def test_history_counts_in_trends_at_once_and_teaches_nothing() -> None:
    live = shop()
    live.apply_shard(0, ShardFeed(history=interactions(OLD)))
    assert live.recommender.blend.lessons == 0
    assert live.sessions.sessions == 0
    counts = live.trends.scores(np.array([live.items.row("i5")]), AT - 10**8)
    assert counts[0][-1] == pytest.approx(2.0, rel=1e-3)


async def test_without_an_import_nothing_is_built(redis: Any, prefix: str) -> None:
    sessions = PastSessions(shop(), redis, [prefix])
    sessions.note(ShardFeed(interactions(NEW)))
    for _ in range(5):
        sessions.tick()
        await asyncio.sleep(0.005)
    assert sessions.rebuilds == 0


async def test_a_load_in_between_is_not_undone(redis: Any, prefix: str) -> None:
    await store(redis, prefix, OLD)
    live = shop()
    sessions = PastSessions(live, redis, [prefix])
    sessions.note(ShardFeed(history=interactions(OLD)))
    sessions.tick()
    await asyncio.sleep(0)  # it has begun
    live.forget_subjects()
    live.load_sessions(loaded := OLD | NEW)
    index = live.sessions
    await asyncio.sleep(0.3)
    await sessions.stop()
    assert live.sessions is index
    assert live.sessions.sessions == len(loaded)


async def test_who_is_erased_while_sessions_are_taken_in_does_not_come_back(redis: Any, prefix: str) -> None:
    await store(redis, prefix, OLD | NEW)
    live = shop()
    sessions = PastSessions(live, redis, [prefix])
    sessions.note(ShardFeed(history=interactions(OLD)))
    sessions.tick()
    gone = Interaction(NO_SESSION, "i9", AT + 900, 1.0)  # what an erasure leaves of a step in its own commit
    live.apply_shard(0, entry := ShardFeed([gone], erased_sessions=[3, 100]))
    sessions.note(entry)
    await taken_in(sessions)
    assert live.sessions.session_items(3).size == 0
    assert live.sessions.session_items(100).size == 0
    assert live.sessions.session_items(NO_SESSION).size == 0


async def test_items_that_come_while_sessions_are_taken_in_can_be_shown_after(
    redis: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(redis, prefix, OLD | NEW)
    live, begun = shop(), asyncio.Event()
    make = live.fresh_recommender

    def noted() -> Recommender:
        begun.set()
        return make()

    monkeypatch.setattr(live, "fresh_recommender", noted)
    sessions = PastSessions(live, redis, [prefix])
    sessions.note(ShardFeed(history=interactions(OLD)))
    sessions.tick()
    await begun.wait()
    for number in range(40, 1_100):
        live.put_item(encode(item(number, published_at=AT + number)))
    await taken_in(sessions)
    assert live.items.row("i1099") in live.recommender.recommend([], AT + 10**6, 20).rows


async def test_others_have_their_turn_while_a_long_backlog_is_caught_up_with(redis: Any, prefix: str) -> None:
    live = shop()
    sessions, fresh = PastSessions(live, redis, [prefix]), live.fresh_recommender()
    entries = [ShardFeed(interactions({n: held})) for n, held in NEW.items()]
    sessions._entries.extend(entries[:-1])
    turns = 0

    async def others() -> None:
        nonlocal turns
        sessions._entries.append(entries[-1])  # as the feed goes on meanwhile
        while True:
            turns += 1
            await asyncio.sleep(0)

    going_on = asyncio.create_task(others())
    await asyncio.sleep(0)
    await sessions._catch_up({}, fresh)
    seen = turns
    going_on.cancel()
    assert seen > 20
    assert fresh.index.sessions == len(NEW)


async def test_what_an_import_taught_is_known_of_what_is_treated_alike(redis: Any, prefix: str) -> None:
    await store(redis, prefix, OLD | NEW)
    live = shop()
    assert live.settle_moved(100) == 0
    sessions = PastSessions(live, redis, [prefix])
    sessions.note(ShardFeed(history=interactions(OLD)))
    await taken_in(sessions)
    assert live.settle_moved(100) == 0
    assert live.behaviour.around([live.items.row("i9")], 9).size == 9
