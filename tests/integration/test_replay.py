"""A replay of the journal ends in the state the workers left, from the beginning and from a snapshot."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from headwater.demo.counts import read_folded
from headwater.topic_reader import read_to_end
from state.clients import redis_client
from state.events import Control, Decision, User, encode
from state.outbox import SOURCE_HEADER
from state.partition import shard_of
from state.settings import Settings
from state.statehash import StateHash, hash_state
from state.topics import create_topics, topic_name, topic_specs
from stream.replay_run import Plan, Replay
from tests.integration.malformed import bad_events
from tests.integration.rig import (
    Processes,
    Rig,
    click_on,
    feedback_on,
    make_items,
    now_ms,
    stamp,
)
from tests.integration.test_exactness import more_folded, restart, steady

FAMILIES = {
    "subjects", "decisions", "counters", "attribution", "producers", "sessions", "trends", "bandit", "learnt",
    "audit", "items", "item_times", "models", "outcomes", "evidence", "spending", "tried", "lifecycle",
    "control", "history", "watermark",
}  # fmt: skip


async def state_of(rig: Rig, namespace: str) -> StateHash:
    async with redis_client(rig.settings, timeout_s=5.0) as redis:
        return await hash_state(redis, namespace)


async def settled(rig: Rig, decisions: int) -> StateHash:
    """Return the hash once every window has closed, every outcome is learnt and no worker is left."""
    await rig.learnt(decisions)
    await rig.rest()
    return await state_of(rig, rig.settings.namespace)


def wild_steps(number: int, rng: random.Random) -> list[Any]:
    """Return what steady visits leave out: copies, late events, hides, merges.

    Whom an erasure or a refusal of consent takes out a replay leaves out from the beginning: the live state
    is another one until it is rebuilt.
    """
    user, session = f"wild-{number}", f"session-{number}"
    anonymous, late = click_on(session, "comedy-1"), click_on(user, "crime-3")
    anonymous.user_id, anonymous.session_id = None, session
    late.occurred_at = now_ms() - 60_000
    steps: list[Any] = [click_on(user, f"drama-{rng.randrange(10)}") for _ in range(3)]
    steps += [steps[0], late, feedback_on(user, "crime-1", "hide"), feedback_on(user, "crime-2", "purchase")]
    steps += [anonymous, User(**stamp(), user_id=user, merge_session=session)]
    return [*steps, click_on(user, "drama-2")]


async def wild(rig: Rig) -> None:
    """Publish wild events, garbage, and an event on a shard that is not its own."""
    rng, shards = random.Random(4), rig.settings.shards
    for number in range(10):
        await rig.publish(*wild_steps(number, rng))
    for bad in bad_events(0, shards):
        await rig.send(bad.kind, bad.raw, bad.key, bad.partition, headers=list(bad.headers))
    elsewhere = (shard_of("astray", shards) + 1) % shards
    await rig.send("clicks", encode(click_on("astray", "drama-1")), b"astray", elsewhere)


async def change_shop(rig: Rig) -> None:
    """Change the catalogue and a control document."""
    await rig.publish(*make_items(("crime",), 5, available=False))
    await rig.send("items", None, b"drama-9", 0)
    event = Control(**stamp(), name="exploration/home", document={"rate": 0.1, "ttl_s": 3_600.0})
    await rig.send("control", encode(event), event.name.encode(), 0)


async def live_through(rig: Rig, snapshot: Path) -> StateHash:
    """Live through everything: a killed worker, two owners, a snapshot in between; returns the end's hash."""
    (worker,) = await rig.start()
    await rig.catalogue(make_items(("drama", "comedy", "crime", "romance"), 10))
    async with steady(rig) as visits:
        await more_folded(rig, 20)
        await wild(rig)
        await restart(rig, worker)
        await change_shop(rig)
        before = await rig.epochs()
        rig.processes.worker()
        await rig.claimed(since=before)
        await rig.command("snapshot", "create", str(snapshot))
        await more_folded(rig, 40)
    return await settled(rig, len(visits.truth.shown))


