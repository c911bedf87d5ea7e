"""Surfaces have rules and counts of their own; what is told twice, too late or of nothing is only counted."""

from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from headwater.attribution import table
from state.attributed import KINDS_OF_COUNT, NO_SURFACE, OTHER_SURFACES, AttributionCounts, SurfaceCounts
from state.events import Outcome
from state.marks import content_mark
from state.packing import unpack_vector
from state.rules import SurfaceRules
from stream.lessons import lesson_of
from stream.rows import Row
from stream.surface_metrics import SurfaceCollector
from stream.surfaces import MAX_SURFACES, SurfaceCounters
from tests.stream.folding import (
    AT,
    DIMS,
    Folded,
    click,
    decision,
    feedback,
    impression,
    profile,
    row,
    shard,
    unsealed,
)

WINDOW, WAIT = 600_000, 600_000
OVER = AT + 10**7
SUM = SurfaceRules(rewards="sum", cap=2.0, default_reward=0.25)


def counts(folded: Folded) -> dict[str, int]:
    return {name.decode(): int(value) for name, value in folded.hash("attribution").items() if int(value)}


def renamed(one: Row, **changes: Any) -> Row:
    """Return an event told again under another id."""
    assert one.event is not None
    return row(one.kind, msgspec.structs.replace(one.event, **{"event_id": "a retry", **changes}))


def rewards(folded: Folded) -> list[tuple[str, int, float, bool]]:
    (outcome,) = folded.outcomes()
    return [(slot.item_id, slot.position, slot.reward, slot.defaulted) for slot in outcome.slots]


TOLD = [impression(decision=1), click("b", decision=1), feedback("like", "b", value=2.0, decision=1)]


@pytest.mark.parametrize("told", TOLD, ids=lambda one: one.kind)
def test_a_retry_under_another_event_id_is_folded_once_and_counted(told: Row) -> None:
    once, twice = shard(), shard()
    once.fold([decision(), told], AT)
    twice.fold([decision(), told, renamed(told)], AT)
    twice.fold([renamed(told, event_id="another retry")], AT)
    assert (twice.count(told.kind), twice.count(f"{told.kind}.duplicate")) == (1, 2)
    record = twice.record("u1")
    assert msgspec.structs.replace(record, applied=b"") == msgspec.structs.replace(
        once.record("u1"), applied=b""
    )
    assert record.has_applied("a retry"), "who waits for the retry waits for what it says"
    once.fold([], OVER)
    twice.fold([], OVER)
    assert [m.value for m in twice.messages("outcomes")] == [m.value for m in once.messages("outcomes")]


