"""Exploration as it is served: segments, what new items are owed, budgets; every propensity from the log."""

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.slates import slate_propensities
from serving import relaw
from serving.aiming import aim_at
from serving.decide import decide, to_event
from serving.exploring import Laws
from serving.live import LiveState
from serving.newcomers import Owed
from state.decoding import decode_event
from state.events import Decision, encode
from state.exploration import Explorations, Guardrail, Quota, Segment
from state.exploring import STRETCH_MS, Progress, Stretch
from state.feed import ExploringFeed
from tests.serving.world import NOW, World, call, empty, item

WORLD = World()
HOUR_MS = 3_600_000
NEW = tuple(range(900, 930))
PHONES = Segment(name="phones", when={"device": "phone"}, rate=0.4, scheme="softmax", floor=0.004)
FRESH = Segment(name="fresh", when={"visitor": "new"}, multiplier=2.0)


def live_with(news: int = len(NEW), **document: Any) -> LiveState:
    """Return a live state with old items of the world and some published an hour ago."""
    live = WORLD.by_load()
    live.items.published_at[:] -= 1_000 * HOUR_MS
    for number in NEW[:news]:
        live.put_item(encode(item(number, published_at=NOW - HOUR_MS - number)))
    live.put_control("exploration/home", encode(Explorations(**{"rate": 0.2, **document})))
    return live


LIVE = live_with()


def logged(live: LiveState, number: int = 1, user: str = "u1", **request: Any) -> Decision:
    """Decide, log, and read the log back as the stream does."""
    asked = call(user, WORLD.record(user), number=number, **request)
    decided = decide(live, asked)
    assert decided is not None
    event = decode_event("decisions", encode(to_event(live, asked, decided)), received_at=NOW)
    assert isinstance(event, Decision)
    return event


def told(live: LiveState, shard: int = 0, **given: Any) -> None:
    live.ledger.apply(shard, ExploringFeed(**given))


def test_the_first_segment_that_fits_says_how_a_visitor_is_explored() -> None:
    laws = Laws(Explorations(rate=0.1, segments=[PHONES, FRESH], rate_cap=0.15))
    new_phone = laws.of({"visitor": "new", "device": "phone"})
    assert (new_phone.segment, new_phone.law.rate, new_phone.law.scheme) == ("phones", 0.15, "softmax")
    fresh = laws.of({"visitor": "new"})
    assert (fresh.segment, fresh.law.rate, fresh.law.scheme) == ("fresh", 0.15, "epsilon")
    nobody = laws.of({"visitor": "returning", "device": "desk"})
    assert (nobody.segment, nobody.law.rate) == ("", 0.1)


def test_a_temporary_document_gives_way_at_its_time() -> None:
    before = Explorations(rate=0.1, version=1)
    laws = Laws(Explorations(rate=0.2, version=2, until=NOW, before=before))
    assert (laws.at(NOW - 1).document.version, laws.at(NOW).document.version) == (2, 1)


def test_the_kill_switch_to_fallback_serves_the_trend_and_teaches_nothing() -> None:
    event = logged(live_with(scheme="fallback"))
    assert {(slot.flag, slot.propensity, slot.explored) for slot in event.slots} == {("fallback", 1.0, False)}
    assert (event.rung, event.versions.policy) == ("trend", "fallback-trend")


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["epsilon", "softmax", "optimistic", "squarecb", "greedy"]),
    st.floats(0, 0.5),
    st.floats(0, 0.01),
    st.sampled_from(["every_slot", "single_slot"]),
    st.sampled_from([{}, {"device": "phone"}]),
    st.integers(1, 30),
)
def test_with_deficits_floors_and_segments_every_propensity_recomputes_from_the_log(
    scheme: str, rate: float, floor: float, mode: str, context: dict[str, str], number: int
) -> None:
    live = LIVE
    document = Explorations(scheme=scheme, rate=rate, floor=floor, mode=mode, segments=[PHONES, FRESH])  # type: ignore[arg-type]
    live.put_control("exploration/home", encode(document))
    told(live, newcomers=[(f"home:i{NEW[0]}", Progress(pending=3, shown=4))])
    event = logged(live, number, context=context)
    assert event.aimed is not None
    assert event.segment == ("phones" if context else "")
    got = slate_propensities(relaw.problem_of(event), relaw.slots_of(event), relaw.law_of(event))
    np.testing.assert_allclose(got, [slot.propensity for slot in event.slots], rtol=0, atol=1e-12)


def test_an_item_is_owed_until_it_has_its_impressions_or_its_time_is_up() -> None:
    live = live_with(3, quota=Quota(impressions=10, hours=2.0))
    first, second, third = (f"home:i{number}" for number in NEW[:3])
    told(live, 0, newcomers=[(first, Progress(shown=6)), (second, Progress(shown=9))])
    told(live, 1, newcomers=[(first, Progress(pending=4))])
    document = live.laws("home", NOW).document
    owed = live.ledger.owed("home", document, NOW)
    deficits = {live.items.ids[row]: owed.deficits[row] for row in owed.rows.tolist()}
    assert deficits == {f"i{NEW[1]}": 1.0, f"i{NEW[2]}": 10.0}
    assert third.endswith(f"i{NEW[2]}")
    assert not len(live.ledger.owed("home", document, NOW + 2 * HOUR_MS).rows)


