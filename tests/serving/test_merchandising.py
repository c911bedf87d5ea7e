"""Filters, rules and a request's own wishes: what appears, what is lifted, pinned, paged, and logged."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.slates import draw_slate, slate_propensities
from serving.decide import answer_items, decide, to_event
from serving.last_rung import static_items
from serving.live import LiveState
from serving.merchandising import interleaved
from serving.pages import FIRST, MOST, Pages
from serving.relaw import drawn_slots, law_of, problem_of, slots_of
from serving.requests import Boost, Pin
from serving.verdict import item_why
from state.decoding import Refusal, decode_event
from state.events import Decision, encode
from state.exploration import Explorations, read_document
from state.feed import ItemFeed
from state.merchandising import Merchandising, Rule
from state.packing import from_base64
from state.ranking import Rankings
from state.subject import SubjectRecord
from stream.kept import coins_of, keep
from tests.serving.world import NOW, World, call, empty, item

ITEMS = 60


def shop() -> LiveState:
    """Return a catalogue in which prices go up as popularity goes down; every second item is of brand x."""
    live = empty()
    for number in range(ITEMS):
        attributes = {"price": float(number), "brand": "xy"[number % 2]}
        live.put_item(encode(item(number, attributes=attributes, title=f"thing {number * 7919}")))
        for _ in range(ITEMS - number):
            live.trends.add(number, NOW - 1_000, 1.0)
    live.settle(ITEMS)
    live.put_control("exploration/home", encode(Explorations(scheme="greedy")))
    return live


SHOP = shop()


def ruled(rules: dict[str, Rule], live: LiveState = SHOP, **exploration: Any) -> LiveState:
    live.put_control("rules/home", encode(Merchandising(rules=rules, version=3)))
    live.put_control("exploration/home", encode(Explorations(**{"scheme": "greedy", **exploration})))
    live.put_control("ranking/home", encode(Rankings()))
    return live


def logged(live: LiveState, asked: Any) -> Decision:
    decided = decide(live, asked)
    assert decided is not None
    event = decode_event("decisions", encode(to_event(live, asked, decided)), received_at=NOW)
    assert isinstance(event, Decision)
    assert [slot.item_id for slot in event.slots] == [one.item_id for one in answer_items(live, decided)]
    return event


def shown(live: LiveState, asked: Any) -> list[str]:
    return [slot.item_id for slot in logged(live, asked).slots]


def ids(numbers: Iterable[int]) -> set[str]:
    return {f"i{number}" for number in numbers}


# -- filters


def test_a_filter_leaves_what_fulfils_it_and_as_many_as_were_asked_for_where_they_exist() -> None:
    live = ruled({})
    for wanted, fits in (
        ("price >= 50", range(50, 60)),
        ("price >= 55 and brand == 'x'", (56, 58)),
        ("price < 3 or price > 57", (0, 1, 2, 58, 59)),
        ("price < 0", ()),
    ):
        asked = call("u1", SubjectRecord(), k=10, filter=wanted)
        decided = decide(live, asked)
        slate = [] if decided is None else [one.item_id for one in answer_items(live, decided)]
        assert set(slate) == ids(fits)
        assert {one.item_id for one in static_items(live, asked, ["i1", "i57"])} == ids(fits)


def test_a_filter_holds_together_with_everything_else_that_keeps_items_out() -> None:
    live, record = ruled({}), SubjectRecord(hidden=["i50"])
    record.mark_seen("i51", NOW - 1_000, 100)
    asked = call("u1", record, filter="price >= 50", exclude=["i52"], seed_items=["i53"], k=50)
    assert set(shown(live, asked)) == ids(range(54, 60))


def test_a_changed_attribute_counts_in_the_next_slate() -> None:
    live = ruled({}, shop())
    assert "i3" not in shown(live, call("u1", SubjectRecord(), k=10, filter="price >= 50"))
    live.put_item(encode(item(3, attributes={"price": 70.0})))
    live.put_item(encode(item(59, attributes={})))
    assert "i3" in (slate := shown(live, call("u1", SubjectRecord(), k=11, filter="price >= 50")))
    assert "i59" not in slate


def test_what_a_filter_or_rule_kept_out_is_told_with_the_name_of_the_rule() -> None:
    live = ruled({"cheap": Rule("hide", "price < 2"), "brand": Rule("hide", "brand == 'y' and price < 6")})
    event = logged(live, call("u1", SubjectRecord(hidden=["i4"]), filter="price < 30", k=40))
    assert event.rules == ["brand", "cheap"]

    def told(item_id: str) -> tuple[str, str, str]:
        why = item_why(event, item_id, live.registry, is_known=True)
        return why.verdict, why.reason, why.rule

    assert told("i0") == ("filtered", "rule", "cheap")
    assert told("i1") == ("filtered", "rule", "brand")
    assert told("i3") == ("filtered", "rule", "brand")
    assert told("i40") == ("filtered", "filter", "")
    assert told("i4") == ("filtered", "hidden", "")
    assert event.versions.rules == 3


def test_the_last_rung_stays_within_the_categories_asked_for() -> None:
    slate = static_items(ruled({}), call(categories=["drama"], k=50), ["i1"])
    assert {one.item_id for one in slate} == ids(range(0, ITEMS, 3))


# -- boosts


def test_boosts_multiply_the_odds_before_the_draw_and_are_logged() -> None:
    plain = logged(ruled({}), call("u1", SubjectRecord(), k=5))
    rules = {"up": Rule("boost", "price >= 20", 50.0), "down": Rule("bury", "brand == 'x'", 3.0)}
    lifted = logged(ruled(rules), call("u1", SubjectRecord(), k=5, boost=[Boost("price >= 59", 2.0)]))
    for name, by in (("i1", 0.0), ("i0", -np.log(3)), ("i21", np.log(50)), ("i20", np.log(50) - np.log(3))):
        change = score_of(lifted, name) - score_of(plain, name)
        assert change == pytest.approx(by, abs=1e-9), name
    assert score_of(lifted, "i59") - score_of(plain, "i59") == pytest.approx(np.log(100), abs=1e-9)
    assert len(from_base64(lifted.lifts)) == 5
    ruled({})


def score_of(event: Decision, item_id: str) -> float:
    return float(from_base64(event.candidates.scores)[event.candidates.item_ids.index(item_id)])


def test_a_rule_holds_between_its_times_and_not_outside_of_them() -> None:
    for begins, ends, holds in (
        (None, None, True),
        (NOW, NOW + 1, True),
        (NOW + 1, None, False),
        (None, NOW, False),
    ):
        live = ruled({"soon": Rule("hide", "price < 10", starts_at=begins, ends_at=ends)})
        assert (not set(shown(live, call("u1", SubjectRecord(), k=20))) & ids(range(10))) == holds
    ruled({})


# -- pins


WISHES = st.fixed_dictionaries(
    {
        "pins": st.lists(
            st.tuples(st.integers(0, ITEMS - 1), st.integers(0, 9)), max_size=4, unique_by=lambda p: p[0]
        ),
        "scheme": st.sampled_from(["greedy", "epsilon", "softmax", "optimistic", "squarecb"]),
        "mode": st.sampled_from(["every_slot", "single_slot"]),
        "cap": st.integers(0, 4),
        "diversity": st.sampled_from([0.0, 2.0]),
        "boost": st.sampled_from([None, 4.0]),
        "number": st.integers(1, 2**40),
    }
)


@settings(max_examples=80, deadline=None)
@given(WISHES)
def test_slates_with_pins_and_boosts_replay_and_their_propensities_recompute_from_the_log_alone(
    wished: dict[str, Any],
) -> None:
    rules = {f"pin{n}": Rule("pin", item_id=f"i{n}", position=at) for n, at in wished["pins"]}
    if wished["boost"]:
        rules["up"] = Rule("boost", "price > 30", wished["boost"])
    live = ruled(rules, scheme=wished["scheme"], mode=wished["mode"], rate=0.3, floor=0.0005)
    live.put_control(
        "ranking/home", encode(Rankings(category_cap=wished["cap"], diversity=wished["diversity"]))
    )
    event = logged(live, call("u1", SubjectRecord(), k=8, number=wished["number"]))
    problem, law, drawn = problem_of(event), law_of(event), drawn_slots(event)
    indices = slots_of(event)[drawn]
    again = draw_slate(problem, law, event.seed)
    assert again.indices.tolist() == indices.tolist()
    wanted = [event.slots[n].propensity for n in drawn]
    np.testing.assert_allclose(slate_propensities(problem, indices, law), wanted, rtol=0, atol=1e-12)
    pinned = {slot.item_id for slot in event.slots if slot.flag == "pinned"}
    assert pinned == ids(n for n, at in wished["pins"] if at < 8)
    assert all(slot.propensity == 1.0 for slot in event.slots if slot.flag)
    assert len({slot.item_id for slot in event.slots}) == len(event.slots)
    keep(event)
    coins = coins_of(event)
    if coins is not None and not coins.single:
        assert coins.tossed == len(drawn)


def test_a_pin_stands_where_it_was_put_and_a_taken_place_gives_the_next_one() -> None:
    live = ruled(
        {"one": Rule("pin", item_id="i40", position=3), "two": Rule("pin", item_id="i41", position=3)}
    )
    slate = shown(live, call("u1", SubjectRecord(), k=6, pin=[Pin("i50", 0)]))
    assert (slate[0], slate[3], slate[4]) == ("i50", "i40", "i41")
    assert slate[1:3] == shown(ruled({}), call("u1", SubjectRecord(), k=6))[:2]


@given(st.integers(0, 12), st.lists(st.integers(0, 49), max_size=6))
def test_interleaving_keeps_everybody_once_and_what_was_drawn_in_order(drawn: int, pins: list[int]) -> None:
    order = interleaved(drawn, pins).tolist()
    assert sorted(order) == list(range(drawn + len(pins)))
    assert [n for n in order if n < drawn] == list(range(drawn))
    for n, position in enumerate(pins):
        if position < drawn + len(pins) and position not in pins[:n] and len(set(pins)) == len(pins):
            taken = [at for at in pins if at >= drawn + len(pins)]
            assert taken or order[position] == drawn + n


def test_pins_of_what_may_not_be_shown_are_not_shown() -> None:
    pins = {f"pin{n}": Rule("pin", item_id=f"i{n}", position=n % 5) for n in range(6)}
    pins["gone"] = Rule("pin", item_id="never-heard-of", position=0)
    live = ruled({**pins, "no": Rule("hide", "price == 5")}, shop())
    live.apply_items(ItemFeed([("i0", None)]))
    live.put_item(encode(item(1, available=False)))
    record = SubjectRecord(hidden=["i2"])
    record.mark_seen("i3", NOW - 1_000, 100)
    event = logged(live, call("u1", record, exclude=["i4"], k=10))
    assert not {slot.item_id for slot in event.slots} & ids(range(6))
    assert {slot.flag for slot in event.slots} == {""}
    last = [one.item_id for one in static_items(live, call("u1", record, k=50), [f"i{n}" for n in range(9)])]
    assert len(last) == len(set(last)) == 50
    assert set(last) & ids(range(9)) == {"i4", "i6", "i7", "i8"}


def test_the_hold_out_sees_what_is_hidden_hidden_but_no_pins_and_no_boosts() -> None:
    rules = {
        "pin": Rule("pin", item_id="i40", position=0),
        "up": Rule("boost", "price > 50", 100.0),
        "no": Rule("hide", "price < 5"),
    }
    event = logged(ruled(rules), call("u1", SubjectRecord(), k=5, holdout=1.0))
    assert [slot.item_id for slot in event.slots] == ["i5", "i6", "i7", "i8", "i9"]
    assert {slot.flag for slot in event.slots} == {"holdout"}
    ruled({})


# -- pages


def test_further_pages_go_on_and_repeat_nothing() -> None:
    live, pages = ruled({}, scheme="softmax", temperature=1.0), Pages(b"a secret of the tests")
    token: str | None = FIRST
    met: list[str] = []
    for page in range(6):
        earlier = pages.read(token, "home", "u1")
        asked = call("u1", World().record("u1") if page > 8 else None, k=10, number=page + 1)
        asked = type(asked)(
            asked.request, "u1", asked.record, asked.decision_id, NOW, 5, 0.0, earlier=earlier
        )
        event = logged(live, asked)
        assert event.before == len(met)
        met += [slot.item_id for slot in event.slots]
        position = from_base64(event.features).reshape(len(event.slots), -1)[
            :, live.registry.place("position")
        ]
        np.testing.assert_allclose(position, np.log1p(event.before + np.arange(len(event.slots))))
        if page:
            why = item_why(event, met[0], live.registry, is_known=True)
            assert (why.verdict, why.reason) == ("filtered", "earlier_page")
        token = pages.token(live.items.hashes[live.items.rows(met)], "home", "u1")
    assert len(met) == len(set(met)) == ITEMS


def test_a_page_token_of_others_or_none_at_all_is_refused() -> None:
    pages, hashes = Pages(b"a secret of the tests"), np.arange(1, 6, dtype=np.uint64)
    token = pages.token(hashes, "home", "u1")
    assert token is not None
    np.testing.assert_array_equal(pages.read(token, "home", "u1"), hashes)
    for wrong, surface, subject in (
        (token, "cart", "u1"),
        (token, "home", "u2"),
        (token[:-4] + "AAAA", "home", "u1"),
        ("nonsense", "home", "u1"),
        ("é" * 20, "home", "u1"),
    ):
        with pytest.raises(Refusal, match="bad_page"):
            pages.read(wrong, surface, subject)
    with pytest.raises(Refusal, match="bad_page"):
        Pages(b"another secret of tests").read(token, "home", "u1")
    assert pages.token(np.zeros(MOST, np.uint64), "home", "u1") is None
    assert len(pages.read(None, "home", "u1")) == len(pages.read(FIRST, "home", "u1")) == 0


# -- documents


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({"action": "boost", "where": "a == 1"}, "rules.one.factor"),
        ({"action": "boost", "factor": 2.0}, "rules.one.where"),
        ({"action": "boost", "where": "a ==", "factor": 2.0}, "rules.one.where"),
        ({"action": "boost", "where": "a == 1", "factor": 0.5}, "factor"),
        ({"action": "pin", "item_id": "i1"}, "rules.one.position"),
        ({"action": "pin", "item_id": "i1", "position": 2, "where": "a == 1"}, "rules.one.where"),
        ({"action": "hide", "where": "a == 1", "factor": 2.0}, "rules.one.factor"),
        ({"action": "hide", "where": "a == 1", "starts_at": NOW, "ends_at": NOW}, "rules.one.ends_at"),
        ({"action": "explode", "where": "a == 1"}, "action"),
    ],
)
def test_a_rule_that_says_too_little_too_much_or_nonsense_is_refused_by_its_field(
    rule: dict[str, Any], field: str
) -> None:
    with pytest.raises(Refusal, match=field):
        read_document("rules/home", {"rules": {"one": rule}})


def test_so_many_rules_and_no_more_hide_or_pin() -> None:
    for action, most, rest in (
        ("hide", 26, {"where": "a == 1"}),
        ("pin", 10, {"item_id": "i", "position": 0}),
    ):
        rules = {f"r{n}": {"action": action, **rest} for n in range(most)}
        read_document("rules/home", {"rules": rules})
        with pytest.raises(Refusal, match=f"at most {most}"):
            read_document("rules/home", {"rules": {**rules, "one-more": {"action": action, **rest}}})
