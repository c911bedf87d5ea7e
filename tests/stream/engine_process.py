"""A worker process for the engine's tests: the fenced commit of a shard, as small as it can be.

Every topic-partition has an epoch and a next offset in the store. A commit names its epoch and the offset it
starts from, and counts each record; so whatever happens to workers, each record must count exactly once.
"""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from stream.engine import Bundle, build_app, run_worker, seek
from tests.stream.engine_kit import settings

CLAIM = """
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
return redis.call('HMGET', KEYS[1], 'epoch', 'next')
"""
COMMIT = """
local kept = redis.call('HMGET', KEYS[1], 'epoch', 'next')
if kept[1] ~= ARGV[1] or (kept[2] or '0') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'next', ARGV[3])
for i = 4, #ARGV do redis.call('HINCRBY', KEYS[2], ARGV[i], 1) end
return 1
"""


class Ledger:
    """Claims, commits and seeks for one worker process."""

    def __init__(self, bootstrap: str, url: str, group: str, topics: list[str]) -> None:
        self.redis = redis.asyncio.Redis.from_url(url)
        self.group = group
        self.epochs: dict[tuple[str, int], bytes] = {}
        self.next: dict[tuple[str, int], int] = {}
        self.app = build_app(settings(bootstrap, group), dict.fromkeys(topics, self.handle), self)

    def key(self, tp: tuple[str, int]) -> str:
        return f"{self.group}:{tp[0]}:{tp[1]}"

    async def claim_one(self, tp: tuple[str, int]) -> None:
        epoch, kept = await self.redis.eval(CLAIM, 1, self.key(tp))
        self.epochs[tp], self.next[tp] = epoch, int(kept or 0)

    async def claim(self, assigned: frozenset[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
        for tp in assigned:
            await self.claim_one(tp)
        say("claim", sorted(assigned))
        return {tp: self.next[tp] for tp in assigned}

    async def release(self, revoked: frozenset[tuple[str, int]]) -> None:
        say("release", sorted(revoked))

    async def handle(self, bundle: Bundle) -> None:
        tp = (bundle.topic, bundle.partition)
        if any(value == b"poison" for value in bundle.values):
            raise ValueError("poison")
        names = [f"{bundle.topic}/{bundle.partition}/{offset}" for offset in bundle.offsets]
        args: list[Any] = [self.epochs[tp], self.next[tp], bundle.next_offset, *names]
        try:
            done = await self.redis.eval(COMMIT, 2, self.key(tp), f"{self.group}:seen", *args)
        except RedisError:
            done = 0
        if not bundle.is_current:
            return
        if done:
            self.next[tp] = bundle.next_offset
        else:
            say("fenced", [tp])
            await self.claim_one(tp)
            await seek(self.app, {tp: self.next[tp]})


def say(event: str, tps: Any) -> None:
    print(json.dumps({"event": event, "pid": os.getpid(), "tps": [list(tp) for tp in tps]}), flush=True)


if __name__ == "__main__":
    # Built before any loop runs, as the command line does it.
    bootstrap, url, group, *topics = sys.argv[1:]
    ledger = Ledger(bootstrap, url, group, topics)
    say("start", [])
    sys.exit(run_worker(ledger.app))
