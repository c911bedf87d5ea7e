"""On a real store: times to live are set, and streams are trimmed."""

from typing import Any

from headwater.embedded import EmbeddedRuntime
from state.clients import redis_client
from state.commit import Change, claim_unit, commit
from state.keys import decision_key, feed_key, subject_key, unit_prefix
from state.retention import FEED_CAP
from state.settings import Settings
from tests.stream.folding import click, decision, decision_id, shard


async def test_records_and_decisions_get_the_time_to_live_of_the_settings(
    runtime: EmbeddedRuntime, namespace: str
) -> None:
    settings = Settings(redis=runtime.redis, subject_ttl_s=1000.0, decision_ttl_s=500.0)
    prefix = unit_prefix(namespace, "0")
    folded = shard(subject_ttl_s=settings.subject_ttl_s, decision_ttl_s=settings.decision_ttl_s)
    change = folded.fold([decision(), click("b")])
    moved = {key.replace(folded.logic.place.prefix, prefix): value for key, value in change.values.items()}
    redis: Any = redis_client(settings, timeout_s=5.0)
    async with redis:
        claim = await claim_unit(redis, prefix)
        await commit(redis, prefix, claim.epoch, Change(values=moved))
        lives = {
            "subject": await redis.pttl(subject_key(prefix, "u1")),
            "decision": await redis.pttl(decision_key(prefix, decision_id())),
        }
    assert 990_000 < lives["subject"] <= 1_000_000
    assert 490_000 < lives["decision"] <= 500_000


async def test_a_feed_is_trimmed_at_its_cap(runtime: EmbeddedRuntime, namespace: str) -> None:
    prefix = unit_prefix(namespace, "0")
    redis: Any = redis_client(Settings(redis=runtime.redis), timeout_s=30.0)
    async with redis:
        claim = await claim_unit(redis, prefix)
        # In one script: 20,000 commits would take a minute.
        await redis.eval(
            "for n = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], n .. '-0', 'c', 'x') end "
            "redis.call('HSET', KEYS[2], 'commit', ARGV[1])",
            2, feed_key(prefix), f"{prefix}meta", FEED_CAP + 500,
        )  # fmt: skip
        await commit(redis, prefix, claim.epoch, Change(feed=b"x"))
        length = await redis.xlen(feed_key(prefix))
    assert FEED_CAP <= length <= FEED_CAP + 100
