"""The hash of a namespace tells states apart by what was folded, and by nothing else."""

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.embedded import EmbeddedRuntime
from state.clients import redis_client
from state.commit import Change, claim_unit, commit
from state.frames import FrameError, FrameWriter, check_file, read_frames
from state.keys import hold_key, unit_prefix
from state.packing import pack_arrays
from state.settings import Settings
from state.snapshots import Hold, SnapshotError, create_snapshot, read_head, restore_snapshot
from state.statehash import Leaves, hash_state

Keys = dict[str, Any]
META = {"epoch": "3", "commit": "9", "o:clicks": "4", "outbox": "7", "watermark": "50", "seen:1": "1:1"}
MODEL = {"weights": np.arange(3.0)}


@pytest.fixture
async def redis(runtime: EmbeddedRuntime) -> AsyncIterator[Any]:
    async with redis_client(Settings(redis=runtime.redis), timeout_s=5.0) as client:
        yield client


def shard(**changes: Any) -> Keys:
    """Return what a shard holds, by key name; a change of None takes a key away."""
    held: Keys = {
        "meta": META,
        "s:u1": b"record", "s:u2": b"other", "d:x": b"decision",
        "counters": {"clicks": "3", "late": "1"}, "trends": {"a": b"\0\1", "b": b"\2"},
        "outbox": [b"message"],
    }  # fmt: skip
    return {key: value for key, value in (held | changes).items() if value is not None}


async def put(redis: Any, namespace: str, unit: str, held: Keys) -> None:
    for name, value in held.items():
        key = f"{unit_prefix(namespace, unit)}{name}"
        if isinstance(value, dict):
            await redis.hset(key, mapping=value)
        elif isinstance(value, list):
            await redis.rpush(key, *value)
        elif isinstance(value, set):
            await redis.sadd(key, *value)
        else:
            await redis.set(key, value)


async def differing(redis: Any, namespace: str, unit: str, left: Keys, right: Keys) -> list[str]:
    """Return which families of two states differ, and check that the sums know it."""
    await put(redis, f"{namespace}l", unit, left)
    await put(redis, f"{namespace}r", unit, right)
    ours, theirs = [await hash_state(redis, f"{namespace}{side}") for side in "lr"]
    said = ours.differences(theirs)
    assert (ours.hash == theirs.hash) == all("(apart)" in one for one in said)
    return [one.split(":")[0] for one in said]


OUT: list[Keys] = [
    {
        "meta": {
            "epoch": "8",
            "commit": "90",
            "o:clicks": "5",
            "outbox": "1",
            "watermark": "50",
            "seen:1": "9:f",
        }
    },
    {"outbox": None},
    {"feed": [b"x"]},
    {"hold": b"token"},
]


@pytest.mark.parametrize("changes", OUT, ids=lambda changes: next(iter(changes)))
async def test_where_a_unit_stands_is_no_folded_state(redis: Any, namespace: str, changes: Keys) -> None:
    assert await differing(redis, namespace, "0", shard(), shard(**changes)) == []


IN: list[tuple[Keys, str]] = [
    ({"s:u1": b"Record"}, "unit 0, subjects"),
    ({"s:u2": None}, "unit 0, subjects"),
    ({"s:u3": b"record"}, "unit 0, subjects"),
    ({"counters": {"clicks": "4", "late": "1"}}, "unit 0, counters"),
    ({"trends": {"a": b"\2", "b": b"\0\1"}}, "unit 0, trends"),
    ({"meta": {"watermark": "51"}}, "unit 0, watermark"),
    ({"d:x": None}, "unit 0, decisions (apart)"),
    ({"something:new": b"x"}, "unit 0, something"),
    ({"experiments": {b"a", b"b"}}, "unit 0, experiments"),
]


@pytest.mark.parametrize(("changes", "family"), IN, ids=lambda value: value if isinstance(value, str) else "")
async def test_whatever_folding_writes_is_told_apart_by_family(
    redis: Any, namespace: str, changes: Keys, family: str
) -> None:
    assert await differing(redis, namespace, "0", shard(), shard(**changes)) == [family]


async def test_what_compaction_forgets_is_out(redis: Any, namespace: str) -> None:
    items = {"items": {"a": b"1"}, "counters": {"items": "4"}}
    assert await differing(redis, f"{namespace}3", "i0", items, items | {"counters": {"items": "1"}}) == []
    assert await differing(redis, f"{namespace}4", "m0", {"counters": {"a": "1"}}, {}) == [
        "unit m0, counters"
    ]


async def test_a_model_is_told_apart_by_its_weights_and_not_by_its_offset(redis: Any, namespace: str) -> None:
    ours, later = ({"models": {"home": pack_arrays(MODEL, {"offset": n, "rows": 1})}} for n in (5, 6))
    assert await differing(redis, f"{namespace}1", "m0", ours, later) == []
    other = {"models": {"home": pack_arrays({"weights": np.arange(3.0) + 1e-12}, {"offset": 5, "rows": 1})}}
    assert await differing(redis, f"{namespace}2", "m0", ours, other) == ["unit m0, models"]


