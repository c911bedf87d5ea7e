"""What is kept of a producer stays bounded, adds up, and comes back from the store as it was."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from state.packing import seal
from state.producers import (
    HOUR_MS,
    MAX_ITEMS,
    MAX_NAME,
    MAX_REFUSALS,
    OTHERS,
    ProducerRecord,
    Refused,
    Tally,
    decode_producer,
    encode_producer,
    merged,
    producer_name,
)

AT = 1_750_000_000_000
WORDS = st.text("abc", min_size=1, max_size=3)
COUNTS = st.integers(0, 9)
REFUSALS = st.lists(st.builds(Refused, WORDS, WORDS, WORDS), max_size=60)


@st.composite
def tallies(draw: Any) -> Tally:
    tally = Tally(draw(st.dictionaries(WORDS, COUNTS, max_size=3)), [], *[draw(COUNTS) for _ in range(6)])
    for met in draw(REFUSALS):
        tally.refuse(met, 1)
    return tally


RECORDS = st.builds(
    ProducerRecord,
    first_at=st.integers(1, AT),
    seen_at=st.integers(1, AT),
    event_at=st.integers(0, AT),
    before=tallies(),
    hours=st.dictionaries(st.integers(0, 9), tallies(), max_size=3),
    items=st.dictionaries(st.text(max_size=5), st.integers(1, 9), max_size=9),
)


@given(RECORDS)
def test_a_record_comes_back_as_it_was_with_its_items_in_order(record: ProducerRecord) -> None:
    again = decode_producer(encode_producer(record))
    assert again == record
    assert list(again.items) == list(record.items)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"nothing of ours",
        seal(b"\xff"),
        seal(msgspec.msgpack.encode([2, ["another", "shape"]])),
        seal(msgspec.msgpack.encode([2, ProducerRecord()])),
        encode_producer(ProducerRecord())[:-1],
    ],
)
def test_a_record_of_another_format_is_none_and_no_error(raw: bytes) -> None:
    assert decode_producer(raw) is None


@given(REFUSALS)
def test_refusals_are_bounded_in_kind_and_complete_in_number(met: list[Refused]) -> None:
    tally = Tally()
    for one in met:
        tally.refuse(one, 1)
    assert tally.refused == len(met)
    assert len(tally.refusals) <= MAX_REFUSALS + 1
    assert sum(one.reason == OTHERS for one in tally.refusals) <= 1


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 3)), max_size=60))
def test_every_count_is_in_the_total_whatever_the_hours_are(steps: list[tuple[int, int]]) -> None:
    record = ProducerRecord()
    for hour, count in steps:
        record.tally(hour * HOUR_MS).late += count
        assert len(record.hours) <= 3
    assert record.total().late == sum(count for _, count in steps)


def test_a_wrong_timestamp_far_ahead_does_not_hide_the_present() -> None:
    record = ProducerRecord()
    record.tally(AT + 10**12).late += 1
    for hour in range(5):
        record.tally(AT + hour * HOUR_MS).late += 1
    assert set(record.hours) >= {(AT + 3 * HOUR_MS) // HOUR_MS, (AT + 4 * HOUR_MS) // HOUR_MS}


def test_recent_counts_are_those_of_the_hours_since() -> None:
    record = ProducerRecord()
    for hour in range(3):
        record.tally(hour * HOUR_MS).duplicate = hour + 1
    assert record.since(HOUR_MS).duplicate == 2 + 3


@given(st.lists(st.lists(st.integers(0, 999).map(str), max_size=200), max_size=20))
@example([[str(100 * k + n) for n in range(100)] for k in range(5)])
def test_items_are_bounded_and_the_latest_are_kept(mentions: list[list[str]]) -> None:
    record = ProducerRecord()
    for items in mentions:
        record.mention(items)
        assert len(record.items) <= MAX_ITEMS + 50
    latest = list(dict.fromkeys(reversed([item for items in mentions for item in items])))[:MAX_ITEMS]
    assert list(record.items)[: -len(latest) - 1 : -1] == latest


@given(st.lists(RECORDS, min_size=1, max_size=4))
def test_records_of_several_units_add_up(records: list[ProducerRecord]) -> None:
    whole = merged(records)
    for name in ("refused", "arrived", "late", "duplicate", "misrouted", "unattributed"):
        assert getattr(whole.total(), name) == sum(getattr(one.total(), name) for one in records)
    assert whole.first_at == min(one.first_at for one in records)
    assert whole.seen_at == max(one.seen_at for one in records)
    assert whole.total().lead_ms == max(one.total().lead_ms for one in records)


def test_adding_up_changes_none_of_what_is_added() -> None:
    record = ProducerRecord()
    record.tally(AT).refuse(Refused("clicks", "missing_field", "item_id"), 1)
    before = encode_producer(record)
    merged([record, record])
    record.total()
    assert encode_producer(record) == before


@given(st.lists(st.none() | st.integers() | st.text(max_size=200), max_size=3))
def test_a_name_is_short_and_printable_whatever_was_said(said: list[Any]) -> None:
    name = producer_name(*said)
    assert len(name) <= MAX_NAME
    assert name.isprintable()
    assert bool(name) == any(isinstance(one, str) and one for one in said)


def test_the_first_name_said_counts() -> None:
    assert producer_name(None, 7, "", "shop-\x1bweb", "header") == "shop-?web"
