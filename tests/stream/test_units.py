"""Catalogue, control, lanes and the small parts: rows, effects, sessions, units."""

import uuid
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models.click import ClickModel
from online_models.features import Feature, FeatureRegistry
from online_models.heads import HeadModels, HeadsScorer, Ranker
from online_models.ranking import prior_model, ranking_registry
from state.events import Control, Item, Outcome, OutcomeSlot, Versions, encode
from state.exploration import Explorations
from state.feed import Interaction, decode_item_feed, decode_names_feed
from state.keys import unit_prefix
from state.opened import OpenDecision, Reward
from state.outbox import NUMBER_HEADER, SOURCE_HEADER
from state.packing import to_base64, unpack_arrays
from state.rules import SurfaceRules
from stream.attribution import Closed
from stream.catalogue import CatalogueLogic
from stream.closing import judge
from stream.control import ControlLogic
from stream.effects import Counters, Effects, Place
from stream.kept import keep
from stream.lane import LaneLogic
from stream.lessons import lesson_of
from stream.rows import Row, decode_row
from stream.sessions import Sessions
from stream.shard import ShardLogic
from stream.units import KINDS, logic_maker, unit_of
from tests.stream.folding import AT, Folded, Store, click, decision_event, row
from tests.stream.folding import settings as told

ITEMS = Place(unit_prefix("hw", "i0"), "i0", 0)
CONTROL = Place(unit_prefix("hw", "c"), "c", 0)
LANE = Place(unit_prefix("hw", "m0"), "m0", 0)
REGISTRY = ranking_registry()
WIDTH = len(REGISTRY)


def catalogue(store: Store | None = None) -> Folded:
    return Folded(CatalogueLogic(ITEMS), store)


def upsert(item_id: str = "a", title: str = "A", key: bytes | None = b"") -> Row:
    event = Item(event_id=f"e-{item_id}-{title}", occurred_at=AT, item_id=item_id, title=title)
    return decode_row(Row("items", 0, 0, AT, item_id.encode() if key == b"" else key, encode(event)), (), 0)


def tombstone(key: bytes | None) -> Row:
    return decode_row(Row("items", 0, 0, AT, key, None), (), 0)


def test_an_upsert_is_stored_and_fed_as_it_came() -> None:
    folded = catalogue()
    folded.fold([upsert("a"), upsert("b")])
    assert folded.hash("items") == {b"a": upsert("a").raw, b"b": upsert("b").raw}
    assert decode_item_feed(folded.feeds[0]).items == [("a", upsert("a").raw), ("b", upsert("b").raw)]
    assert folded.count("items") == 2


def test_a_tombstone_removes_the_item_under_its_key() -> None:
    folded = catalogue()
    folded.fold([upsert("a"), upsert("b")])
    folded.fold([tombstone(b"a")])
    assert set(folded.hash("items")) == {b"b"}
    assert decode_item_feed(folded.feeds[1]).items == [("a", None)]
    assert folded.count("removed_items") == 1


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.sampled_from("XYZ")), max_size=12), st.data()
)
def test_the_last_word_on_an_item_counts_in_store_and_feed(
    words: list[tuple[str, str | None]], data: st.DataObject
) -> None:
    rows = [tombstone(key.encode()) if title is None else upsert(key, title) for key, title in words]
    cut = data.draw(st.integers(0, len(rows)))
    live: dict[str, bytes | None] = {}
    folded = catalogue()
    for part in (rows[:cut], rows[cut:]):
        folded.fold(part)
        live |= dict(decode_item_feed(folded.feeds[-1]).items)
    last = {key: None if title is None else upsert(key, title).raw for key, title in words}
    assert folded.hash("items") == {key.encode(): raw for key, raw in last.items() if raw is not None}
    assert live == last


@pytest.mark.parametrize(
    "bad", [upsert("a", key=b"b"), upsert("a", key=b"\xff"), tombstone(None), tombstone(b"")]
)
def test_a_catalogue_record_under_a_wrong_key_is_refused(bad: Row) -> None:
    folded = catalogue()
    folded.fold([bad, upsert("z")])
    (letter,) = folded.letters()
    assert (letter.reason, set(folded.hash("items"))) == ("bad_key", {b"z"})


def test_a_catalogue_record_without_a_key_goes_by_its_item_id() -> None:
    folded = catalogue()
    folded.fold([upsert("a", key=None)])
    assert set(folded.hash("items")) == {b"a"}


def control(store: Store | None = None) -> Folded:
    return Folded(ControlLogic(CONTROL, 60_000), store)


