"""Every event that cannot be understood is refused with a reason, the field, the value and the wish."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.decoding import DEFAULT_MAX_BYTES, MAX_BYTES, Refusal, decode_event, shorten
from state.events import (
    EVENT_TYPES,
    Candidates,
    Click,
    Decision,
    Feedback,
    Impression,
    Item,
    ShownItem,
    Slot,
    User,
    Versions,
    encode,
)

AT = 1_750_000_000_000
CLICK: dict[str, Any] = {"event_id": "e1", "occurred_at": AT, "session_id": "s1", "item_id": "i1"}
SHOWN: dict[str, Any] = {
    "event_id": "e1",
    "occurred_at": AT,
    "session_id": "s1",
    "surface": "home",
    "items": [{"item_id": "a", "position": 0}, {"item_id": "b", "position": 1}],
}
ITEM: dict[str, Any] = {"event_id": "e1", "occurred_at": AT, "item_id": "i1"}
USER: dict[str, Any] = {"event_id": "e1", "occurred_at": AT, "user_id": "u1"}


def refusal(kind: str, raw: bytes | None, **more: Any) -> Refusal:
    with pytest.raises(Refusal) as error:
        decode_event(kind, raw, received_at=AT, **more)
    return error.value


def without(event: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != name}


def understood_or_refused(kind: str, raw: bytes) -> bool:
    try:
        decode_event(kind, raw, received_at=AT)
    except Refusal as refused:
        return bool(refused.reason and refused.field)
    return True


CASES: list[tuple[str, dict[str, Any], str, str, object, str]] = [
    ("clicks", without(CLICK, "item_id"), "missing_field", "item_id", None, "required"),
    ("clicks", without(CLICK, "event_id"), "missing_field", "event_id", None, "required"),
    ("clicks", CLICK | {"event_id": 5}, "wrong_type", "event_id", 5, "Expected `str`, got `int`"),
    ("clicks", CLICK | {"event_id": ""}, "out_of_bounds", "event_id", "", "length >= 1"),
    ("clicks", CLICK | {"item_id": "x" * 129}, "out_of_bounds", "item_id", "x" * 129, "length <= 128"),
    (
        "clicks",
        CLICK | {"occurred_at": "now"},
        "wrong_type",
        "occurred_at",
        "now",
        "Expected `int`, got `str`",
    ),
    ("clicks", CLICK | {"occurred_at": AT + 0.5}, "wrong_type", "occurred_at", AT + 0.5, "got `float`"),
    ("clicks", CLICK | {"occurred_at": AT // 1000}, "out_of_bounds", "occurred_at", AT // 1000, ">= 9466848"),
    ("clicks", CLICK | {"occurred_at": 10**30}, "out_of_bounds", "occurred_at", 10**30, "<= 41024448"),
    ("clicks", CLICK | {"occurred_at": AT + 300_001}, "clock_skew", "occurred_at", AT + 300_001, "at most"),
    ("clicks", CLICK | {"schema": 2}, "out_of_bounds", "schema", 2, "<= 1"),
    ("clicks", CLICK | {"surface": "Home Page"}, "out_of_bounds", "surface", "Home Page", "regex"),
    ("clicks", CLICK | {"decision": ""}, "out_of_bounds", "decision", "", "length >= 1"),
    ("clicks", CLICK | {"user_id": "s:1"}, "reserved_id", "user_id", "s:1", "does not begin with 's:'"),
    ("impressions", SHOWN | {"items": []}, "out_of_bounds", "items", [], "length >= 1"),
    ("impressions", SHOWN | {"items": ["a"]}, "wrong_type", "items[0]", "a", "Expected `object`"),
    (
        "impressions",
        SHOWN | {"items": [{"item_id": "a", "position": 0}, {"item_id": "b"}]},
        "missing_field",
        "items[1].position",
        None,
        "required",
    ),
    (
        "impressions",
        SHOWN | {"items": [{"item_id": "a", "position": -1}]},
        "out_of_bounds",
        "items[0].position",
        -1,
        ">= 0",
    ),
    (
        "impressions",
        SHOWN | {"items": [{"item_id": "a", "position": 3}, {"item_id": "b", "position": 3}]},
        "duplicate_position",
        "items",
        [3, 3],
        "each position once",
    ),
    ("feedback", CLICK | {"kind": "LIKE"}, "out_of_bounds", "kind", "LIKE", "regex"),
    ("feedback", CLICK | {"kind": "like", "value": "5"}, "wrong_type", "value", "5", "float"),
    ("feedback", CLICK | {"kind": "like", "value": 2e9}, "out_of_bounds", "value", 2e9, "<= 1000000000.0"),
    ("items", ITEM | {"embedding": [1.0]}, "out_of_bounds", "embedding", [1.0], "length >= 2"),
    ("items", ITEM | {"embedding": [1.0, "x"]}, "wrong_type", "embedding[1]", "x", "float"),
    ("items", ITEM | {"available": "yes"}, "wrong_type", "available", "yes", "bool"),
    ("items", ITEM | {"categories": ["x"] * 65}, "out_of_bounds", "categories", ["x"] * 65, "length <= 64"),
    ("users", USER | {"consent": "some"}, "unknown_value", "consent", "some", "some"),
    ("users", USER | {"erase": True, "merge_session": "s1"}, "contradiction", "erase", True, "not both"),
    (
        "control",
        ITEM | {"name": "exploration", "document": {}},
        "out_of_bounds",
        "name",
        "exploration",
        "regex",
    ),
]


@pytest.mark.parametrize(("kind", "event", "reason", "field", "value", "wished"), CASES)
def test_a_malformed_event_is_refused_by_reason_field_value_and_wish(
    kind: str, event: dict[str, Any], reason: str, field: str, value: object, wished: str
) -> None:
    refused = refusal(kind, json.dumps(event).encode())
    assert (refused.reason, refused.field, refused.value) == (reason, field, shorten(value))
    assert wished in refused.wished
    assert all(part in str(refused) for part in (reason, field, refused.value, refused.wished))


NOT_JSON = [
    b"",
    b"hello",
    b"{",
    b'{"event_id": "e1",',
    b"\xff\xfe\x00",
    b'{"event_id": "\xff"}',
    b'{"event_id": "\\ud800", "occurred_at": 1}',
    b'{"event_id": 5, "occurred_at": ',
    b'{"event_id": 5} and more',
    b'{"event_id": ' + b"[" * 10_000,
    b'{"event_id": ' + b"[" * 8_000 + b"]" * 8_000 + b"}",
    b'{"event_id": NaN}',
]


@pytest.mark.parametrize("raw", NOT_JSON, ids=[str(raw[:24]) for raw in NOT_JSON])
def test_what_is_no_json_is_refused_as_such(raw: bytes) -> None:
    refused = refusal("clicks", raw)
    assert (refused.reason, refused.field) == ("malformed_json", "value")
    assert "one JSON object in UTF-8" in refused.wished


@pytest.mark.parametrize("raw", [b"[]", b"null", b"7", b'"text"', b"true"])
def test_json_that_is_no_object_is_refused(raw: bytes) -> None:
    refused = refusal("clicks", raw)
    assert (refused.reason, refused.field, refused.value) == ("wrong_type", "value", repr(json.loads(raw)))


def test_a_number_too_large_to_read_is_refused() -> None:
    refused = refusal("feedback", json.dumps(CLICK | {"kind": "like"}).encode()[:-1] + b', "value": 1e400}')
    assert (refused.reason, refused.field) == ("out_of_bounds", "value")


def test_a_null_value_is_refused() -> None:
    assert refusal("clicks", None).reason == "empty"


@pytest.mark.parametrize("kind", ["clicks", "items", "decisions"])
def test_a_record_longer_than_its_kind_may_be_is_refused_unread(kind: str) -> None:
    limit = MAX_BYTES.get(kind, DEFAULT_MAX_BYTES)
    refused = refusal(kind, b"{" * (limit + 1))
    assert refused.reason == "too_large"
    assert f"at most {limit} bytes" in refused.wished
    assert refusal(kind, b"{" * limit).reason == "malformed_json"


def test_skew_is_judged_against_the_brokers_clock() -> None:
    raw = json.dumps(CLICK).encode()
    assert decode_event("clicks", raw, received_at=AT - 300_000).occurred_at == AT
    assert refusal("clicks", raw, max_skew_ms=-1).reason == "clock_skew"


def test_unknown_fields_are_ignored() -> None:
    raw = json.dumps(CLICK | {"colour": "red", "nested": {"deep": [1]}}).encode()
    assert decode_event("clicks", raw, received_at=AT) == Click(
        event_id="e1", occurred_at=AT, session_id="s1", item_id="i1"
    )


def test_a_long_value_is_shortened_and_its_length_named() -> None:
    shown = refusal("clicks", json.dumps(CLICK | {"item_id": "x" * 5000}).encode()).value
    assert len(shown) < 140
    assert "5002 characters" in shown


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(sorted(EVENT_TYPES)), st.binary(max_size=80))
def test_any_bytes_are_understood_or_refused_and_nothing_else(kind: str, raw: bytes) -> None:
    assert refusal(kind, raw).reason in {"malformed_json", "wrong_type", "missing_field", "out_of_bounds"}


@given(st.sampled_from(["clicks", "impressions", "items", "users", "feedback"]), st.data())
def test_any_value_in_any_field_is_understood_or_refused(kind: str, data: st.DataObject) -> None:
    base = {"clicks": CLICK, "impressions": SHOWN, "items": ITEM, "users": USER}.get(
        kind, CLICK | {"kind": "x"}
    )
    name = data.draw(st.sampled_from(EVENT_TYPES[kind].__struct_fields__))
    value = data.draw(JSON)
    raw = json.dumps(base | {name: value}).encode()
    cut = data.draw(st.just(len(raw)) | st.integers(0, len(raw)))
    assert understood_or_refused(kind, raw[:cut])


IDS = st.text(min_size=1, max_size=20).filter(lambda text: not text.startswith("s:"))
TIMES = st.integers(946_684_800_000, AT)
WORDS = st.text("abcxyz019", min_size=1, max_size=8)
FLOATS = st.floats(-1e9, 1e9)
COMMON: dict[str, st.SearchStrategy[Any]] = {
    "event_id": IDS,
    "occurred_at": TIMES,
    "producer": st.none() | IDS,
}
VISITOR = COMMON | {"session_id": IDS, "user_id": st.none() | IDS}
TOLD = VISITOR | {"item_id": IDS, "surface": st.none() | WORDS, "decision": st.none() | IDS}
SHOWN_ITEMS = st.lists(IDS, min_size=1, max_size=5).map(
    lambda ids: [ShownItem(item_id, place) for place, item_id in enumerate(ids)]
)
ATTRIBUTES = st.dictionaries(
    st.text(max_size=8), st.booleans() | FLOATS | st.text(max_size=8) | st.lists(IDS, max_size=3) | st.none()
)
SLOTS = st.builds(
    Slot,
    item_id=IDS,
    propensity=st.floats(0, 1, exclude_min=True),
    eligible=st.integers(0, 200),
    explored=st.booleans(),
    source=WORDS,
    flag=st.sampled_from(["", "pinned", "fallback", "holdout"]),
)
EVENTS: dict[str, st.SearchStrategy[Any]] = {
    "impressions": st.builds(
        Impression, **VISITOR, surface=WORDS, items=SHOWN_ITEMS, decision=st.none() | IDS
    ),
    "clicks": st.builds(Click, **TOLD),
    "feedback": st.builds(Feedback, **TOLD, kind=WORDS, value=st.none() | FLOATS),
    "items": st.builds(
        Item,
        **COMMON,
        item_id=IDS,
        title=st.text(max_size=20),
        categories=st.lists(IDS, max_size=3),
        attributes=ATTRIBUTES,
        available=st.booleans(),
        embedding=st.none() | st.lists(FLOATS, min_size=2, max_size=4),
    ),
    "users": st.builds(
        User,
        **COMMON,
        user_id=IDS,
        attributes=st.none() | ATTRIBUTES,
        consent=st.sampled_from([None, "full", "none"]),
        merge_session=st.none() | IDS,
    ),
    "decisions": st.builds(
        Decision,
        **VISITOR,
        surface=WORDS,
        rung=WORDS,
        slots=st.lists(SLOTS, max_size=3),
        candidates=st.builds(
            Candidates, item_ids=st.lists(IDS, max_size=3), scores=WORDS, sources=WORDS, cuts=WORDS
        ),
        context=WORDS,
        features=WORDS,
        arms=WORDS,
        logits=WORDS,
        exploration=st.dictionaries(WORDS, FLOATS | WORDS, max_size=3),
        versions=st.builds(
            Versions, policy=WORDS, model=st.integers(0, 99), exploration=st.integers(0, 9), features=WORDS
        ),
        seed=st.integers(0, 2**63 - 1),
        staleness_ms=st.integers(0, 2**31),
        new_user=st.booleans(),
    ),
}


@given(st.sampled_from(sorted(EVENTS)).flatmap(lambda kind: st.tuples(st.just(kind), EVENTS[kind])))
def test_what_we_encode_we_understand_as_it_was(pair: tuple[str, Any]) -> None:
    kind, event = pair
    raw = encode(event)
    assert decode_event(kind, raw, received_at=AT) == event
    assert encode(msgspec.json.decode(raw, type=EVENT_TYPES[kind])) == raw


@given(IDS, st.none() | IDS)
def test_an_events_key_is_its_user_else_its_session(session_id: str, user_id: str | None) -> None:
    click = Click(event_id="e", occurred_at=AT, session_id=session_id, user_id=user_id, item_id="i")
    assert click.subject == (user_id or f"s:{session_id}")
    assert User(event_id="e", occurred_at=AT, user_id="u1").subject == "u1"
