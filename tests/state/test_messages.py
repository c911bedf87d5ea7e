"""Outbox messages and feed entries come back as they were written, and a unit's keys stay together."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state import keys
from state.feed import (
    Interaction,
    ItemFeed,
    NamesFeed,
    ShardFeed,
    decode_item_feed,
    decode_names_feed,
    decode_shard_feed,
    encode_feed,
)
from state.outbox import (
    FORWARDED_HEADER,
    NUMBER_HEADER,
    REDRIVE_HEADER,
    SOURCE_HEADER,
    Message,
    decode_message,
    encode_message,
)
from state.producers import PRODUCER_HEADER

TEXTS = st.text(max_size=12)
HASHES = st.integers(-(2**63), 2**63 - 1)
MESSAGES = st.builds(
    Message,
    number=st.integers(1, 2**60),
    kind=TEXTS,
    key=st.none() | st.binary(max_size=20),
    value=st.binary(max_size=60),
    partition=st.none() | st.integers(0, 4095),
    forwarded=st.booleans(),
    redrive=st.just("") | st.just("0-clicks-0-17"),
    producer=TEXTS,
)
STEPS = st.builds(
    Interaction, session=HASHES, item_id=TEXTS, at_ms=st.integers(0, 2**42), interest=st.floats(0, 1)
)
SHARD_FEEDS = st.builds(
    ShardFeed,
    interactions=st.lists(STEPS, max_size=4),
    bandit_items=st.lists(TEXTS, max_size=4),
    bandit_shared=st.booleans(),
    dropped_sessions=st.lists(HASHES, max_size=4),
    watermark=st.integers(0, 2**42),
    erased_sessions=st.lists(HASHES, max_size=4),
)


@given(MESSAGES)
def test_a_message_comes_back_as_it_was(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


@given(MESSAGES, TEXTS)
def test_headers_tell_unit_number_and_whether_it_was_passed_on(message: Message, unit: str) -> None:
    marks = dict(message.headers(unit))
    assert marks[SOURCE_HEADER].decode() == unit
    assert int(marks[NUMBER_HEADER]) == message.number
    assert (FORWARDED_HEADER in marks) == message.forwarded
    assert marks.get(REDRIVE_HEADER, b"").decode() == message.redrive
    assert marks.get(PRODUCER_HEADER, b"").decode() == message.producer


@given(SHARD_FEEDS)
def test_a_shards_feed_entry_comes_back_as_it_was(entry: ShardFeed) -> None:
    assert decode_shard_feed(encode_feed(entry)) == entry


@given(st.lists(st.tuples(TEXTS, st.none() | st.binary(max_size=20)), max_size=4))
def test_a_catalogue_feed_entry_comes_back_as_it_was(items: list[tuple[str, bytes | None]]) -> None:
    assert decode_item_feed(encode_feed(ItemFeed(items))) == ItemFeed(items)


@given(st.lists(TEXTS, max_size=4))
def test_a_feed_entry_of_names_comes_back_as_it_was(names: list[str]) -> None:
    assert decode_names_feed(encode_feed(NamesFeed(names))) == NamesFeed(names)


UNIT_KEYS: list[Callable[[str], str]] = [
    keys.meta_key,
    keys.feed_key,
    keys.outbox_key,
    keys.open_key,
    keys.counters_key,
    keys.trends_key,
    keys.producers_key,
    keys.sessions_key,
    keys.bandit_key,
    keys.items_key,
    keys.models_key,
    keys.learnt_key,
    keys.learnt_outcomes_key,
    keys.evidence_key,
    keys.scoreboard_key,
    keys.control_key,
    keys.erased_key,
    keys.redriven_key,
    lambda prefix: keys.subject_key(prefix, "u{1}"),
    lambda prefix: keys.decision_key(prefix, "d1"),
    lambda prefix: keys.decisions_of_key(prefix, "u{1}"),
]


@pytest.mark.parametrize("unit", ["0", "17", "i3", "m0", "c"])
def test_all_keys_of_a_unit_share_one_hash_tag_and_differ(unit: str) -> None:
    """Redis Cluster hashes what stands between the first braces, so one script may write them all."""
    names = [key(keys.unit_prefix("shop", unit)) for key in UNIT_KEYS]
    assert {name[: name.index("}") + 1] for name in names} == {f"{{shop:{unit}}}"}
    assert len(set(names)) == len(names)


def test_no_two_units_share_a_name() -> None:
    units: list[Any] = [keys.subject_unit(1), keys.item_unit(1), keys.lane_unit(1), keys.CONTROL]
    assert len(set(units)) == 4