async def test_a_replay_ends_in_the_state_the_workers_left(rig: Rig, tmp_path: Path) -> None:
    live, name = await live_through(rig, tmp_path / "middle"), rig.settings.namespace
    found = {family for families in live.families.values() for family in families}
    assert found - {"decision indexes"} == FAMILIES  # those come where a visitor had many decisions in time

    await rig.command("replay", "--to", "0:9,1:9,2:9,3:9,m0:2", "--into", f"{name}-a")
    assert live.differences(await state_of(rig, f"{name}-a")), "a part is not the whole"
    await rig.command("replay", "--into", f"{name}-a")
    assert live.differences(await state_of(rig, f"{name}-a")) == []
    printed = await rig.command("state-hash", "--diff", f"{name}-a")
    assert printed.count(live.hash) == 2

    await rig.command("replay", "--from", str(tmp_path / "middle"), "--into", f"{name}-b")
    assert live.differences(await state_of(rig, f"{name}-b")) == []

    await rig.command("snapshot", "create", "--namespace", f"{name}-b", str(tmp_path / "end"))
    await rig.command("snapshot", "restore", str(tmp_path / "end"), "--into", f"{name}-c")
    assert live.differences(await state_of(rig, f"{name}-c")) == []


async def short_life(rig: Rig) -> StateHash:
    """Live through a few visits; returns the hash of their end, with no worker left."""
    await rig.start()
    await rig.catalogue(make_items(("drama",), 10))
    of_shard_0 = next(f"u{n}" for n in range(99) if shard_of(f"u{n}", rig.settings.shards) == 0)
    async with steady(rig) as visits:
        await visits.visit(of_shard_0)
        await more_folded(rig, 10)
    return await settled(rig, len(visits.truth.shown))


Change = Callable[[Sequence[Any]], Sequence[Any]]


async def copy_of(rig: Rig, name: str, change: Change, changed: str = "journal") -> Rig:
    """Copy all topics to another namespace, record by record, one topic of shard 0 changed on the way."""
    settings = msgspec.structs.replace(rig.settings, namespace=name)
    specs = topic_specs(name, settings.shards, settings.item_shards, settings.lanes)
    await create_topics(settings.kafka, specs)
    for spec in specs:
        kind = spec.name.rpartition(".")[2]
        for partition, records in (await held(rig.settings, kind)).items():
            for one in change(records) if (kind, partition) == (changed, 0) else records:
                await rig.producer.send(
                    topic_name(name, kind), one.value, key=one.key, partition=partition,
                    timestamp_ms=one.timestamp, headers=list(one.headers),
                )  # fmt: skip
    await rig.producer.flush()
    return Rig(Processes(settings))


async def held(settings: Settings, kind: str) -> dict[int, list[Any]]:
    """Return the records of a topic by partition."""
    parts: dict[int, list[Any]] = {}
    async for record in read_to_end(settings, kind):
        parts.setdefault(record.partition, []).append(record)
    return parts


def of_shard(records: Sequence[Any]) -> list[list[int]]:
    """Return where shard 0's own entries are, by commit: one may have been sent twice."""
    places: dict[int, list[int]] = {}
    for n, record in enumerate(records):
        if dict(record.headers)[SOURCE_HEADER] == b"0":
            places.setdefault(msgspec.json.decode(record.value)["commit"], []).append(n)
    return [places[commit] for commit in sorted(places)]


def shuffled(records: Sequence[Any]) -> Sequence[Any]:
    """Return records in another order, some twice."""
    rng, twice = random.Random(1), [*records, *records[::3]]
    rng.shuffle(twice)
    return twice


