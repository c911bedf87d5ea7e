"""The decision path: never what must not be shown, never nothing, and every propensity recomputes."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.exploration import Exploration
from bandits.slates import SlateProblem, decision_seed, draw_slate, slate_propensities
from serving import relaw
from serving.candidates import LOGGED_CUTS, SOURCES, retrieve
from serving.decide import POLICY, answer_items, decide, in_holdout, to_event
from serving.last_rung import static_items
from serving.live import LiveState
from serving.sources import LIMIT
from serving.visitor import asked_of
from state.decoding import MAX_BYTES, decode_event
from state.events import Decision, encode
from state.exploration import Explorations
from state.feed import ItemFeed
from state.packing import from_base64
from state.subject import SubjectRecord
from stream.kept import keep
from tests.serving.world import CATEGORIES, NOW, World, call, crowded, empty, item, regular

WORLD = World()
LIVE = WORLD.by_load()
SCHEMES = st.sampled_from(["greedy", "epsilon", "softmax", "optimistic"])
USERS = st.sampled_from([f"u{n}" for n in range(40)])


def logged(live: LiveState, asked: Any) -> Decision:
    """Decide, log, and read the log back as the stream does."""
    decided = decide(live, asked)
    assert decided is not None
    event = decode_event("decisions", encode(to_event(live, asked, decided)), received_at=NOW)
    assert isinstance(event, Decision)
    return event


def explored(live: LiveState, **document: Any) -> LiveState:
    live.put_control("exploration/home", encode(Explorations(**document)))
    return live


def problem_of(event: Decision) -> tuple[SlateProblem, np.ndarray, Exploration]:
    """Rebuild from the logged decision alone what its slate was drawn from."""
    return relaw.problem_of(event), relaw.slots_of(event), relaw.law_of(event)


DOCUMENTS = st.fixed_dictionaries(
    {
        "scheme": SCHEMES,
        "rate": st.floats(0, 0.5),
        "temperature": st.floats(0.01, 2),
        "floor": st.floats(0, 0.01),
    }
)


@settings(max_examples=60, deadline=None)
@given(USERS, DOCUMENTS, st.integers(1, 50), st.sampled_from([0.0, 1.0]))
def test_every_propensity_recomputes_from_the_logged_decision_alone(
    user: str, document: dict[str, Any], k: int, holdout: float
) -> None:
    live = explored(LIVE, **document)
    event = logged(live, call(user, WORLD.record(user), k=k, holdout=holdout, number=k))
    problem, indices, rule = problem_of(event)
    got = slate_propensities(problem, indices, rule)
    np.testing.assert_allclose(got, [slot.propensity for slot in event.slots], rtol=0, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(USERS, SCHEMES, st.integers(1, 2**48))
def test_the_slate_replays_bit_for_bit_from_the_logged_decision(user: str, scheme: str, number: int) -> None:
    live = explored(LIVE, scheme=scheme, rate=0.3)
    event = logged(live, call(user, WORLD.record(user), number=number))
    problem, indices, rule = problem_of(event)
    assert event.seed == decision_seed(event.event_id, "home")
    slate = draw_slate(problem, rule, event.seed)
    assert slate.indices.tolist() == indices.tolist()
    assert slate.propensities.tolist() == [slot.propensity for slot in event.slots]
    assert slate.explored.tolist() == [slot.explored for slot in event.slots]
    assert slate.eligible.tolist() == [slot.eligible for slot in event.slots]


def test_what_is_logged_is_what_was_answered() -> None:
    live, asked = explored(LIVE, rate=0.2), call("u3", WORLD.record("u3"))
    decided = decide(live, asked)
    assert decided is not None
    event = to_event(live, asked, decided)
    shown = answer_items(live, decided)
    assert [one.item_id for one in shown] == [slot.item_id for slot in event.slots]
    assert [one.propensity for one in shown] == [slot.propensity for slot in event.slots]
    assert [one.reason for one in shown] == [SOURCES[slot.source] for slot in event.slots]
    assert [one.position for one in shown] == list(range(10))
    assert event.versions.policy == POLICY
    assert {slot.flag for slot in event.slots} == {""}


def test_a_logged_decision_can_be_learnt_from() -> None:
    event = logged(explored(LIVE), call("u3", WORLD.record("u3")))
    keep(event)
    features = from_base64(event.features).reshape(10, -1)
    np.testing.assert_allclose(features[:, LIVE.registry.place("position")], np.log1p(np.arange(10)))
    logits = from_base64(event.logits)
    features[:, LIVE.registry.place("position")] = 0.0
    np.testing.assert_allclose(LIVE.scorer("home").logits(features), logits, rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    USERS,
    st.lists(st.integers(0, 59), max_size=20, unique=True),
    st.lists(st.integers(0, 59), max_size=10, unique=True),
    st.lists(st.sampled_from(CATEGORIES), max_size=2),
    st.integers(1, 50),
)
def test_what_must_not_be_shown_is_never_retrieved(
    user: str, excluded: list[int], removed: list[int], categories: list[str], k: int
) -> None:
    live, record = WORLD.by_load(), WORLD.record(user)
    live.apply_items(ItemFeed([(f"i{n}", None) for n in removed]))
    wished = call(user, record, k=k, exclude=[f"i{n}" for n in excluded], categories=categories)
    found = retrieve(live, asked_of(live, wished.request, record, user, NOW), k)
    ids = {live.items.ids[row] for row in found.rows.tolist()}
    barred = {*(f"i{n}" for n in excluded + removed), *record.hidden}
    assert not ids & barred
    assert not set(live.items.hashes[found.rows].tolist()) & set(record.seen_rows()["item"].tolist())
    assert live.items.available[found.rows].all()
    assert len(set(found.rows.tolist())) == len(found.rows) == len(found.sources)
    if categories:
        codes = set(live.items.codes_of(categories))
        assert all(codes & set(live.items.codes[row].tolist()) for row in found.rows.tolist())


def test_a_cut_item_is_logged_with_its_reason() -> None:
    live, record = WORLD.by_load(), SubjectRecord(hidden=["i1"])
    record.mark_seen("i2", NOW, 100)
    live.apply_items(ItemFeed([("i4", None)]))
    event = logged(live, call("u1", record, exclude=["i5"], k=5))
    scored = len(from_base64(event.candidates.scores))
    cuts = dict(zip(event.candidates.item_ids[scored:], event.candidates.cuts, strict=True))
    assert {"i1": "h", "i2": "s", "i4": "u", "i5": "x"}.items() <= cuts.items()


@given(st.integers(1, 60), st.integers(1, 50), st.sampled_from([0.0, 1.0]))
@settings(max_examples=30, deadline=None)
def test_an_answer_is_never_empty_while_anything_is_left_to_show(items: int, k: int, holdout: float) -> None:
    live = empty()
    for number in range(items):
        live.put_item(encode(item(number, published_at=None)))
    record = SubjectRecord()
    for number in range(items - 1):
        record.mark_seen(f"i{number}", NOW, 2000)
    decided = decide(live, call("u1", record, k=k, holdout=holdout))
    assert decided is not None
    assert [one.item_id for one in answer_items(live, decided)] == [f"i{items - 1}"]


def test_who_has_seen_all_that_is_popular_or_new_still_gets_a_full_slate() -> None:
    live, record = crowded(items=400), SubjectRecord()
    row_count = len(live.items)
    for row in {*live.items.newest(100).tolist(), *live.trends.top(2, NOW, 250)[0].tolist()}:
        record.mark_seen(live.items.ids[row], NOW, 2000)
    decided = decide(live, call("u1", record, k=50))
    assert decided is not None
    assert len(decided.slate.indices) == min(50, row_count - len(record.seen_rows()))


def test_an_empty_catalogue_gives_nothing() -> None:
    assert decide(empty(), call()) is None


@pytest.mark.parametrize(
    ("record", "flag", "rung"), [(None, "fallback", "trend"), (SubjectRecord(), "", "trend")]
)
def test_a_slate_without_the_subjects_record_is_flagged(
    record: SubjectRecord | None, flag: str, rung: str
) -> None:
    event = logged(explored(LIVE), call("nobody", record))
    assert ({slot.flag for slot in event.slots}, event.rung) == ({flag}, rung)


def test_the_rung_says_what_the_answer_was_made_from() -> None:
    live, known = explored(LIVE), WORLD.record("u3")
    rungs = [
        logged(live, call("u3", known)).rung,
        logged(live, call("u3", None, recent_items=["i1", "i2"])).rung,
        logged(live, call("u3", None, categories=["drama"])).rung,
        logged(live, call("u3", None)).rung,
    ]
    assert rungs == ["personal", "session", "segment", "trend"]


def test_the_hold_out_gets_the_overall_trend_labelled_and_without_exploring() -> None:
    live = explored(crowded(), rate=0.5)
    record = regular(live)
    asked = call("u3", record, holdout=1.0, k=20)
    decided = decide(live, asked)
    assert decided is not None
    assert decided.is_holdout
    event = to_event(live, asked, decided)
    popular = [live.items.ids[int(row)] for row in live.trends.top(2, NOW, 500)[0]]
    wanted = [item_id for item_id in popular if item_id not in record.recent]
    assert [slot.item_id for slot in event.slots] == wanted[:20]
    assert {(slot.flag, slot.propensity, slot.explored) for slot in event.slots} == {("holdout", 1.0, False)}
    assert (event.versions.policy, event.rung, event.exploration["scheme"]) == (
        "holdout-trend",
        "trend",
        "greedy",
    )


def test_the_hold_out_is_a_permanent_share_of_subjects_by_surface() -> None:
    users = [f"u{n}" for n in range(20_000)]
    home = [in_holdout(user, "home", 0.1) for user in users]
    assert home == [in_holdout(user, "home", 0.1) for user in users]
    assert abs(sum(home) / len(users) - 0.1) < 0.01
    cart = [in_holdout(user, "cart", 0.1) for user in users]
    assert abs(sum(h and c for h, c in zip(home, cart, strict=True)) / len(users) - 0.01) < 0.005
    assert not any(in_holdout(user, "home", 0.0) for user in users)
    assert all(in_holdout(user, "home", 1.0) for user in users)


def test_a_new_item_is_a_candidate_even_where_everything_else_fills_the_list() -> None:
    live = crowded()
    for number in range(5):
        live.put_item(encode(item(10_000 + number, published_at=NOW + number)))
    asked = asked_of(live, call("u1").request, regular(live), "u1", NOW)
    found = retrieve(live, asked)
    assert (len(found.rows), set(found.sources)) == (LIMIT, set("nefhct"))
    assert {f"i{10_000 + n}" for n in range(5)} <= {live.items.ids[row] for row in found.rows.tolist()}


def test_a_decision_of_all_the_candidates_there_can_be_takes_eight_and_a_half_kilobytes() -> None:
    live = crowded()
    asked = call("u1", regular(live))
    event = logged(live, asked)
    assert len(from_base64(event.candidates.scores)) == LIMIT
    assert len(encode(event)) <= 8 * 1024


def test_the_longest_decision_is_one_the_stream_takes() -> None:
    long = "x" * 120
    live, record = empty(), SubjectRecord()
    for number in range(1_500):
        live.put_item(encode(item(number, item_id=f"{long}{number}", published_at=NOW - number)))
        live.trends.add(number, NOW, 1.0)
        if number % 2:
            record.mark_seen(f"{long}{number}", NOW, 2000)
    asked = call("u1", record, k=50)
    event = logged(live, asked)
    assert len(encode(event)) <= MAX_BYTES["decisions"]
    assert len(event.candidates.cuts) == LOGGED_CUTS


def test_the_last_rung_shows_nothing_hidden_excluded_or_removed() -> None:
    live = WORLD.by_load()
    live.apply_items(ItemFeed([("i0", None), ("i9", None)]))
    asked = call("u1", SubjectRecord(hidden=["i1"]), exclude=["i2"], k=6)
    slate = static_items(live, asked, ["i8", "i9", "i1"])
    assert [one.item_id for one in slate] == ["i8", "i3", "i4", "i5", "i6", "i7"]
    assert [one.position for one in slate] == list(range(6))


def test_the_last_rung_is_never_empty_while_the_catalogue_is_not() -> None:
    live = WORLD.by_load()
    assert len(static_items(live, call(k=10), [])) == 10
    assert len(static_items(live, call(k=50), ["gone", "i1"])) == 50
    assert static_items(empty(), call(), []) == []


def test_a_request_of_unknown_things_is_answered() -> None:
    wished: dict[str, Any] = {
        "exclude": ["no such item"],
        "recent_items": ["nor this"],
        "categories": ["western"],
    }
    decided = decide(LIVE, call("nobody", SubjectRecord(hidden=["nor that"]), **wished))
    assert decided is not None
    assert len(decided.slate.indices) == 10


def test_a_decision_is_a_function_of_what_was_given() -> None:
    live, asked = explored(LIVE, scheme="softmax", rate=0.3), call("u5", WORLD.record("u5"))
    before = encode(asked.record)
    one, other = logged(live, asked), logged(live, asked)
    assert msgspec.json.encode(one) == msgspec.json.encode(other)
    assert encode(asked.record) == before
