"""Bundles: nothing of a record is lost, and a lease tells what is stale."""

from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from stream.bundles import Batch, Bundle, BundleSchema, BundlingScheduler, Lease, Row, bundles_of


def record(offset: int, topic: str = "clicks", partition: int = 0, value: bytes | None = b"v") -> Any:
    headers = (("h", b"%d" % offset),)
    return ConsumerRecord(
        topic, partition, offset, 1_000 + offset, 0, b"k%d" % offset, value, None, 2, 1, headers
    )


def batch(count: int, start: int = 0, lease: Lease | None = None, **where: Any) -> Batch:
    return Batch([record(start + i, **where) for i in range(count)], lease)


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(0, []), (1, [1]), (499, [499]), (500, [500]), (501, [500, 1]), (1_200, [500, 500, 200])],
)
def test_a_batch_is_cut_without_loss(count: int, sizes: list[int]) -> None:
    bundles = list(bundles_of(batch(count, start=7)))
    assert [len(bundle) for bundle in bundles] == sizes
    assert [offset for bundle in bundles for offset in bundle.offsets] == list(range(7, 7 + count))


def test_every_part_of_a_record_is_carried() -> None:
    rows = [record(3), record(4, value=None), record(9)]
    (bundle,) = bundles_of(Batch(rows, None))
    assert list(bundle.rows()) == [Row(r.offset, r.timestamp, r.key, r.value, r.headers) for r in rows]
    assert (bundle.topic, bundle.partition, bundle.next_offset) == ("clicks", 0, 10)


def test_a_row_is_never_looked_at() -> None:
    """An undecodable row must not take its bundle with it, so decoding is left to the handler."""
    (bundle,) = bundles_of(Batch([record(0, value=b"\xff{not json"), record(1, value=None)], None))
    message = type("Message", (), {"value": bundle, "key": None})()
    assert BundleSchema().loads_value(None, message) is bundle
    assert bundle.values == [b"\xff{not json", None]


def test_topics_and_partitions_take_turns() -> None:
    """A long batch of one topic does not keep the others waiting behind it."""
    records = {
        TP("a", 0): batch(3, topic="a"),
        TP("a", 1): batch(2, topic="a", partition=1),
        TP("b", 0): batch(1, topic="b"),
    }
    turns = [(tp.topic, tp.partition, bundle.offsets) for tp, bundle in BundlingScheduler(1).iterate(records)]
    assert turns[:3] == [("a", 0, [0]), ("b", 0, [0]), ("a", 1, [0])]
    assert sorted(turns) == [
        ("a", 0, [0]), ("a", 0, [1]), ("a", 0, [2]), ("a", 1, [0]), ("a", 1, [1]), ("b", 0, [0]),
    ]  # fmt: skip


def test_a_bundle_is_stale_once_its_lease_ends() -> None:
    lease = Lease("clicks", 0)
    (bundle,) = bundles_of(batch(2, lease=lease))
    assert bundle.is_current
    lease.end()
    assert not bundle.is_current


def test_a_bundle_made_by_hand_is_current() -> None:
    bundle = Bundle("clicks", 0, [1], [1_000], [None], [b"v"], [()])
    bundle.done()
    assert bundle.is_current


def test_handling_moves_the_lease_past_the_last_record() -> None:
    lease = Lease("clicks", 0)
    lease.begin(5)
    (bundle,) = bundles_of(batch(3, start=5, lease=lease))
    assert lease.handled_to == 5
    bundle.done()
    assert lease.handled_to == 8