async def test_a_namespace_is_not_its_neighbour(redis: Any, namespace: str) -> None:
    await put(redis, namespace, "0", shard())
    before = await hash_state(redis, namespace)
    await put(redis, f"{namespace}0", "0", shard(**{"s:u1": b"x"}))
    assert await hash_state(redis, namespace) == before
    assert (await hash_state(redis, f"{namespace}-none")).families == {}


@given(st.lists(st.tuples(st.binary(max_size=3), st.binary(max_size=3)), max_size=20), st.randoms())
def test_neither_order_nor_repetition_of_entries_matters(
    entries: list[tuple[bytes, bytes]], rng: random.Random
) -> None:
    hashes = []
    for order in (entries, rng.sample([*entries, *entries], 2 * len(entries))):
        leaves = Leaves()
        for name, value in order:
            leaves.add(name, value)
        hashes.append(leaves.family())
    assert hashes[0] == hashes[1]
    assert hashes[0].entries == len(set(entries))


async def test_a_snapshot_comes_back_as_it_was(redis: Any, namespace: str, tmp_path: Path) -> None:
    many = {f"s:u{n}": f"record {n}".encode() for n in range(1_300)}
    await put(redis, namespace, "0", shard(**many, trends={f"i{n}": str(n) for n in range(1_300)}))
    await put(
        redis,
        namespace,
        "m0",
        {"meta": {"epoch": "1", "commit": "2"}, "models": {"home": pack_arrays(MODEL, {})}},
    )
    await redis.pexpire(f"{unit_prefix(namespace, '0')}s:u7", 50_000)
    written = await create_snapshot(redis, namespace, {}, tmp_path / "s")
    assert written.commits == {"0": 9, "m0": 2}
    assert read_head(tmp_path / "s")["namespace"] == namespace
    for _ in range(2):  # said again it goes on, and changes nothing
        assert await restore_snapshot(redis, tmp_path / "s", f"{namespace}r") == ["0", "m0"]
    ours, theirs = await hash_state(redis, namespace), await hash_state(redis, f"{namespace}r")
    assert ours.differences(theirs) == []
    prefix = unit_prefix(f"{namespace}r", "0")
    meta = await redis.hgetall(f"{prefix}meta")
    assert (meta[b"commit"], meta[b"o:clicks"], meta[b"outbox"], meta[b"epoch"]) == (
        b"9",
        b"4",
        b"7",
        b"1003",
    )
    assert await redis.lrange(f"{prefix}outbox", 0, -1) == [b"message"]
    assert 0 < await redis.pttl(f"{prefix}s:u7") <= 50_000
    assert await redis.pttl(f"{prefix}s:u8") == -1
    claim = await claim_unit(redis, prefix)
    assert claim.next_offsets() == {"clicks": 4}
    with pytest.raises(SnapshotError, match="holds state of its own"):
        await restore_snapshot(redis, tmp_path / "s", f"{namespace}r")


async def test_a_held_unit_commits_only_once_it_is_let_go(redis: Any, namespace: str) -> None:
    prefix = unit_prefix(namespace, "0")
    claim = await claim_unit(redis, prefix)
    async with Hold(redis, prefix) as hold:
        waiting = asyncio.create_task(commit(redis, prefix, claim.epoch, Change(meta={"watermark": "1"})))
        await asyncio.sleep(0.2)
        await hold.renew()
        assert not waiting.done()
        assert await redis.hget(f"{prefix}meta", "watermark") is None
    assert await asyncio.wait_for(waiting, 5) == 1
    assert await redis.exists(hold_key(prefix)) == 0


async def test_a_hold_that_ran_out_is_told(redis: Any, namespace: str) -> None:
    async with Hold(redis, unit_prefix(namespace, "0")) as hold:
        await redis.delete(hold_key(unit_prefix(namespace, "0")))
        with pytest.raises(SnapshotError, match="ran out"):
            await hold.renew()


async def test_nothing_makes_no_snapshot_and_leaves_no_file(
    redis: Any, namespace: str, tmp_path: Path
) -> None:
    with pytest.raises(SnapshotError, match="holds nothing"):
        await create_snapshot(redis, namespace, {}, tmp_path / "s")
    assert not (tmp_path / "s").exists()
    assert not (tmp_path / "s.part").exists()


@given(st.integers(0, 10_000), st.booleans())
def test_no_damaged_file_is_taken_for_whole(place: int, cut: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s"
        with FrameWriter(path) as file:
            for n in range(20):
                file.write(["values", [[f"k{n}".encode(), bytes(n), 0]]])
        assert len(list(read_frames(path))) == 20
        raw = bytearray(path.read_bytes())
        at = place % len(raw)
        if cut:
            del raw[at:]
        else:
            raw[at] ^= 1 + place % 255
        path.write_bytes(raw)
        with pytest.raises(FrameError):
            check_file(path)


def test_a_snapshot_that_fails_leaves_no_file(tmp_path: Path) -> None:
    def write() -> None:
        with FrameWriter(tmp_path / "s") as file:
            file.write(["head", {}])
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        write()
    assert list(tmp_path.iterdir()) == []
