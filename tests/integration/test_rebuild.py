"""After a rebuild the state is that of a log in which the erased subject never was."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec

from headwater.topic_reader import read_to_end
from state.clients import redis_client
from state.erasure import ErasureKeys, subjects_named
from state.events import encode
from state.keys import subject_unit, unit_prefix
from state.receipts import Receipt, read_receipt, verifies
from state.statehash import StateHash
from state.topics import create_topics, topic_name, topic_specs
from stream.replay_run import units_of
from tests.integration.rig import Processes, Rig, click_on, feedback_on, make_items, until
from tests.integration.test_exactness import more_folded, steady
from tests.integration.test_replay import settled, state_of

VICTIM, VISITS = "victim", 3
Places = dict[tuple[str, int], dict[int, int]]
"""Topic kind and partition -> old offset -> new offset, of the records that are left."""


class LogWithout:
    """Copies a namespace's topics to another one, without the records of some subjects: no holes are left."""

    def __init__(self, rig: Rig, name: str, gone: set[str]) -> None:
        self._rig, self._name, self._gone = rig, name, gone
        self._places: Places = defaultdict(dict)

    async def copy(self) -> Rig:
        """Copy every topic, the journal last: its runs name the new offsets."""
        settings = msgspec.structs.replace(self._rig.settings, namespace=self._name)
        specs = topic_specs(self._name, settings.shards, settings.item_shards, settings.lanes)
        await create_topics(settings.kafka, specs)
        kinds = [spec.name.rpartition(".")[2] for spec in specs]
        for kind in sorted(kinds, key=lambda name: name == "journal"):
            async for record in read_to_end(self._rig.settings, kind):
                await self._copy(kind, record)
        await self._rig.producer.flush()
        return Rig(Processes(settings))

    async def _copy(self, kind: str, record: Any) -> None:
        value = record.value
        if kind == "journal":
            value = self._moved(record)
        elif self._gone & subjects_named(record.key, record.value):
            return
        else:
            known = self._places[kind, record.partition]
            known[record.offset] = len(known)
        await self._rig.producer.send(
            topic_name(self._name, kind), value, key=record.key, partition=record.partition,
            timestamp_ms=record.timestamp, headers=list(record.headers),
        )  # fmt: skip

    def _moved(self, record: Any) -> bytes:
        entry = msgspec.json.decode(record.value)
        partition = units_of(self._rig.settings)[record.key.decode()]
        entry["order"] = [run for old in entry.get("order", []) if (run := self._run(old, partition))]
        return encode(entry)

    def _run(self, run: Sequence[Any], partition: int) -> list[Any]:
        kind, first, last = run
        known = self._places[kind, partition]
        left = [known[offset] for offset in range(first, last + 1) if offset in known]
        return [kind, left[0], left[-1]] if left else []


async def receipt_of(rig: Rig, subject: str) -> Receipt | None:
    async with redis_client(rig.settings, timeout_s=5.0) as redis:
        return await read_receipt(redis, rig.settings, subject)


async def visits_of_the_victim(rig: Rig, visits: Any) -> None:
    """Let the one who will be erased visit as the others do, and buy."""
    for item in ("drama-1", "comedy-2", "drama-3")[:VISITS]:
        await visits.visit(VICTIM)
        await rig.publish(click_on(VICTIM, item), feedback_on(VICTIM, item, "purchase"))


def same(one: StateHash, other: StateHash) -> bool:
    """Return whether two namespaces have folded the same; the erasure list is only the live one's."""
    apart = [sentence for sentence in one.differences(other) if "erasure list (apart)" not in sentence]
    assert apart == []
    return one.hash == other.hash


async def test_after_a_rebuild_the_state_is_that_of_a_log_without_the_erased_subject(rig: Rig) -> None:
    await rig.start()
    await rig.catalogue(make_items(("drama", "comedy"), 10))
    name = rig.settings.namespace
    async with steady(rig) as visits:
        await visits_of_the_victim(rig, visits)
        await more_folded(rig, 40)
        await rig.command("users", "erase", VICTIM, "--why", "asked for it")
        before = await receipt_of(rig, VICTIM)
        assert before is not None
        assert before.rebuilt_at is None
        printed = await rig.command("rebuild")
        assert "1 erasures settled" in printed
        await more_folded(rig, 40)
    # Those of the victim's decisions that were open then went with the victim.
    live = await settled(rig, len(visits.truth.shown) - VISITS)

    after = await receipt_of(rig, VICTIM)
    assert after is not None
    assert after.rebuilt_at is not None
    assert verifies(after, ErasureKeys(rig.settings.erasure_key()))
    assert (await rig.command("rebuild")).startswith("no erasure waits")

    without = await LogWithout(rig, f"{name}-w", {VICTIM}).copy()
    await without.command("replay", "--into", f"{name}-wa")
    assert same(live, await state_of(rig, f"{name}-wa"))
    await rig.command("replay", "--into", f"{name}-b")
    assert same(live, await state_of(rig, f"{name}-b"))


async def test_a_rebuild_loses_and_doubles_nothing_of_the_others(rig: Rig) -> None:
    await rig.start(workers=2)
    await rig.catalogue(make_items(("drama", "comedy"), 10))
    async with steady(rig) as visits:
        for _ in range(2):
            await more_folded(rig, 25)
            assert "units rebuilt" in await rig.command("rebuild", "--always")
        await more_folded(rig, 25)
    truth = visits.truth
    folded = await rig.learnt(len(truth.shown))
    assert {kind: folded.subjects[kind] for kind in truth.events} == dict(truth.events)
    assert folded.closed == folded.learnt == len(truth.shown)
    for user, impressions in truth.impressions.items():
        record = await rig.subject(user)
        assert (record.impressions, record.clicks) == (impressions, truth.clicks[user]), user
    await no_key_is_left_over(rig)


async def no_key_is_left_over(rig: Rig) -> None:
    """Assert that neither staged keys nor the namespace beside are there any more."""
    staged = [f"{unit_prefix(rig.settings.namespace, subject_unit(n))}next:*" for n in range(4)]
    async with redis_client(rig.settings, timeout_s=5.0) as redis:

        async def are_gone() -> bool:
            patterns = [*staged, f"{{{rig.settings.namespace}-rebuild:*"]
            return not [key for pattern in patterns async for key in redis.scan_iter(match=pattern)]

        await until(are_gone, "no key of a rebuild is left")