def change(document: dict[str, Any], name: str = "exploration/home", **more: Any) -> Row:
    stamp: dict[str, Any] = {
        "event_id": uuid.uuid4().hex,
        "occurred_at": AT,
        "changed_by": "me",
        "why": "test",
    }
    event = Control(name=name, document=document, **(stamp | {"forced": True} | more))
    return row("control", event)


def stored(folded: Folded, name: str = "exploration/home") -> Explorations:
    return msgspec.json.decode(folded.hash("control")[name.encode()], type=Explorations)


def test_each_accepted_change_raises_the_version_by_one_across_restarts() -> None:
    folded = control()
    folded.fold([change({"rate": 0.1}), change({"rate": 0.2}), change({}, "exploration/cart")])
    assert (stored(folded).version, stored(folded).rate) == (2, 0.2)
    assert stored(folded, "exploration/cart").version == 1
    again = control(folded.store)
    again.fold([change({"rate": 0.3, "scheme": "softmax"})])
    held = stored(again)
    assert (held.rate, held.scheme, held.version, held.changed_by) == (0.3, "softmax", 3, "me")


def test_changed_documents_are_fed_by_name_once() -> None:
    folded = control()
    folded.fold([change({"rate": 0.1}), change({"rate": 0.2})])
    assert decode_names_feed(folded.feeds[0]).names == ["exploration/home"]


def test_a_document_cannot_say_its_own_version_or_author() -> None:
    folded = control()
    folded.fold([change({"rate": 0.1, "changed_by": "somebody"}), change({"version": 99})])
    assert folded.hash("control") == {}
    assert [letter.reason for letter in folded.letters()] == ["bad_document"] * 2


@pytest.mark.parametrize(
    ("document", "part"),
    [
        ({"rate": 0.6}, "<= 0.5"),
        ({"rate": -0.1}, ">= 0.0"),
        ({"rate": "high"}, "float"),
        ({"rate": None}, "float"),
        ({"scheme": "magic"}, "magic"),
        ({"temperature": 0.0}, ">"),
        ({"floor": 0.5}, "<= 0.01"),
        ({"rait": 0.1}, "unknown field"),
    ],
)
def test_a_bad_document_is_refused_and_the_one_in_force_stays(document: dict[str, Any], part: str) -> None:
    folded = control()
    folded.fold([change({"rate": 0.1})])
    folded.fold([change(document)])
    (letter,) = folded.letters()
    assert letter.reason == "bad_document"
    assert part in letter.detail
    assert (stored(folded).rate, stored(folded).version) == (0.1, 1)
    assert decode_names_feed(folded.feeds[1]).names == []


def test_a_document_of_no_known_kind_is_refused() -> None:
    folded = control()
    folded.fold([change({"rate": 0.1}, "weather/home")])
    assert folded.letters()[0].reason == "unknown_control"
    assert folded.hash("control") == {}


def lane(store: Store | None = None) -> Folded:
    return Folded(LaneLogic(LANE, REGISTRY), store)


def outcome(
    number: int,
    *,
    source: str = "0",
    surface: str = "home",
    rng: int = 0,
    width: int = WIDTH,
    features: str = REGISTRY.fingerprint(),
) -> Row:
    random = np.random.default_rng((rng, number))
    rows = random.random((4, width))
    slots = [OutcomeSlot(f"i{n}", n, float(rows[n, 1] > 0.5), 0.5) for n in range(4)]
    event = Outcome(
        event_id=f"d{source}-{number}",
        occurred_at=AT,
        subject="u1",
        surface=surface,
        lane=0,
        shown_at=AT,
        slots=slots,
        features=to_base64(rows),
        logits=to_base64(np.zeros(4)),
        versions=Versions("p", 1, 1, features),
    )
    marks = [(SOURCE_HEADER, source.encode()), (NUMBER_HEADER, str(number).encode())]
    return row("outcomes", event, headers=marks)


def model(folded: Folded, surface: str = "home") -> ClickModel:
    return HeadModels.restore(REGISTRY, *unpack_arrays(folded.hash("models")[surface.encode()])).click


def test_outcomes_teach_the_click_model_of_their_surface() -> None:
    folded = lane()
    folded.fold([outcome(n) for n in range(1, 200)] + [outcome(500, surface="cart")])
    inputs = np.full((2, WIDTH), 0.5)
    inputs[:, 1] = [0.0, 1.0]
    begun = prior_model(REGISTRY).scorer().probabilities(inputs)
    low, high = model(folded).scorer().probabilities(inputs)
    assert begun[0] == begun[1]
    assert high > 1.1 * low
    assert (model(folded).rows, model(folded, "cart").rows) == (4 * 199, 4)
    assert decode_names_feed(folded.feeds[0]).names == ["cart", "home"]


