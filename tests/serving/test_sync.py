"""A server follows one history of each unit: a takeover goes on in it, a store gone back does not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest

from bandits.hybrid import packed_size
from bandits.ranking import ranking_policy, seal
from headwater.embedded import EmbeddedRuntime
from serving import sync as following
from serving.app import end_tasks, make_live
from serving.sync import Sync
from state.clients import redis_client
from state.commit import Change, claim_unit, commit
from state.events import encode
from state.feed import NO_SESSION, Interaction, ShardFeed, encode_feed
from state.keys import bandit_key, feed_key, item_unit, items_key, meta_key, unit_prefix
from state.packing import pack_vector
from state.settings import Settings
from tests.serving.world import item

FEED = encode_feed(ShardFeed())


class Followed:
    """One shard, and a server that follows it."""

    def __init__(self, settings: Settings, redis: Any) -> None:
        self.redis, self.prefix = redis, unit_prefix(settings.namespace, "0")
        self.settings, self.sync = settings, Sync(settings, redis, make_live(settings))

    async def commits(self, count: int) -> None:
        """Claim the shard and commit so many times."""
        claim = await claim_unit(self.redis, self.prefix)
        for number in range(count):
            change = Change(feed=FEED, follows=claim.commit + number)
            await commit(self.redis, self.prefix, claim.epoch, change)

    async def step_back(self, meta: dict[bytes, bytes]) -> None:
        """Let the shard be what an older copy of the store holds of it."""
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.delete(feed_key(self.prefix), meta_key(self.prefix))
            pipe.hset(meta_key(self.prefix), mapping=meta)
            await pipe.execute()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the server has come so far."""
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)


@pytest.fixture
async def followed(runtime: EmbeddedRuntime, namespace: str) -> AsyncIterator[Followed]:
    settings = Settings(redis=runtime.redis, namespace=namespace, shards=1, token_secret="of the tests only")
    redis = redis_client(settings, timeout_s=5.0)
    found = Followed(settings, redis)
    following = asyncio.create_task(found.sync.run())
    await found.until(found.sync.ready.is_set)
    yield found
    await end_tasks([following])
    await redis.aclose()


async def test_a_new_owner_that_goes_on_is_followed_without_loading_anew(followed: Followed) -> None:
    for owner in range(1, 4):
        await followed.commits(5)
        await followed.until(lambda wished=5 * owner: followed.sync.applied == wished)  # type: ignore[misc]
    assert followed.sync.reloads == 1


async def test_a_shard_that_stepped_back_is_loaded_anew(followed: Followed) -> None:
    await followed.commits(1)
    meta = await followed.redis.hgetall(meta_key(followed.prefix))
    await followed.commits(4)
    await followed.until(lambda: followed.sync.applied == 5)
    await followed.step_back(meta)
    await followed.until(lambda: followed.sync.reloads == 2)
    await followed.commits(1)
    await followed.until(lambda: followed.sync.applied == 6)
    assert followed.sync.reloads == 2, "what comes after is followed, not loaded"


async def test_another_history_under_the_same_numbers_is_not_taken_for_the_one_that_was_applied(
    followed: Followed,
) -> None:
    await followed.commits(1)
    meta = await followed.redis.hgetall(meta_key(followed.prefix))
    await followed.commits(4)
    await followed.until(lambda: followed.sync.applied == 5)
    await followed.step_back(meta)
    await followed.commits(4)  # within the second in which the server might look how far the store is
    await followed.commits(1)
    await followed.until(lambda: followed.sync.reloads == 2)
    assert followed.sync.applied < 10, "the entry that fits by its number was not applied"


