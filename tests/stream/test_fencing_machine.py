"""Whatever owners do, and whenever they die, sleep or meet an older store: each event is counted once.

A machine of random steps on a real store. Several owners claim one shard, read its log, fold in memory and
commit through the script; between any two steps one may crash, sleep while another takes over, lose the
answer of a commit, or find the store gone back to an older copy. The truth is the log alone.
"""

import asyncio
from contextlib import suppress
from typing import Any

import msgspec
import pytest
import redis.asyncio as aioredis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from headwater.embedded import EmbeddedRuntime
from state.commit import Change, Claim, FencedError, claim_unit, commit
from state.events import Click
from state.keys import counters_key, feed_key, open_key, outbox_key, subject_key, unit_prefix
from state.outbox import decode_message
from state.subject import decode_subject
from stream.effects import Place
from stream.rows import Row
from stream.shard import ShardLogic
from stream.units import shard_rules
from tests.stream.folding import AT, click, decision, profile
from tests.stream.folding import settings as shard_settings

USERS = ("u1", "u2", "u3")
KINDS = ("clicks", "users", "decisions")
RULES = shard_rules(shard_settings(decision_wait_s=0.5))
MOST_OWNERS = 3
Snapshot = dict[bytes, bytes]


class Owner:
    """One worker's hold of the shard: its claim, its memory, and what it folded but has not committed."""

    def __init__(self, claim: Claim, logic: ShardLogic) -> None:
        self.claim, self.logic = claim, logic
        self.stored = claim.next_offsets()
        self.number = claim.commit
        self.change: Change | None = None

    def has_committed(self, number: int) -> None:
        """Note that the change is in the store."""
        assert self.change is not None
        self.stored |= {kind: new for kind, (_, new) in self.change.offsets.items()}
        self.number, self.change = number, None


