"""The claim and the commit on a real store, which may turn back into an older copy of itself."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from headwater.embedded import EmbeddedRuntime
from state.clients import redis_client
from state.commit import Change, FencedError, claim_unit, commit
from state.keys import counters_key, feed_key, meta_key, outbox_key, unit_prefix
from state.settings import Settings


class Unit:
    """A unit of a namespace of its own, with what an older copy of the store would hold of it."""

    def __init__(self, redis: Any, prefix: str) -> None:
        self.redis, self.prefix = redis, prefix
        self._copy: dict[bytes, bytes] = {}

    async def copy(self) -> None:
        """Remember the unit as it is."""
        self._copy = dict(await self.redis.hgetall(meta_key(self.prefix)))

    async def turn_back(self) -> None:
        """Let the unit be as it was remembered."""
        await self.redis.delete(meta_key(self.prefix), feed_key(self.prefix))
        await self.redis.hset(meta_key(self.prefix), mapping=self._copy)

    async def commit(self, epoch: int, follows: int | None, **offsets: tuple[int | None, int]) -> int:
        """Commit offsets and a counter."""
        fields = {counters_key(self.prefix): {"folded": b"1"}}
        return await commit(
            self.redis, self.prefix, epoch, Change(offsets=offsets, fields=fields, follows=follows)
        )

    async def counted(self) -> int:
        """Return how many counters were written."""
        return int(await self.redis.hlen(counters_key(self.prefix)))


@pytest.fixture
async def unit(runtime: EmbeddedRuntime, namespace: str) -> AsyncIterator[Unit]:
    redis = redis_client(Settings(redis=runtime.redis), timeout_s=5.0)
    yield Unit(redis, unit_prefix(namespace, "0"))
    await redis.aclose()


async def test_commits_are_numbered_and_each_follows_the_one_before(unit: Unit) -> None:
    claim = await claim_unit(unit.redis, unit.prefix)
    assert claim.commit == 0
    assert [await unit.commit(claim.epoch, follows) for follows in range(3)] == [1, 2, 3]
    assert (await claim_unit(unit.redis, unit.prefix)).commit == 3


async def test_a_commit_sent_twice_is_written_once(unit: Unit) -> None:
    claim = await claim_unit(unit.redis, unit.prefix)
    await commit(unit.redis, unit.prefix, claim.epoch, Change(outbox=[b"a", b"b"], follows=0))
    trim = Change(sent=1, follows=1)
    await commit(unit.redis, unit.prefix, claim.epoch, trim)
    with pytest.raises(FencedError, match="stands at commit 2, the change follows 1"):
        await commit(unit.redis, unit.prefix, claim.epoch, trim)
    assert await unit.redis.lrange(outbox_key(unit.prefix), 0, -1) == [b"b"]


async def test_an_older_copy_takes_no_commit_even_of_topics_in_which_it_is_not_older(unit: Unit) -> None:
    claim = await claim_unit(unit.redis, unit.prefix)
    await unit.copy()
    await unit.commit(claim.epoch, 0, clicks=(None, 5))
    await unit.redis.delete(counters_key(unit.prefix))
    await unit.turn_back()
    with pytest.raises(FencedError, match="stands at commit 0, the change follows 1"):
        await unit.commit(claim.epoch, 1, impressions=(None, 3))
    assert await unit.counted() == 0


async def test_an_owner_whose_claim_was_lost_can_change_nothing_after_the_next_claim(unit: Unit) -> None:
    await claim_unit(unit.redis, unit.prefix)
    await unit.copy()
    lost = await claim_unit(unit.redis, unit.prefix)
    await unit.turn_back()
    current = await claim_unit(unit.redis, unit.prefix)
    with pytest.raises(FencedError, match="is held by epoch"):
        await unit.commit(lost.epoch, 0, clicks=(None, 5))
    assert await unit.commit(current.epoch, 0, clicks=(None, 5)) == 1


async def test_no_message_number_is_used_again_after_the_store_went_back(unit: Unit) -> None:
    claim = await claim_unit(unit.redis, unit.prefix)
    await unit.copy()
    used = int(claim.meta["outbox"]) + 40
    await commit(unit.redis, unit.prefix, claim.epoch, Change(meta={"outbox": str(used)}, follows=0))
    await unit.turn_back()
    assert int((await claim_unit(unit.redis, unit.prefix)).meta["outbox"]) > used


async def test_a_claim_says_in_the_feed_which_epoch_it_ended_and_where(unit: Unit) -> None:
    first = await claim_unit(unit.redis, unit.prefix)
    await unit.commit(first.epoch, 0)
    second = await claim_unit(unit.redis, unit.prefix)
    await unit.commit(second.epoch, 1)
    _, fields = (await unit.redis.xrange(feed_key(unit.prefix)))[-1]
    assert [int(fields[name]) for name in (b"e", b"p", b"n")] == [second.epoch, first.epoch, 1]