async def test_a_block_a_shard_has_forgotten_leaves_the_server_even_when_nothing_was_learnt(
    followed: Followed,
) -> None:
    config, key = ranking_policy(), bandit_key(followed.prefix)
    context, same = np.ones(config.context_dim), np.ones((2, config.item_dim))

    def scores_as_new() -> bool:
        means, variances = followed.sync.live.posterior.score(
            context, same, ["a", "never seen"], None, with_variance=True
        )
        assert variances is not None
        return np.allclose(means[0], means[1]) and np.allclose(variances[0], variances[1])

    claim = await claim_unit(followed.redis, followed.prefix)
    block = np.ones(packed_size(config.context_dim))
    learnt = Change(fields={key: {"i:a": seal(pack_vector(block))}}, follows=0)
    learnt.feed = encode_feed(ShardFeed(bandit_items=["a"], bandit_shared=True))
    await commit(followed.redis, followed.prefix, claim.epoch, learnt)
    await followed.until(lambda: not scores_as_new())
    swept = Change(dropped_fields={key: {"i:a": None}}, follows=1)
    swept.feed = encode_feed(ShardFeed(bandit_items=["a"]))
    await commit(followed.redis, followed.prefix, claim.epoch, swept)
    await followed.until(scores_as_new)
    assert followed.sync.reloads == 1, "it left with the feed, not with a load"


async def test_an_entry_of_a_newer_worker_is_passed_over_by_loading_anew(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "AFTER_DEFECT_S", 0.01)
    claim = await claim_unit(followed.redis, followed.prefix)
    await commit(followed.redis, followed.prefix, claim.epoch, Change(feed=b"\xc1 no MessagePack", follows=0))
    await followed.until(lambda: followed.sync.reloads == 2)
    await commit(followed.redis, followed.prefix, claim.epoch, Change(feed=FEED, follows=1))
    await followed.until(lambda: followed.sync.applied == 1)
    assert followed.sync.reloads == 2, "what comes after is followed, not loaded"


async def test_an_item_removed_while_the_feed_was_not_read_is_gone_after_a_load(
    runtime: EmbeddedRuntime, namespace: str
) -> None:
    settings = Settings(redis=runtime.redis, namespace=namespace, shards=1, token_secret="of the tests only")
    redis = redis_client(settings, timeout_s=5.0)
    key = items_key(unit_prefix(namespace, item_unit(0)))
    await redis.hset(key, mapping={f"i{number}": encode(item(number)) for number in (1, 2)})
    sync = Sync(settings, redis, make_live(settings))
    await sync.load()
    await redis.hdel(key, "i1")
    await sync.load()
    await redis.aclose()
    rows = sync.live.items.newest(10)
    assert [sync.live.items.ids[row] for row in rows if sync.live.items.available[row]] == ["i2"]
    assert sync.live.items.row("i1") not in sync.live.vectors


async def test_a_server_that_starts_knows_what_segments_have_taken_of_late(followed: Followed) -> None:
    claim = await claim_unit(followed.redis, followed.prefix)
    step = Interaction(NO_SESSION, "i1", 1_750_000_000_000, 1.0, "home", ["device:tv"])
    for number, feed in enumerate([encode_feed(ShardFeed(interactions=[step] * 60)), b"\xc1", FEED]):
        change = Change(feed=feed, follows=number)
        await commit(followed.redis, followed.prefix, claim.epoch, change)
    starting = Sync(followed.settings, followed.redis, make_live(followed.settings))
    await starting.load()
    assert starting.live.groups.mass("device:tv", step.at_ms) == pytest.approx(60.0)


async def test_what_visitors_take_together_becomes_alike_as_the_feed_is_followed(
    followed: Followed,
) -> None:
    live = followed.sync.live
    for number in range(4):
        live.put_item(encode(item(number)))
    claim = await claim_unit(followed.redis, followed.prefix)
    for session in range(20):
        at_ms = 1_000 * session
        steps = [Interaction(1 + session, f"i{n}", at_ms + n, 1.0) for n in (1, 2)]
        change = Change(feed=encode_feed(ShardFeed(steps)), follows=claim.commit + session)
        await commit(followed.redis, followed.prefix, claim.epoch, change)
    near, alike = live.items.row("i2"), [live.items.row("i1")]
    await followed.until(lambda: live.behaviour.around(alike, 5).size > 0)
    assert live.behaviour.around(alike, 5).tolist() == [near]