@pytest.mark.parametrize(
    "changes",
    [{"occurred_at": AT + 1001}, {"item_id": "c"}, {"session_id": "s2"}, {"surface": "home"},
     {"decision": None}, {"kind": "purchase"}, {"value": 3.0}],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_what_says_something_else_is_no_retry(changes: dict[str, Any]) -> None:
    folded = shard()
    told = feedback("like", "b", value=2.0, decision=1)
    folded.fold([told, renamed(told, **changes)], AT)
    assert (folded.count("feedback"), folded.count("feedback.duplicate")) == (2, 0)


def test_a_click_and_feedback_of_one_moment_are_two_events() -> None:
    folded = shard()
    folded.fold([click("b"), feedback("like", "b")], AT)
    assert (folded.count("clicks"), folded.count("feedback")) == (1, 1)


def test_the_items_of_an_impression_are_told_apart_wherever_their_names_end() -> None:
    marks = {content_mark(impression(items).event) for items in (["ab", "c"], ["a", "bc"], ["abc"])}  # type: ignore[arg-type]
    assert len(marks) == 3


def test_an_item_twice_in_a_slate_and_in_its_impression_is_judged_once_at_its_first_place() -> None:
    folded = shard()
    slate = ["a", "b", "a"]
    folded.fold([decision(slate), impression(slate, decision=1), click("a", decision=1)], AT)
    folded.fold([], OVER)
    assert rewards(folded) == [("a", 0, 1.0, False), ("b", 1, 0.0, False)]


def test_a_surface_has_rules_of_its_own_and_all_others_those_of_the_star() -> None:
    rules = {"cart": SUM, "*": SurfaceRules(rewards="first")}
    earned = {}
    for surface in ("cart", "home"):
        folded = shard(attribution=rules)
        told = [feedback("purchase", "b", at=AT + 2000, decision=1), click("b", decision=1)]
        folded.fold([decision(surface=surface), impression(decision=1), *told], AT)
        folded.fold([], OVER)
        earned[surface] = rewards(folded)
    assert earned["cart"] == [("a", 0, 0.25, True), ("b", 1, 1.0, False), ("c", 2, 0.25, True)]
    assert earned["home"] == [("a", 0, 0.0, False), ("b", 1, 1.0, False), ("c", 2, 0.0, False)]


def test_a_default_reward_teaches_the_policy_and_is_no_click() -> None:
    folded = shard(attribution={"*": SUM})
    folded.fold([decision(), impression(decision=1)], AT)
    folded.fold([], OVER)
    (outcome,) = folded.outcomes()
    clicked = lesson_of([outcome], DIMS[2]).labels.clicks
    assert clicked.tolist() == [0.0, 0.0, 0.0]
    assert (folded.count("rewarded.home"), counts(folded)["defaulted:home"]) == (0, 3)
    plain = shard()
    plain.fold([decision(), impression(decision=1)], AT)
    plain.fold([], OVER)
    learnt, other = (unpack_vector(unsealed(one.hash("bandit")[b"i:a"])) for one in (folded, plain))
    assert learnt.tolist() != other.tolist()


def test_unseen_decisions_are_learnt_from_only_where_the_surface_says_so() -> None:
    rules = {"mail": SurfaceRules(learn_unseen=True)}
    for surface, learns in (("mail", True), ("home", False)):
        folded = shard(attribution=rules)
        folded.fold([decision(surface=surface), click("b", decision=1)], AT)
        folded.fold([], OVER)
        assert bool(folded.hash("bandit")) == learns
        assert [(one.unseen, one.shown_at) for one in folded.outcomes()] == [(True, AT)] * learns
        assert counts(folded) == (
            {"closed:mail": 1, "defaulted:mail": 2, "unseen:mail": 1}
            if learns
            else {"unseen:home": 1, f"unattributed:{NO_SURFACE}": 1}
        )


def test_the_rules_in_force_when_a_decision_closes_count() -> None:
    folded = shard()
    told = [click("b", decision=1), feedback("like", "b", at=AT + 2000, decision=1)]
    folded.fold([decision(), impression(decision=1), *told], AT)
    again = shard(folded.store, attribution={"home": SurfaceRules(rewards="sum", cap=4.0)})
    again.fold([], OVER)
    assert rewards(again)[1] == ("b", 1, 0.5, False)


def test_every_event_is_counted_on_the_surface_it_names() -> None:
    """The example of docs/attribution.md."""
    folded = shard()
    shown = impression(decision=1)
    rewarding = [click("b", decision=1, surface="home"), feedback("purchase", "b", at=AT + 9000, decision=1)]
    folded.fold([decision(), shown, renamed(shown), *rewarding], AT)
    folded.fold([click("c", at=AT + WINDOW + 1, decision=1, surface="home"), click("z")], AT + 30_000)
    folded.fold([click("a", at=AT + 29_999, surface="home"), decision(number=2, at=AT + 30_000)], AT + 30_000)
    assert counts(folded) == {
        "pending:home": 2,
        "duplicate:home": 1,
        "late:home": 1,
        f"unattributed:{NO_SURFACE}": 1,
    }
    folded.fold([], OVER)
    assert counts(folded) == {
        "closed:home": 1,
        "defaulted:home": 2,
        "unseen:home": 1,
        "duplicate:home": 1,
        "late:home": 1,
        "unattributed:home": 1,
        f"unattributed:{NO_SURFACE}": 1,
    }


def test_a_forged_token_is_counted_where_it_was_told_and_a_users_event_nowhere() -> None:
    folded = shard()
    folded.fold([profile(), profile(), renamed(click("b", surface="home"), decision="forged")], AT)
    assert counts(folded) == {"forged:home": 1, "unattributed:home": 1}


def test_an_erasure_leaves_nothing_pending() -> None:
    folded = shard()
    folded.fold([decision(), decision(number=2, user="u2"), profile(at=AT + 1, erase=True)], AT)
    assert counts(folded) == {"pending:home": 1}


def test_invented_surfaces_do_not_fill_the_store() -> None:
    folded = shard()
    for n in range(2 * MAX_SURFACES):
        folded.fold([click("b", at=AT + n, surface=f"s{n}", decision=None)], AT)
    folded.fold([decision(surface="last"), impression(decision=1)], AT)
    assert len(folded.hash("attribution")) <= MAX_SURFACES + 2
    assert (
        counts(folded)[f"unattributed:{OTHER_SURFACES}"],
        counts(folded)[f"pending:{OTHER_SURFACES}"],
    ) == (
        MAX_SURFACES,
        1,
    )
    again = shard(folded.store)
    again.fold([], OVER)
    assert counts(again)[f"closed:{OTHER_SURFACES}"] == 1
    assert f"pending:{OTHER_SURFACES}" not in counts(again)


@pytest.mark.parametrize("name", [NO_SURFACE, OTHER_SURFACES])
def test_no_event_can_name_the_places_of_those_that_name_none(name: str) -> None:
    told = click("b", surface=name)
    assert told.refusal is not None
    assert told.refusal.field == "surface"


def test_every_count_has_a_field_of_its_own_in_what_is_published() -> None:
    counters = SurfaceCounters({})
    for n, kind in enumerate(KINDS_OF_COUNT):
        counters.add(kind, "home", n + 1)
    assert counters.take_moved() == {f"{k}:home": str(n + 1).encode() for n, k in enumerate(KINDS_OF_COUNT)}


def test_an_outcome_without_defaults_is_written_as_before() -> None:
    folded = shard()
    folded.fold([decision(), impression(decision=1)], AT)
    folded.fold([], OVER)
    (message,) = folded.messages("outcomes")
    assert b"defaulted" not in message.value
    assert b"unseen" not in message.value
    assert msgspec.json.decode(message.value, type=Outcome).unseen is False


def test_counts_are_metrics_of_the_worker() -> None:
    folded = shard()
    folded.fold([decision(), impression(decision=1), click("b", surface="home")], AT)
    registry = CollectorRegistry()
    registry.register(SurfaceCollector(lambda: [("3", folded.logic.surfaces.totals)]))  # type: ignore[attr-defined]
    where = {"unit": "3", "surface": "home"}
    assert registry.get_sample_value("headwater_attribution_pending", where) == 1
    assert registry.get_sample_value("headwater_attribution_total", where | {"kind": "unattributed"}) == 1


def test_the_table_has_a_line_for_each_surface_and_one_for_all() -> None:
    home, none = SurfaceCounts(closed=1200, late=3), SurfaceCounts(unattributed=7)
    whole = SurfaceCounts(closed=1200, late=3, unattributed=7)
    lines = table(AttributionCounts({NO_SURFACE: none, "home": home}, whole))
    assert [line.split()[0] for line in lines] == ["surface", "_none", "home", "all"]
    assert lines[0].split()[1:] == list(KINDS_OF_COUNT)
    assert lines[3].split()[1:] == ["1200", "0", "0", "0", "3", "0", "7", "0"]
    assert len({len(line) for line in lines}) == 1