def one_dropped(records: Sequence[Any]) -> Sequence[Any]:
    """Return records without one entry in the middle."""
    entries = of_shard(records)
    gone = entries[(len(entries) - 1) // 2]
    return [record for n, record in enumerate(records) if n not in gone]


class Shortened:
    """An entry that says nothing of its last run of rows."""

    def __init__(self, record: Any) -> None:
        self.key, self.timestamp, self.headers = record.key, record.timestamp, record.headers
        entry = msgspec.json.decode(record.value)
        self.value = encode(entry | {"order": entry["order"][:-1]})


def one_shortened(records: Sequence[Any]) -> Sequence[Any]:
    """Return records of which one leaves rows out."""
    places = next(found for found in of_shard(records) if b'"order"' in records[found[0]].value)
    return [Shortened(record) if n in places else record for n, record in enumerate(records)]


async def refused(rig: Rig, *arguments: str) -> str:
    """Run a command that has to be refused; returns what it says."""
    with pytest.raises(AssertionError) as told:
        await rig.command(*arguments)
    said = str(told.value)
    assert "Traceback" not in said
    return said


async def test_a_journal_that_is_not_true_is_found_out(rig: Rig) -> None:
    live, name = await short_life(rig), rig.settings.namespace
    twice = await copy_of(rig, f"{name}-t", shuffled)
    await twice.command("replay", "--into", f"{name}-ta")
    assert live.differences(await state_of(rig, f"{name}-ta")) == []

    gap = await copy_of(rig, f"{name}-g", one_dropped)
    assert "unit 0: the journal lacks what follows commit" in await refused(
        gap, "replay", "--into", f"{name}-ga"
    )

    short = await copy_of(rig, f"{name}-s", lambda records: records[1:], "impressions")
    said = await refused(short, "replay", "--into", f"{name}-sa")
    assert f"topic {name}-s.impressions, partition 0, ends at offset" in said

    other = await copy_of(rig, f"{name}-o", one_shortened)
    await other.command("replay", "--into", f"{name}-oa")
    differing = live.differences(await state_of(rig, f"{name}-oa"))
    assert differing
    assert all(sentence.startswith("unit 0, ") for sentence in differing)
    with pytest.raises(AssertionError, match="unit 0, counters"):
        await rig.command("state-hash", "--diff", f"{name}-oa")


async def test_a_subject_left_out_of_a_replay_never_was(rig: Rig) -> None:
    live, name = await short_life(rig), rig.settings.namespace
    decided = [one.value for part in (await held(rig.settings, "decisions")).values() for one in part]
    gone = msgspec.json.decode(decided[0], type=Decision).subject
    theirs = sum(msgspec.json.decode(raw, type=Decision).subject == gone for raw in decided)
    replay = Replay(rig.settings, Plan(f"{name}-a", skips=lambda _, __, subject: subject == gone))
    done = await replay.run()
    assert done.left_out >= 3 * theirs
    told = await read_folded(msgspec.structs.replace(rig.settings, namespace=f"{name}-a"))
    assert told.subjects["decisions"] == told.closed == told.learnt == len(decided) - theirs
    left = await state_of(rig, f"{name}-a")
    counts = [
        sum(one["subjects"].entries for one in s.families.values() if "subjects" in one) for s in (live, left)
    ]
    assert counts[1] == counts[0] - 1


async def test_a_replay_that_cannot_be_true_is_refused(rig: Rig, tmp_path: Path) -> None:
    await short_life(rig)
    name = rig.settings.namespace
    assert "the namespace that is replayed" in await refused(rig, "replay", "--into", name)
    await rig.command("snapshot", "create", str(tmp_path / "end"))
    await rig.command("snapshot", "restore", str(tmp_path / "end"), "--into", f"{name}-full")
    assert "holds other state" in await refused(rig, "replay", "--into", f"{name}-full")
    said = await refused(rig, "snapshot", "restore", str(tmp_path / "end"), "--into", name)
    assert "holds state of its own" in said

    told = msgspec.structs.replace(
        rig.settings, attribution_window_s=1200.0, token_secret="another-secret-here"
    )
    said = await refused(Rig(Processes(told)), "replay", "--into", f"{name}-rules")
    assert "was folded under other rules: token_secret; window_ms was 3000, is 6000" in said
    assert "integration-tests" not in said
    assert "another-secret" not in said

    damaged = bytearray((tmp_path / "end").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    said = await refused(rig, "snapshot", "restore", str(tmp_path / "damaged"), "--into", f"{name}-d")
    assert "damaged" in said
    assert (await state_of(rig, f"{name}-d")).families == {}


@pytest.mark.kafka
async def test_records_that_retention_took_are_told_and_a_later_snapshot_helps(
    rig: Rig, tmp_path: Path
) -> None:
    live, name = await short_life(rig), rig.settings.namespace
    await rig.command("snapshot", "create", str(tmp_path / "end"))
    tp = TopicPartition(topic_name(name, "impressions"), 0)
    admin = AIOKafkaAdminClient(bootstrap_servers=rig.settings.kafka)
    await admin.start()
    try:
        await admin.delete_records({tp: RecordsToDelete(before_offset=1)})
    finally:
        await admin.close()
    said = await refused(rig, "replay", "--into", f"{name}-a")
    assert "partition 0, begins at offset 1; offset 0 is needed: retention took it" in said
    await rig.command("replay", "--from", str(tmp_path / "end"), "--into", f"{name}-b")
    assert live.differences(await state_of(rig, f"{name}-b")) == []
