"""An erasure on a real store: the commit script's part of it, and what servers that follow the feed do."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from headwater.embedded import EmbeddedRuntime
from serving.app import end_tasks, make_live
from serving.sync import Sync
from state.access import read_access
from state.clients import redis_client
from state.commit import Change, FencedError, Purge, claim_unit, commit
from state.erasing import standing_receipt
from state.keys import feed_key, unit_prefix
from state.sessions import session_hash
from state.settings import Settings
from stream.effects import Place
from stream.rows import Row
from stream.shard import ShardLogic
from stream.units import shard_rules
from tests.integration.rig import until
from tests.stream.folding import AT, click, decision, decision_id, impression, profile
from tests.stream.folding import settings as shard_settings


class Shard:
    """One shard folded on a real store, as its folder does, without Kafka."""

    def __init__(self, settings: Settings, redis: Any) -> None:
        self.redis, self.prefix = redis, unit_prefix(settings.namespace, "0")
        self._logic = ShardLogic(Place(self.prefix, "0", 0), shard_rules(settings))

    async def claim(self) -> None:
        self._claim = await claim_unit(self.redis, self.prefix)
        hashes = {key: await self.redis.hgetall(key) for key in self._logic.hashes}
        self._logic.restore(self._claim.meta, hashes)

    async def fold(self, rows: Sequence[Row]) -> int:
        wanted = self._logic.wanted(rows, AT)
        self._logic.put(await self.redis.mget(wanted) if wanted else [])
        change = self._logic.fold(rows, AT).finish()
        return await commit(self.redis, self.prefix, self._claim.epoch, change)


@pytest.fixture
def settings(runtime: EmbeddedRuntime, namespace: str) -> Settings:
    return shard_settings(redis=runtime.redis, namespace=namespace)


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Any]:
    async with redis_client(settings, timeout_s=10.0) as client:
        yield client


@pytest.fixture
async def shard(settings: Settings, redis: Any) -> Shard:
    shard = Shard(settings, redis)
    await shard.claim()
    return shard


def traffic(user: str = "u1", session: str = "s1", number: int = 1) -> list[Row]:
    return [
        decision(user=user, number=number, session_id=session),
        impression(user=user, decision=number, session_id=session),
        click("a", user=user, at=AT + 1, session_id=session),
        click("b", user=user, at=AT + 2, session_id=session),
    ]


async def test_a_purge_takes_the_members_values_and_counts_them_into_the_entry(
    redis: Any, namespace: str
) -> None:
    prefix = unit_prefix(namespace, "0")
    epoch = (await claim_unit(redis, prefix)).epoch
    values = {f"{prefix}v:{n}": (b"x", 60_000) for n in range(3)}
    written = Change(values=values, indexed={f"{prefix}ix": {str(n): 60_000 for n in (0, 1, 4)}})
    await commit(redis, prefix, epoch, written)
    assert 0 < await redis.pttl(f"{prefix}ix") <= 60_000
    gone = Purge(f"{prefix}v:", ("2",), f"{prefix}list", "name", b'{"erased_at":1}')
    later = Change(
        purged={f"{prefix}ix": gone},
        values={f"{prefix}v:1": (b"new", 60_000)},
        indexed={f"{prefix}ix": {"1": 60_000}},
    )
    with pytest.raises(FencedError):
        await commit(redis, prefix, epoch - 1, later)
    assert await redis.zcard(f"{prefix}ix") == 3
    number = await commit(redis, prefix, epoch, later)
    assert await redis.mget(sorted(values)) == [None, b"new", None]
    assert await redis.zrange(f"{prefix}ix", 0, -1) == [b"1"]
    listed = msgspec.json.decode(await redis.hget(f"{prefix}list", "name"))
    assert listed == {"erased_at": 1, "commit": number, "decisions": 3}


async def test_members_older_than_their_values_leave_the_index(redis: Any, namespace: str) -> None:
    prefix = unit_prefix(namespace, "0")
    epoch = (await claim_unit(redis, prefix)).epoch
    await commit(redis, prefix, epoch, Change(indexed={f"{prefix}ix": {"old": 60_000}}))
    await asyncio.sleep(0.05)
    await commit(redis, prefix, epoch, Change(indexed={f"{prefix}ix": {"new": 40}}))
    assert await redis.zrange(f"{prefix}ix", 0, -1) == [b"new"]


async def test_an_emptied_feed_holds_the_commit_that_emptied_it_and_nothing_before(
    shard: Shard, redis: Any
) -> None:
    await shard.fold(traffic())
    number = await shard.fold([profile(at=AT + 9, erase=True)])
    assert [entry[0] for entry in await redis.xrange(feed_key(shard.prefix))] == [f"{number}-0".encode()]


async def test_a_server_in_step_drops_the_sessions_at_once_and_one_behind_loads_anew(
    shard: Shard, settings: Settings, redis: Any
) -> None:
    await shard.fold([*traffic(), *traffic("u2", "s2", 2)])
    victim, other = session_hash("u1", "s1"), session_hash("u2", "s2")
    in_step, behind = [Sync(settings, redis, make_live(settings)) for _ in range(2)]
    await behind.load()
    assert len(behind.live.sessions.session_items(victim)) == 2
    following = asyncio.create_task(in_step.run())
    await asyncio.wait_for(in_step.ready.wait(), 30)
    await shard.fold([click("c", user="u1", at=AT + 3)])
    await shard.fold([profile(at=AT + 9, erase=True), click("d", user="u1", at=AT + 12)])

    async def is_dropped() -> bool:
        row = in_step.live.items.row("d")
        return bool(in_step.live.sessions.session_items(victim).tolist() == [row])

    await until(is_dropped, "the server in step holds only what is new")
    await end_tasks([following])
    assert in_step.reloads == 1
    await asyncio.wait_for(behind._follow(), 30)  # ends at the gap; `run` loads anew then
    await behind.load()
    for live in (in_step.live, behind.live):
        assert live.sessions.session_items(victim).tolist() == [live.items.row("d")]
        assert len(live.sessions.session_items(other)) == 2


async def test_a_server_that_loads_after_an_erasure_knows_no_more_than_if_nobody_had_been_there(
    shard: Shard, settings: Settings, redis: Any, namespace: str
) -> None:
    never = Shard(msgspec.structs.replace(settings, namespace=f"{namespace}n"), redis)
    await never.claim()
    for one in (shard, never):
        await one.fold(traffic("u2", "s2", 2))
    await shard.fold(traffic())
    await shard.fold([profile(at=AT + 9, erase=True)])
    loaded = []
    for name in (namespace, f"{namespace}n"):
        there = msgspec.structs.replace(settings, namespace=name)
        sync = Sync(there, redis, make_live(there))
        await sync.load()
        loaded.append(sync.live)
    after, without = loaded
    assert len(after.sessions.session_items(session_hash("u1", "s1"))) == 0
    assert _sessions(after) == _sessions(without) == {session_hash("u2", "s2"): ["a", "b"]}
    pairs = [[live.items.row(item) for item in "ab"] for live in loaded]
    counts = [live.covisits.score([rows[0]], limit=5) for live, rows in zip(loaded, pairs, strict=True)]
    assert str(counts[0]) == str(counts[1])


def _sessions(live: Any) -> dict[int, list[str]]:
    hashes = [session_hash(user, session) for user, session in (("u1", "s1"), ("u2", "s2"))]
    held = {one: [live.items.ids[row] for row in live.sessions.session_items(one)] for one in hashes}
    return {one: items for one, items in held.items() if items}


async def test_access_shows_all_that_is_stored_and_a_standing_receipt_that_nothing_is(
    shard: Shard, settings: Settings, redis: Any
) -> None:
    orphan = impression(user="u1", decision=5, at=AT + 20)
    await shard.fold([*traffic(), *traffic("u2", "s2", 2), orphan])
    access = await read_access(redis, settings, "u1")
    assert access.record is not None
    assert (access.record["recent"], access.record["session_id"]) == (["a", "b"], "s1")
    assert [one["decision_id"] for one in access.open_decisions] == [decision_id(1), decision_id(5)]
    assert [msgspec.json.decode(raw)["event_id"] for raw in access.decisions] == [decision_id(1)]
    assert [one["items"] for one in access.sessions] == [["a", "b"]]
    assert await standing_receipt(redis, settings, "u1") is None
    await shard.fold([profile(at=AT + 30, erase=True)])
    assert (await read_access(redis, settings, "u1")).is_empty
    standing = await standing_receipt(redis, settings, "u1")
    assert standing is not None
    assert (standing.removed.open_decisions, standing.removed.decisions) == (2, 1)
    await shard.fold([click("z", at=AT + 40)])
    assert await standing_receipt(redis, settings, "u1") is None