class Fencing(RuleBasedStateMachine):
    """One shard, its log and its store; `redis_url` and `prefix` are set by the test."""

    redis_url = ""
    runs = 0
    owners = Bundle("owners")

    @initialize()
    def begin(self) -> None:
        """Start with an empty shard of its own and an empty log."""
        type(self).runs += 1
        self.loop = asyncio.new_event_loop()
        self.redis: Any = aioredis.Redis.from_url(self.redis_url)
        self.prefix = unit_prefix(f"fencing-{type(self).runs}", "0")
        self.log: dict[str, list[Row]] = {kind: [] for kind in KINDS}
        self.copies: list[Snapshot] = []
        self.number = self.alive = 0

    def teardown(self) -> None:
        """Leave nothing in the store."""
        if hasattr(self, "loop"):
            self.wait(self._delete_all())
            self.wait(self.redis.aclose())
            self.loop.close()

    def wait(self, work: Any) -> Any:
        """Run something asynchronous to its end."""
        return self.loop.run_until_complete(work)

    # -- what happens

    @rule(users=st.lists(st.sampled_from(USERS), min_size=1, max_size=4), repeat=st.booleans())
    def publish(self, users: list[str], repeat: bool) -> None:
        """Producers send an event of each kind for some visitors, or one of their earlier ones again."""
        for user in users:
            for kind in KINDS:
                log = self.log[kind]
                row = log[self.number % len(log)] if repeat and log else self._made(kind, user)
                log.append(msgspec.structs.replace(row, offset=len(log)))

    def _made(self, kind: str, user: str) -> Row:
        self.number += 1
        at = AT + 1000 * self.number
        if kind == "decisions":
            return decision(["a", "b"], at=at, user=user, number=self.number)
        return click(f"i{self.number}", at=at, user=user) if kind == "clicks" else profile(user, at=at)

    @precondition(lambda self: self.alive < MOST_OWNERS)
    @rule(target=owners)
    def claim(self) -> Any:
        """A worker takes the shard over, loads it, and will read on from what it found."""
        self.alive += 1
        held = self.wait(claim_unit(self.redis, self.prefix))
        logic = ShardLogic(Place(self.prefix, "0", 0), RULES)
        hashes = {key: self.wait(self.redis.hgetall(key)) for key in logic.hashes}
        logic.restore(held.meta, hashes)
        return Owner(held, logic)

    @rule(owner=owners, most=st.integers(0, 4), kind=st.sampled_from(KINDS))
    def fold(self, owner: Owner, most: int, kind: str) -> None:
        """An owner reads on, or only sees time go by, and folds in memory; one batch waits for its commit."""
        if owner.change is not None:
            return
        start = owner.stored.get(kind, 0)
        self._fold(owner, kind, self.log[kind][start : start + most])

    def _fold(self, owner: Owner, kind: str, batch: list[Row]) -> None:
        watermark = self._complete_to(owner)
        wanted = owner.logic.wanted(batch, watermark)
        owner.logic.put(self.wait(self.redis.mget(wanted)) if wanted else [])
        owner.change = owner.logic.fold(batch, watermark).finish()
        owner.change.follows = owner.number
        if batch:
            owner.change.offsets = {kind: (owner.stored.get(kind), batch[-1].offset + 1)}

    def _commit(self, owner: Owner) -> None:
        assert owner.change is not None
        owner.has_committed(self.wait(commit(self.redis, self.prefix, owner.claim.epoch, owner.change)))

    def _complete_to(self, owner: Owner) -> int:
        """Return up to when an owner has read everything: the time of the first event it has not."""
        unread = [row for kind, log in self.log.items() for row in log[owner.stored.get(kind, 0) :]]
        return min((row.occurred_at() for row in unread), default=AT + 1000 * self.number)

    @rule(target=owners, owner=consumes(owners), answered=st.booleans())
    def commit(self, owner: Owner, answered: bool) -> Any:
        """An owner commits; one that is fenced, or never hears the answer, drops its memory and is gone."""
        if owner.change is None:
            return owner
        before = self.wait(self._dump())
        try:
            self._commit(owner)
        except FencedError:
            assert self.wait(self._dump()) == before, "a fenced commit changed something"
            return self._gone()
        return owner if answered else self._gone()

    @rule(owner=owners, kind=st.sampled_from(KINDS))
    def sleep_through_failover(self, owner: Owner, kind: str) -> None:
        """A commit is acknowledged, the primary lost before its replica has it; the owner does not know."""
        with suppress(FencedError):
            for other in KINDS:
                if other != kind:
                    self._read_on(owner, other, len(self.log[other]))
            before = self.wait(self._dump())
            self._read_on(owner, kind, 2)
            self.wait(self._replace(before))
            self._read_on(owner, kind, 0)

    def _read_on(self, owner: Owner, kind: str, most: int) -> None:
        self.fold(owner, most=most, kind=kind)
        self._commit(owner)

    @rule(owner=owners, kind=st.sampled_from(KINDS), off=st.sampled_from([-2, -1, 1, 2]))
    def read_from_elsewhere(self, owner: Owner, kind: str, off: int) -> None:
        """A consumer stands where it was not told to: what it reads must not be committed."""
        stored = owner.stored.get(kind, 0)
        batch = self.log[kind][max(0, stored + off) :][:2]
        if owner.change is not None or not batch or stored + off < 0:
            return
        self._fold(owner, kind, batch)
        owner.change.offsets = {kind: (stored + off or None, batch[-1].offset + 1)}  # type: ignore[attr-defined]
        with suppress(FencedError):
            self._commit(owner)

    @rule(owner=consumes(owners))
    def crash(self, owner: Owner) -> None:  # noqa: ARG002 - drawn to be consumed
        """A worker dies with whatever it has in memory."""
        self._gone()

    def _gone(self) -> Any:
        self.alive -= 1
        return multiple()

    @rule()
    def copy_store(self) -> None:
        """A replica has caught up to here."""
        self.copies.append(self.wait(self._dump()))

    @rule(which=st.integers(0, 5))
    def fail_over(self, which: int) -> None:
        """The store's primary is lost, and a replica takes its place that is behind it."""
        if self.copies:
            self.wait(self._replace(self.copies[which % len(self.copies)]))
            del self.copies[which % len(self.copies) + 1 :]

    # -- what must hold

    @invariant()
    def every_event_before_the_stored_offsets_counts_once(self) -> None:
        """Counters, records and outbox are those of the log up to the stored offsets, whoever folded it."""
        if not hasattr(self, "redis"):
            return
        meta = self.wait(self.redis.hgetall(f"{self.prefix}meta"))
        counted = self.wait(self.redis.hgetall(counters_key(self.prefix)))
        for kind, log in self.log.items():
            read = log[: int(meta.get(f"o:{kind}".encode(), b"0"))]
            fresh = {row.event.event_id for row in read if row.event is not None}
            found = {name.decode(): int(value) for name, value in counted.items()}
            assert found.get(kind, 0) == len(fresh)
            repeats = found.get(f"{kind}.duplicate", 0) + found.get(f"{kind}.late", 0)
            assert repeats == len(read) - len(fresh)
            if kind == "clicks":
                self._records_agree(read)
            if kind == "decisions":
                opened = {
                    name for name in self.wait(self.redis.hkeys(open_key(self.prefix))) if name[:1] == b"a"
                }
                assert found.get("closed.unseen", 0) + len(opened) == len(fresh)

    def _records_agree(self, read: list[Row]) -> None:
        for user in USERS:
            record = decode_subject(self.wait(self.redis.get(subject_key(self.prefix, user))))
            events = [row.event for row in read]
            clicked = {one.event_id for one in events if isinstance(one, Click) and one.subject == user}
            assert record.clicks == len(clicked)

    @invariant()
    def outbox_and_feed_number_every_commit(self) -> None:
        """Messages are numbered without gap or repeat, and the feed ends with the latest commit."""
        if not hasattr(self, "redis"):
            return
        numbers = [
            decode_message(r).number for r in self.wait(self.redis.lrange(outbox_key(self.prefix), 0, -1))
        ]
        assert numbers == list(range(1, len(numbers) + 1))
        last = self.wait(self.redis.xrevrange(feed_key(self.prefix), count=1))
        commits = int(self.wait(self.redis.hget(f"{self.prefix}meta", "commit")) or 0)
        assert (int(last[0][0].split(b"-")[0]) if last else 0) == commits

    async def _keys(self) -> list[bytes]:
        return sorted([key async for key in self.redis.scan_iter(match=f"{self.prefix}*", count=1000)])

    async def _dump(self) -> Snapshot:
        return {key: await self.redis.dump(key) for key in await self._keys()}

    async def _replace(self, copy: Snapshot) -> None:
        await self._delete_all()
        for key, raw in copy.items():
            await self.redis.restore(key, 0, raw)

    async def _delete_all(self) -> None:
        keys = await self._keys()
        if keys:
            await self.redis.delete(*keys)


@pytest.fixture
def machine(runtime: EmbeddedRuntime) -> type[Fencing]:
    """The machine, on the session's store."""
    Fencing.redis_url = runtime.redis
    return Fencing


def test_no_interleaving_of_owners_crashes_and_failovers_loses_or_doubles_an_event(
    machine: type[Fencing],
) -> None:
    steps = settings(
        max_examples=60,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],  # shrinking on a real store would take minutes
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    run_state_machine_as_test(machine, settings=steps)