def test_a_stored_model_scores_as_the_one_that_learnt() -> None:
    folded = lane()
    folded.fold([outcome(n) for n in range(1, 50)])
    inputs = np.random.default_rng(3).random((20, WIDTH))
    reference = prior_model(REGISTRY)
    lesson = lesson_of(_events(49), WIDTH)
    reference.learn_many(lesson.inputs, lesson.labels.clicks)
    ranker = Ranker([HeadsScorer.from_snapshot(*unpack_arrays(folded.hash("models")[b"home"]))], {})
    np.testing.assert_array_equal(ranker.logits(inputs), reference.scorer().logits(inputs))


def _events(count: int) -> list[Outcome]:
    return [event for n in range(count) if isinstance(event := outcome(n + 1).event, Outcome)]


def test_a_message_sent_again_is_learnt_once() -> None:
    once, twice = lane(), lane()
    batch = [outcome(1), outcome(2), outcome(1, source="1"), outcome(3)]
    once.fold(batch)
    twice.fold([*batch[:2], batch[1], batch[2]])
    twice.fold(batch)
    assert (once.count("outcomes"), twice.count("outcomes"), twice.count("outcomes.duplicate")) == (4, 4, 4)
    again = lane(once.store)
    again.fold(batch)
    assert again.count("outcomes") == 4
    assert model(again).rows == model(once).rows == 16


def test_an_outcome_derived_again_under_another_number_is_learnt_once() -> None:
    folded = lane()
    folded.fold([outcome(1), outcome(2)])
    again = lane(folded.store)
    again.fold([renumbered(outcome(2), 5000), renumbered(outcome(1), 5001), outcome(5002)])
    assert (again.count("outcomes"), again.count("outcomes.duplicate")) == (3, 2)
    assert model(again).rows == 12


def renumbered(row: Row, number: int) -> Row:
    row.number = number
    return row


def test_an_outcome_without_a_number_of_ours_is_not_learnt() -> None:
    folded = lane()
    stranger = outcome(1).event
    assert stranger is not None
    folded.fold([row("outcomes", stranger)])
    assert (folded.count("outcomes"), folded.hash("models")) == (0, {})


def test_a_lane_restarts_with_its_model_to_the_last_bit() -> None:
    batches = [[outcome(n) for n in range(start, start + 7)] for start in range(1, 60, 7)]
    plain, broken = lane(), lane()
    for batch in batches:
        plain.fold(batch)
        broken.fold(batch)
        broken = lane(broken.store)
    assert broken.store.state() == plain.store.state()


def test_over_other_features_a_model_begins_with_the_weights_of_those_it_knew() -> None:
    folded = lane()
    folded.fold([outcome(n) for n in range(1, 100)])
    registry = FeatureRegistry([*REGISTRY.features, Feature("more")], REGISTRY.crosses)
    other = Folded(LaneLogic(LANE, registry), folded.store)
    assert isinstance(other.logic, LaneLogic)
    begun = other.logic.models["home"].heads.click
    known = model(folded).river.weights
    assert {name: begun.river.weights[name] for name in registry.columns} == {"more": 0.0} | {
        name: known[name] for name in REGISTRY.columns
    }
    assert begun.rows == 0
    other.fold([outcome(200, width=WIDTH + 1, features=registry.fingerprint())])
    _, document = unpack_arrays(other.hash("models")[b"home"])
    assert (document["fingerprint"], document["heads"]["click"]["judged"]["rows"]) == (
        registry.fingerprint(),
        4,
    )


def test_an_outcome_with_other_features_teaches_nothing() -> None:
    folded = lane()
    folded.fold([outcome(1, width=WIDTH + 1), outcome(2, features="of another version")])
    assert (folded.count("outcomes"), model(folded).rows) == (2, 0)
    assert folded.count("outcomes.other_features") == 1


@pytest.mark.parametrize(
    ("kind", "partition", "unit"),
    [
        ("clicks", 3, "3"),
        ("users", 0, "0"),
        ("items", 2, "i2"),
        ("outcomes", 1, "m1"),
        ("control", 0, "c"),
        ("directives", 1, "m1"),
    ],
)
def test_every_topic_partition_belongs_to_one_unit(kind: str, partition: int, unit: str) -> None:
    assert unit_of(kind, partition) == unit
    logic = logic_maker(told(), unit, partition)()
    assert kind in logic.kinds
    assert (logic.place.unit, logic.place.number) == (unit, partition)


def test_a_subject_shards_topics_are_all_folded_by_one_unit() -> None:
    assert {unit_of(kind, 2) for kind in ShardLogic.kinds} == {"2"}
    assert set(ShardLogic.kinds) | {"items", "outcomes", "directives", "control"} == set(KINDS)