def test_slots_of_items_that_are_owed_are_marked() -> None:
    live = live_with(scheme="epsilon", rate=0.5)
    slots = [slot for number in range(30) for slot in logged(live, number).slots]
    marked = {slot.item_id for slot in slots if slot.new}
    assert marked
    assert marked <= {f"i{number}" for number in NEW}
    assert not {slot.item_id for slot in slots if not slot.new} & {f"i{number}" for number in NEW}


def test_every_new_item_is_met_by_some_request_however_many_there_are() -> None:
    live = live_with()
    owed = live.ledger.owed("home", live.laws("home", NOW).document, NOW)
    met = Counter(row for turn in range(len(NEW)) for row in owed.window(turn).tolist())
    assert len(owed.window(7)) == 10
    assert set(met.values()) == {10}


@given(st.lists(st.integers(0, 99), unique=True), st.integers(0, 2**62), st.integers(11, 60))
def test_a_window_and_whom_exploration_aims_at_are_told_from_rows_alone(
    rows: list[int], turn: int, count: int
) -> None:
    deficits = np.append(np.arange(1.0, count + 1), 0.0)
    owed = Owed(NOW, deficits, np.arange(count)[::-1].copy())
    window, candidates = owed.window(turn), np.array(rows, np.int64)
    assert window.tolist() == [owed.rows[(turn + place) % count] for place in range(10)]
    assert owed.of(candidates).tolist() == [row + 1.0 if row < count else 0.0 for row in rows]
    wished = [row + 1.0 if row in window.tolist() else 0.0 for row in rows]
    aim = aim_at(owed, window, candidates)
    assert (aim is None and not any(wished)) or (aim is not None and aim.tolist() == wished)


def stretches(explored: int, exploited: float, back: int = 0) -> list[tuple[str, int, Stretch]]:
    """Return one stretch in which explored slots earned nothing and 1,000 others a share."""
    done = Stretch(1000 + explored, explored, 1000, 1000 * exploited, explored, 0.0)
    return [("home", NOW // STRETCH_MS - back, done)]


def test_a_spent_budget_takes_exploration_down_to_the_floor_and_time_brings_it_back() -> None:
    live = live_with(rate=0.2, floor=0.001, cost_per_hour=10.0)
    assert logged(live).exploration["rate"] == 0.2
    told(live, stretches=stretches(500, 0.1))
    live.ledger._allowed.clear()
    event = logged(live)
    assert (event.exploration["rate"], event.held_back) == (0.0, True)
    got = slate_propensities(relaw.problem_of(event), relaw.slots_of(event), relaw.law_of(event))
    np.testing.assert_allclose(got, [slot.propensity for slot in event.slots], rtol=0, atol=1e-12)
    document = live.laws("home", NOW).document
    shares = [live.ledger.allowed("home", document, None, NOW + hours * HOUR_MS) for hours in (0, 1, 2, 3)]
    assert shares[0] == 0.0
    assert shares[1:] == sorted(shares[1:])
    assert shares[-1] == 1.0


def test_the_budget_of_all_surfaces_counts_what_each_of_them_costs() -> None:
    live = live_with()
    document = live.laws("home", NOW).document
    told(live, stretches=[("cart", *one[1:]) for one in stretches(500, 0.1)])
    assert live.ledger.allowed("home", document, 10.0, NOW) == 0.0
    live.ledger._allowed.clear()
    assert live.ledger.allowed("home", document, 1000.0, NOW) == 1.0


def test_servers_that_followed_and_servers_that_loaded_agree() -> None:
    followed, loaded = empty(), empty()
    progress, spent = Progress(pending=1, shown=5, reward=2.0), Stretch(10, 5, 5, 1.0, 5, 0.0)
    number = NOW // STRETCH_MS
    told(followed, newcomers=[("home:a", Progress(shown=1))], stretches=[("home", number, Stretch(5, 2))])
    told(
        followed, newcomers=[("home:a", progress), ("home:b", progress)], stretches=[("home", number, spent)]
    )
    told(followed, dropped=["home:b"])
    loaded.ledger.load(0, {"home:a": progress}, {"home": {number: spent}})
    for live in (followed, loaded):
        assert live.ledger.progress("home", "a") == [progress]
        assert live.ledger.progress("home", "b") == []
    assert followed.ledger.spent("home", NOW) == loaded.ledger.spent("home", NOW) > 0


def test_guardrails_are_part_of_a_document() -> None:
    document = Explorations(guardrails=[Guardrail(metric="reward", worse_by=0.1)])
    assert encode(document)


def test_served_exploration_brings_new_items_to_their_quota_where_uniform_exploration_does_not() -> None:
    reached = {}
    for name, quota in (("owed", Quota(impressions=10)), ("uniform", None)):
        live = live_with(12, scheme="epsilon", rate=0.05, quota=quota)
        shown: Counter[str] = Counter()
        for number in range(400):  # 200 explored slots, for 12 items that are owed 10 each
            event = logged(live, number, user=f"u{number % 40}")
            met = [slot.item_id for slot in event.slots]
            shown.update(met)
            fields = [(f"home:{one}", Progress(shown=shown[one])) for one in met]
            told(live, newcomers=fields)
            live.ledger._owed.clear()
        reached[name] = np.mean([shown[f"i{number}"] >= 10 for number in NEW[:12]])
    assert reached["owed"] >= 0.9
    assert reached["uniform"] < reached["owed"]
