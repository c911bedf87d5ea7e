"""Producer health is what the rows say, counted once each, bounded whatever names and items come."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.events import Click, Item, encode
from state.keys import unit_prefix
from state.outbox import FORWARDED_HEADER, NUMBER_HEADER
from state.producers import (
    ENGINE,
    MAX_ITEMS,
    OTHERS,
    PRODUCER_HEADER,
    UNNAMED,
    ProducerRecord,
    Tally,
    decode_producer,
)
from stream.catalogue import CatalogueLogic
from stream.effects import Place
from stream.producers import IDLE_MS, MAX_PRODUCERS
from stream.rows import Row, decode_row
from tests.stream.folding import (
    AT,
    Folded,
    Store,
    click,
    decision,
    feedback,
    impression,
    passed_on,
    profile,
    row,
    shard,
    user_of_shard,
)


def health(folded: Folded) -> dict[str, ProducerRecord]:
    found = {name.decode(): decode_producer(raw) for name, raw in folded.hash("producers").items()}
    assert None not in found.values()
    return {name: record for name, record in found.items() if record is not None}


def total(folded: Folded, name: str = UNNAMED) -> Tally:
    return health(folded)[name].total()


def raw_row(raw: bytes, *headers: tuple[str, bytes], kind: str = "clicks", at: int = AT) -> Row:
    return decode_row(Row(kind, 0, 0, at, b"u1", raw), headers, 300_000)


def body(**changes: Any) -> bytes:
    good = {"event_id": "e", "occurred_at": AT, "session_id": "s1", "user_id": "u1", "item_id": "b"}
    return json.dumps(good | changes).encode()


def catalogue() -> Folded:
    return Folded(CatalogueLogic(Place(unit_prefix("hw", "i0"), "i0", 0)))


@pytest.mark.parametrize(
    ("raw", "headers", "name"),
    [
        (body(producer="web"), [(PRODUCER_HEADER, b"header")], "web"),
        (body(), [(PRODUCER_HEADER, b"header")], "header"),
        (body(producer=""), [], UNNAMED),
        (body(), [], UNNAMED),
        (body(producer="web", item_id=7), [], "web"),
        (body(producer="web", junk="x" * 20_000), [], "web"),
        (body(producer="w" * 70), [], "w" * 64),
        (body(producer=["web"]), [(PRODUCER_HEADER, b"header")], "header"),
        (b"{no json", [(PRODUCER_HEADER, b"header")], "header"),
        (b"[" * 5000, [], UNNAMED),
        (b"\xff\xfe", [(PRODUCER_HEADER, b"sh\xffop\x1b")], "sh\ufffdop?"),
        (body(producer="web"), [(NUMBER_HEADER, b"seven")], "web"),
        (b'{"producer": "\\ud800"}', [], UNNAMED),
    ],
)
def test_the_producer_is_named_by_event_header_or_not_at_all(
    raw: bytes, headers: list[tuple[str, bytes]], name: str
) -> None:
    folded = shard()
    folded.fold([raw_row(raw, *headers)])
    assert set(health(folded)) == {name}


def test_events_of_servers_count_under_the_engines_own_name() -> None:
    folded = shard()
    folded.fold([decision()])
    assert total(folded, ENGINE).events == {"decisions": 1}


def test_every_kind_of_event_is_counted_with_what_it_says() -> None:
    folded = shard()
    rows = [impression(("a", "b")), click("b"), click("c", decision=1), feedback("like", "a"), profile()]
    folded.fold(rows)
    record = health(folded)[UNNAMED]
    assert record.total().events == {"impressions": 1, "clicks": 2, "feedback": 1, "users": 1}
    assert record.items == {"a": 2, "b": 2, "c": 1}
    assert record.total().unattributed == 1
    assert (record.first_at, record.seen_at, record.event_at) == (AT, AT + 1000, AT + 1000)


def test_a_refusal_keeps_its_kind_reason_field_and_wish_and_a_value_that_tells_nobody() -> None:
    folded = shard()
    bad = {"occurred_at": "yesterday", "user_id": ["anna"]}
    folded.fold([raw_row(body(**{name: value})) for name, value in bad.items()])
    folded.fold([raw_row(body(occurred_at="yesterday"))])
    first, second = total(folded).refusals
    assert (first.kind, first.reason, first.field, first.count) == ("clicks", "wrong_type", "occurred_at", 2)
    assert first.value == "'yesterday'"
    assert "int" in first.wished
    assert (second.field, second.value) == ("user_id", "")
    assert total(folded).events == {"clicks": 3}


def test_places_in_lists_are_one_field() -> None:
    folded = shard()
    lists = [[{"item_id": "a"}], [{"item_id": "a", "position": 0}, {"item_id": "b"}]]
    folded.fold([raw_row(body(surface="home", items=items), kind="impressions") for items in lists])
    assert [(one.field, one.count) for one in total(folded).refusals] == [("items[].position", 2)]


def test_a_refusal_after_admission_is_one_event_and_one_refusal() -> None:
    folded = shard()
    folded.fold([feedback("telepathy")])
    assert (total(folded).arrived, total(folded).refused) == (1, 1)


def test_late_and_repeated_events_are_counted() -> None:
    folded = shard()
    folded.fold([click("a")], watermark=AT)
    folded.fold([click("a"), click("b", at=AT - 1)], watermark=AT)
    assert (total(folded).late, total(folded).duplicate, total(folded).arrived) == (1, 1, 3)


def test_the_largest_lead_and_lag_are_kept_and_refused_skew_counts_as_lead() -> None:
    folded = shard()
    folded.fold([row("clicks", _click(AT + lead), at=AT) for lead in (500, -9000, 100)])
    assert (total(folded).lead_ms, total(folded).lag_ms) == (500, 9000)
    folded.fold([row("clicks", _click(AT + 3_600_000), at=AT)])
    assert total(folded).lead_ms == 3_600_000
    assert [one.reason for one in total(folded).refusals] == ["clock_skew"]


def _click(at: int) -> Click:
    return Click(event_id=f"e{at}", occurred_at=at, session_id="s", user_id="u1", item_id="b")


def test_a_misrouted_event_is_counted_where_it_was_sent_to_and_not_again_at_its_owner() -> None:
    stranger = user_of_shard(1, 2)
    wrong, owner = shard(number=0, shards=2), shard(number=1, shards=2)
    sent = click("a", user=stranger)
    sent = decode_row(
        Row("clicks", 0, 0, sent.received_at, sent.key, sent.raw), [(PRODUCER_HEADER, b"librdkafka")], 0
    )
    wrong.fold([sent])
    assert (total(wrong, "librdkafka").misrouted, total(wrong, "librdkafka").arrived) == (1, 1)
    (message,) = wrong.messages("clicks")
    assert (PRODUCER_HEADER, b"librdkafka") in message.headers("0")
    owner.fold([passed_on(message, received_at=AT)])
    assert owner.count("clicks") == 1
    assert health(owner) == {}


def test_what_happens_to_a_forwarded_event_at_its_owner_is_said_of_its_producer() -> None:
    owner = shard()
    marks = [(FORWARDED_HEADER, b"1"), (PRODUCER_HEADER, b"web")]
    late = raw_row(body(occurred_at=AT - 1), *marks)
    unknown = raw_row(body(kind="telepathy", event_id="f"), *marks, kind="feedback")
    owner.fold([raw_row(body(), *marks)], watermark=AT)
    owner.fold([late, unknown, raw_row(body(), *marks)], watermark=AT)
    found = total(owner, "web")
    assert (found.arrived, found.late, found.refused, found.duplicate) == (0, 1, 1, 0)


def test_item_events_tombstones_and_bad_keys_are_counted_by_the_item_shard() -> None:
    folded = catalogue()
    item = Item(event_id="e", occurred_at=AT, item_id="a", producer="cms")
    gone = decode_row(Row("items", 0, 1, AT, b"a", None), [(PRODUCER_HEADER, b"cms")], 0)
    wrong = decode_row(Row("items", 0, 2, AT, b"other", encode(item)), (), 0)
    folded.fold([row("items", item), gone, wrong])
    assert (total(folded, "cms").events, total(folded, "cms").refused) == ({"items": 3}, 1)


def test_only_producers_that_moved_are_written() -> None:
    folded = shard()
    folded.fold([click("a", producer="web"), click("b", producer="app")])
    change = folded.fold([click("c", producer="app")])
    assert set(change.fields[f"{folded.logic.place.prefix}producers"]) == {"app"}
    assert f"{folded.logic.place.prefix}producers" not in folded.fold([]).fields


NAMES = st.sampled_from([f"p{n}" for n in range(MAX_PRODUCERS + 30)])


@settings(max_examples=15, deadline=None)
@given(st.lists(NAMES, max_size=400))
def test_however_many_names_come_at_most_two_hundred_and_the_others_are_kept(names: list[str]) -> None:
    folded = shard()
    folded.fold([click(f"i{n}", producer=name) for n, name in enumerate(names)])
    found = health(folded)
    assert len(found.keys() - {OTHERS}) <= MAX_PRODUCERS
    assert sum(record.total().arrived for record in found.values()) == len(names)
    assert (OTHERS in found) == (len(set(names)) > MAX_PRODUCERS)


def test_a_producer_silent_for_a_week_makes_room_for_a_new_one() -> None:
    folded = shard()
    folded.fold([click(f"i{n}", at=AT + n, producer=f"p{n}") for n in range(MAX_PRODUCERS)])
    folded.fold([click("x", at=AT + IDLE_MS - 1, producer="early")])
    assert OTHERS in health(folded)
    assert "early" not in health(folded)
    folded.fold([click("y", at=AT + IDLE_MS, producer="new")])
    assert "new" in health(folded)
    assert "p0" not in health(folded)
    assert len(health(folded)) == MAX_PRODUCERS + 1


def test_a_name_that_comes_back_in_the_batch_it_was_dropped_in_is_kept() -> None:
    folded = shard()
    folded.fold([click(f"i{n}", at=AT + n, producer=f"p{n}") for n in range(MAX_PRODUCERS)])
    later = AT + 2 * IDLE_MS
    folded.fold([click("x", at=later, producer="new"), click("y", at=later, producer="p0")])
    assert health(folded)["p0"].total().arrived == 1
    assert "p1" not in health(folded)


def test_a_record_of_an_older_format_is_counted_anew_and_then_gone() -> None:
    store = Store()
    key = f"{unit_prefix('hw', '0')}producers"
    store.hashes[key] = {b"web": b"an older format", b"dead": b"\x01\x00\x00\x00 of another one"}
    folded = shard(store)
    folded.fold([click("a", producer="web")])
    assert set(store.hashes[key]) == {b"web"}
    assert total(folded, "web").arrived == 1


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["web", "app", ""]),
        st.integers(0, 300),
        st.sampled_from(["good", "late", "bad", "listing"]),
    ),
    max_size=60,
)


@settings(max_examples=25, deadline=None)
@given(EVENTS, st.integers(0, 60), st.integers(0, 60))
def test_batches_and_restarts_do_not_change_the_counts(
    events: list[tuple[str, int, str]], first_cut: int, second_cut: int
) -> None:
    rows = [_row_of(number, *event) for number, event in enumerate(events)]
    whole = shard()
    whole.fold([], watermark=AT)
    whole.fold(rows, watermark=AT)
    cut = shard()
    cut.fold([], watermark=AT)
    for part in (rows[:first_cut], rows[first_cut:][:second_cut], rows[first_cut:][second_cut:]):
        cut.fold(part, watermark=AT)
        cut = shard(cut.store)
    assert cut.hash("producers") == whole.hash("producers")


def _row_of(number: int, producer: str, item: int, how: str) -> Row:
    at = AT - 1 if how == "late" else AT + number * 50_000
    if how == "bad":
        return raw_row(body(producer=producer, item_id=7), at=at)
    if how == "listing":
        return impression([f"i{item + n}" for n in range(100)], at=at, producer=producer)
    return click(f"i{item}", at=at, producer=producer)


def test_items_kept_are_bounded() -> None:
    folded = shard()
    folded.fold([impression([f"i{200 * n + m}" for m in range(200)], at=AT + n) for n in range(5)])
    items = list(health(folded)[UNNAMED].items)
    assert items[-MAX_ITEMS:] == [f"i{800 + m}" for m in range(200)]
    assert len(items) <= MAX_ITEMS + 50