def test_the_session_cap_is_shared_by_the_shards() -> None:
    logic = logic_maker(told(shards=4, max_sessions=10), "1", 1)()
    assert isinstance(logic, ShardLogic)
    assert logic.rules.max_sessions == 2


OPS = st.lists(st.tuples(st.sampled_from(["write", "erase"]), st.sampled_from("ab"), st.binary(max_size=3)))


@given(OPS, st.sets(st.sampled_from("ab")))
def test_writes_and_deletions_of_one_commit_end_as_they_were_said(
    said: list[tuple[str, str, bytes]], held: set[str]
) -> None:
    effects, store = Effects(ITEMS, Counters({}), 0), Store()
    store.hashes["k"] = {name.encode(): b"old" for name in held}
    wanted = dict(store.hashes["k"])
    for what, name, value in said:
        if what == "write":
            effects.write("k", name, value)
            wanted[name.encode()] = value
        else:
            effects.erase("k", name)
            wanted.pop(name.encode(), None)
    store.apply(effects.finish())
    assert store.hashes["k"] == wanted


def test_only_counters_that_moved_are_written() -> None:
    counters = Counters({b"a": b"3", b"b": b"1"})
    counters.add("a", 2)
    assert counters.take_moved() == {"a": b"5"}
    assert counters.take_moved() == {}


HEADERS = st.lists(
    st.tuples(
        st.sampled_from([SOURCE_HEADER, NUMBER_HEADER, "hw-forwarded", "x"]),
        st.none() | st.binary(max_size=20),
    )
)


@given(HEADERS, st.none() | st.binary(max_size=30))
def test_no_record_and_no_headers_can_stop_an_agent(
    headers: list[tuple[str, bytes | None]], raw: bytes
) -> None:
    read = decode_row(Row("clicks", 0, 0, AT, None, raw), headers, 0)
    assert read.event is None
    assert read.refusal is not None


@pytest.mark.parametrize("number", [b"", b"-1", b"1.5", b"x", "\u0663".encode(), b"9" * 5000, None])
def test_a_message_number_that_is_none_is_refused(number: bytes | None) -> None:
    read = decode_row(click(), [(NUMBER_HEADER, number)], 300_000)
    assert read.refusal is not None
    assert (read.refusal.reason, read.refusal.field) == ("bad_header", NUMBER_HEADER)


def test_a_null_value_is_a_removal_for_items_only() -> None:
    assert decode_row(Row("items", 0, 0, AT, b"a", None), (), 0).refusal is None
    refused = decode_row(Row("clicks", 0, 0, AT, b"a", None), (), 0).refusal
    assert refused is not None
    assert refused.reason == "empty"


STEPS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 50)), max_size=60)


@given(STEPS, st.integers(1, 4))
def test_sessions_keep_the_warmest_whatever_the_order_and_restarts(
    steps: list[tuple[int, int]], cap: int
) -> None:
    store = Store()
    sessions, naive = Sessions("p:", {}, cap), {}
    for n, (session, at) in enumerate(steps):
        effects = Effects(ITEMS, Counters({}), 0)
        sessions.add(Interaction(session, f"i{n}", AT + at, 1.0), effects)
        store.apply(effects.finish())
        naive[session] = at
        if len(naive) > cap:
            del naive[min(naive, key=lambda key: (naive[key], key))]
        if n % 7 == 3:
            sessions = Sessions("p:", store.hashes.get("p:sessions", {}), cap)
    assert {int(name) for name in store.hashes.get("p:sessions", {})} == set(naive)
    assert len(sessions) == len(naive)


def test_sessions_do_not_remember_ages_without_end() -> None:
    sessions = Sessions("p:", {}, 3)
    for n in range(2_000):
        sessions.add(Interaction(n % 3, "a", AT + n, 1.0), Effects(ITEMS, Counters({}), 0))
    assert len(sessions._ages) < 100


def test_judging_keeps_slots_in_the_order_they_were_decided() -> None:
    rewards = {"a": [Reward(0.5, AT + 1)], "c": [Reward(1.0, AT + 10**6)]}
    entry = OpenDecision("u1", AT, True, AT, ["c", "a"], rewards)
    closed = Closed("d1", entry, "outcome", AT, AT + 1000)
    judged = judge(closed, keep(decision_event()), SurfaceRules())
    assert (judged.places, judged.rewards, judged.earned) == ([0, 2], [0.5, 0.0], [True, False])
    assert np.frombuffer(judged.decision.logits).tolist() == [-3.0] * 3
