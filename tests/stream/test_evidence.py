"""What lanes keep for previews and the scoreboard: exact sums, bounded, the same through restarts."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bandits.ope.shadow import ShadowEvaluation
from online_models.ranking import ranking_registry
from state.events import NEW_SOURCE, Coins, Outcome, OutcomeSlot, Slot, Versions
from state.evidence import HOUR_MS, Cell, decode_cells, sight_of
from state.exploration import DEEPEST
from state.keys import unit_prefix
from state.outbox import NUMBER_HEADER, SOURCE_HEADER
from state.packing import to_base64, unpack_arrays
from state.retention import EVIDENCE_CELLS, EVIDENCE_HOURS, SHADOW_SILENT_MS
from stream import scoreboard
from stream.effects import Place
from stream.kept import coins_of
from stream.lane import LaneLogic
from stream.rows import Row
from tests.stream.folding import AT, Folded, Store, decision, decision_event, impression, row, shard

REGISTRY = ranking_registry()
LANE = Place(unit_prefix("hw", "m0"), "m0", 0)


def lane(store: Store | None = None) -> Folded:
    return Folded(LaneLogic(LANE, REGISTRY), store)


def outcome(number: int, clicks: int = 0, **more: Any) -> Row:
    """A closed decision of three slots, the first of which were clicked."""
    plain = [OutcomeSlot(f"i{n}", n, float(n < clicks), 0.5) for n in range(3)]
    slots = more.pop("slots", plain)
    exploration = more.pop("exploration", 1)
    event = Outcome(
        event_id=f"d{number}", occurred_at=AT, subject="u1", surface=more.pop("surface", "home"), lane=0,
        shown_at=more.pop("shown_at", AT), slots=slots, features=to_base64(np.zeros((3, len(REGISTRY)))),
        logits=to_base64(np.zeros(3)), versions=Versions("p", 1, exploration, REGISTRY.fingerprint()), **more,
    )  # fmt: skip
    headers = [(SOURCE_HEADER, b"0"), (NUMBER_HEADER, str(number).encode())]
    return row("outcomes", event, headers=headers)


def cells(folded: Folded, surface: str = "home", hour: int = AT // HOUR_MS) -> list[Cell]:
    return decode_cells(folded.hash("evidence")[f"{surface}:{hour}".encode()])


def test_slates_are_summed_by_hour_segment_rate_and_explored_slots() -> None:
    folded = lane()
    coins = Coins(0.05, 3, 1)
    folded.fold(
        [
            outcome(1, 2, coins=coins),
            outcome(2, 1, coins=coins),
            outcome(3, 0, coins=replace(coins, explored=0)),
            outcome(4, 1, coins=replace(coins, segment="new")),
            outcome(5, 1, coins=replace(coins, rate=0.1)),
            outcome(6, 1, coins=Coins(0.05, 1, 1, single=True)),
            outcome(7, 1, coins=coins, shown_at=AT + HOUR_MS),
            outcome(8, 1, coins=coins, surface="cart"),
            outcome(9, 1),
        ],
        AT,
    )
    assert cells(folded) == [
        Cell("", 0.05, False, [1, 2, 0, 0], [0.0, 3.0, 0.0, 0.0], [0.0, 5.0, 0.0, 0.0]),
        Cell("", 0.05, True, [0, 1], [0.0, 1.0], [0.0, 1.0]),
        Cell("", 0.1, False, [0, 1, 0, 0], [0.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]),
        Cell("new", 0.05, False, [0, 1, 0, 0], [0.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]),
    ]
    assert len(folded.hash("evidence")) == 3


@given(cuts=st.lists(st.integers(1, 4), min_size=1, max_size=8), restarts=st.sets(st.integers(0, 7)))
def test_sums_do_not_depend_on_batches_or_restarts(cuts: list[int], restarts: set[int]) -> None:
    rng = np.random.default_rng(3)
    rows = [
        outcome(n, int(rng.integers(0, 4)), coins=Coins(0.05, 3, int(rng.integers(0, 3))),
                shadows={"wide@1": to_base64(rng.random(3) * 2)})
        for n in range(1, 33)
    ]  # fmt: skip
    whole, pieces, store = lane(), lane(), Store()
    whole.fold(rows, AT)
    pieces = lane(store)
    while rows:
        for place, cut in enumerate(cuts):
            if place in restarts:
                pieces = lane(store)
            if rows[:cut]:
                pieces.fold(rows[:cut], AT)
            rows = rows[cut:]
    for family in ("evidence", "scoreboard"):
        assert whole.hash(family) == pieces.hash(family)


def test_impressions_of_new_items_are_counted_by_why_they_were_shown() -> None:
    folded = lane()
    folded.fold([outcome(n, coins=Coins(0.05, 3, 1, fresh=1, fresh_else=2)) for n in (1, 2)], AT)
    assert [(cell.fresh, cell.fresh_else) for cell in cells(folded)] == [(2, 4)]


def test_hours_are_dropped_when_they_are_over_for_a_week() -> None:
    folded = lane()
    folded.fold([outcome(1, coins=Coins(0.05, 3))], AT)
    later = AT + (EVIDENCE_HOURS + 1) * HOUR_MS
    folded.fold([outcome(2, coins=Coins(0.05, 3), shown_at=later)], later)
    assert list(folded.hash("evidence")) == [f"home:{later // HOUR_MS}".encode()]


def test_what_finds_no_room_in_an_hour_is_counted() -> None:
    folded = lane()
    rows = [outcome(n, coins=Coins(n / 10_000, 3)) for n in range(1, EVIDENCE_CELLS + 4)]
    folded.fold(rows, AT)
    assert len(cells(folded)) == EVIDENCE_CELLS
    assert folded.count("evidence.no_room") == 3


def seen(folded: Folded, field: str = "home:wide@1") -> tuple[Any, ShadowEvaluation]:
    arrays, document = unpack_arrays(folded.hash("scoreboard")[field.encode()])
    return sight_of(document), ShadowEvaluation.restore(arrays)


def shadowed(number: int, clicks: int, weights: list[float], version: int = 1, **more: Any) -> Row:
    return outcome(number, clicks, shadows={f"wide@{version}": to_base64(np.array(weights))}, **more)


def test_a_shadow_is_worth_what_its_weights_say_beside_what_was_served() -> None:
    folded = lane()
    rows = [shadowed(1, 1, [2.0, 2.0, 2.0]), shadowed(2, 2, [0.5, 0.25, 0.0], shown_at=AT + 5)]
    folded.fold(rows, AT)
    sight, sums = seen(folded)
    told = sums.standing()
    assert (sums.n, sight.version, sight.exploration, sight.since, sight.until) == (2, 1, 1, AT, AT + 5)
    assert told.live.value == pytest.approx(1.5)
    assert told.shadow.value == pytest.approx((2.0 + 0.75) / (2.0 + 0.25))
    assert told.lift.value == pytest.approx(told.shadow.value - 1.5)


ONE = [1.0, 1.0, 1.0]


def test_what_was_pinned_counts_neither_for_previews_nor_for_shadows() -> None:
    def told(*flagged: str) -> tuple[list[float], float]:
        folded = lane()
        slots = [OutcomeSlot(f"i{n}", n, 1.0, 0.5, flag=flag) for n, flag in enumerate(flagged)]
        shadows = {"wide@1": to_base64(np.array([2.0, 2.0, 2.0]))}
        folded.fold([outcome(1, coins=Coins(0.05, 2, 1), slots=slots, shadows=shadows)], AT)
        return cells(folded)[0].sums, seen(folded)[1].standing().live.value

    assert told("", "pinned", "") == ([0.0, 2.0, 0.0], 2.0)
    assert told("", "", "") == ([0.0, 3.0, 0.0], 3.0)


def test_a_new_version_of_a_shadow_begins_anew_and_old_outcomes_do_not_return() -> None:
    folded = lane()
    folded.fold([shadowed(1, 1, ONE), shadowed(2, 1, ONE), shadowed(3, 1, ONE, exploration=2)], AT)
    folded.fold([shadowed(4, 1, ONE, version=2)], AT)
    assert list(folded.hash("scoreboard")) == [b"home:wide@1"]
    assert (seen(folded)[1].n, seen(folded)[0].version) == (1, 2)
    folded.fold([shadowed(5, 1, ONE, exploration=2)], AT)
    assert folded.count("scoreboard.outdated") == 1


@pytest.mark.parametrize("restarts", [False, True])
def test_sums_go_on_when_a_change_of_exploration_for_a_time_has_ended(*, restarts: bool) -> None:
    folded = lane()
    for number, exploration in enumerate((1, 1, 2, 2, 2, 1), 1):
        folded.fold([shadowed(number, 1, ONE, exploration=exploration, shown_at=AT + number)], AT)
        folded = lane(folded.store) if restarts else folded
    (one, whole), (other, part) = seen(folded), seen(folded, "home:wide@2")
    assert (whole.n, one.versions, one.since, one.until) == (3, (1, 1), AT + 1, AT + 6)
    assert (part.n, other.versions) == (3, (1, 2))
    assert folded.count("scoreboard.outdated") == 0


def test_a_shadow_is_kept_beside_no_more_explorations_than_can_come_back() -> None:
    folded = lane()
    for number in range(1, DEEPEST + 4):
        folded.fold([shadowed(number, 1, ONE, exploration=number, shown_at=AT + number)], AT)
    kept = {f"home:wide@{number}".encode() for number in range(3, DEEPEST + 4)}
    assert set(folded.hash("scoreboard")) == kept


def named(number: int, shadow: str, **more: Any) -> Row:
    return outcome(number, shadows={f"{shadow}@1": to_base64(np.ones(3))}, **more)


@pytest.mark.parametrize("restarts", [False, True])
def test_shadows_long_silent_make_room_and_others_keep_theirs(
    monkeypatch: pytest.MonkeyPatch, *, restarts: bool
) -> None:
    monkeypatch.setattr(scoreboard, "SHADOWS_CAP", 2)
    folded, later = lane(), AT + SHADOW_SILENT_MS
    for number, (shadow, at) in enumerate([("a", AT), ("b", AT + 1), ("c", later - 1), ("d", later)], 1):
        folded.fold([named(number, shadow, shown_at=at)], AT)
        folded = lane(folded.store) if restarts else folded
    assert set(folded.hash("scoreboard")) == {b"home:b@1", b"home:d@1"}
    assert folded.count("scoreboard.no_room") == 1


def test_sums_of_a_release_before_go_on_under_their_new_name() -> None:
    folded = lane()
    folded.fold([shadowed(1, 1, ONE)], AT)
    held = folded.store.hashes[f"{LANE.prefix}scoreboard"]
    held[b"home:wide"] = held.pop(b"home:wide@1")
    folded = lane(folded.store)
    folded.fold([shadowed(2, 1, ONE)], AT)
    assert list(folded.hash("scoreboard")) == [b"home:wide@1"]
    assert seen(folded)[1].n == 2


def slots(*explored: bool, flag: Any = "", eligible: int = 20, source: str = "") -> list[Slot]:
    return [Slot(f"i{n}", 0.5, eligible, one, source, flag) for n, one in enumerate(explored)]


def law(**changes: Any) -> dict[str, Any]:
    return {"scheme": "epsilon", "rate": 0.05, "floor": 0.0, **changes}


@pytest.mark.parametrize(
    ("drawn", "exploration", "wished"),
    [
        (slots(True, False, True), law(), Coins(0.05, 3, 2)),
        (slots(False, False), law(scheme="greedy"), Coins(0.0, 2, 0)),
        (slots(False, True), law(mode="single_slot"), Coins(0.05, 1, 1, single=True)),
        (slots(True, flag="holdout"), law(), None),
        (slots(True, flag="fallback"), law(), None),
        (slots(True) + slots(False, flag="pinned"), law(), Coins(0.05, 1, 1)),
        (slots(False, flag="pinned"), law(), None),
        (slots(True, eligible=20), law(floor=0.002), Coins(0.05, 1, 1)),
        (slots(True, eligible=30), law(floor=0.002), None),
        (slots(True, eligible=20), law(floor=0.002, mode="single_slot"), Coins(0.05, 1, 1, single=True)),
        (slots(True, False, eligible=20), law(floor=0.002, mode="single_slot"), None),
        (
            slots(True, False, False, source=NEW_SOURCE) + slots(True),
            law(),
            Coins(0.05, 4, 2, fresh=1, fresh_else=2),
        ),
    ],
)
def test_coins_are_told_where_all_slots_tossed_the_same(
    drawn: list[Slot], exploration: dict[str, Any], wished: Coins | None
) -> None:
    event = replace(decision_event(), slots=drawn, exploration=exploration)
    assert coins_of(event) == wished


def test_an_outcome_tells_how_its_decision_explored_and_what_shadows_say() -> None:
    folded, packed = shard(), to_base64(np.ones(3))
    folded.fold([decision(exploration=law(), shadows={"wide@3": packed}), impression(decision=1)], AT)
    folded.fold([], AT + 10**9)
    (closed,) = folded.outcomes()
    assert closed.coins == Coins(0.05, 3, 0)
    assert closed.shadows == {"wide@3": packed}
