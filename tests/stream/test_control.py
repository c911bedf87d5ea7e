"""Control documents: versions, bounds of steps, temporary changes, going back; the same again in a replay."""

import uuid
from typing import Any

import msgspec
import pytest

from state.events import Control
from state.exploration import Budgets, Explorations, decode_document, in_force
from state.keys import CONTROL, unit_prefix
from state.retention import HISTORY_CAP
from stream.control import ControlLogic
from stream.effects import Place
from stream.rows import Row
from tests.stream.folding import AT, Folded, Store, row

HOME = "exploration/home"
DWELL_MS = 60_000
PLACE = Place(unit_prefix("hw", CONTROL), CONTROL, 0)


def control(store: Store | None = None) -> Folded:
    return Folded(ControlLogic(PLACE, DWELL_MS), store)


def change(at: int, name: str = HOME, **more: Any) -> Row:
    given = {"event_id": uuid.uuid4().hex, "document": {}, "changed_by": "me"}
    return row("control", Control(name=name, occurred_at=AT + at, **(given | more)))


def rated(at: int, rate: float, **more: Any) -> Row:
    return change(at, document={"rate": rate, **more.pop("settings", {})}, **more)


def current(folded: Folded, name: str = HOME) -> Any:
    return decode_document(name, folded.hash("control")[name.encode()])


def reasons(folded: Folded) -> list[str]:
    return [letter.reason for letter in folded.letters()]


def test_a_version_knows_who_when_why_and_its_change() -> None:
    folded = control()
    changed = rated(5, 0.1, why="a launch")
    folded.fold([changed])
    held = current(folded)
    assert (held.version, held.at, held.changed_by, held.why) == (1, AT + 5, "me", "a launch")
    assert held.change == changed.event.event_id  # type: ignore[union-attr]


def test_a_rate_at_most_doubles_and_any_surface_may_begin_small() -> None:
    folded = control()
    folded.fold([rated(0, 0.1), rated(DWELL_MS, 0.2), rated(2 * DWELL_MS, 0.41)])
    assert (current(folded).rate, reasons(folded)) == (0.2, ["step_too_large"])
    folded.fold([rated(3 * DWELL_MS, 0.0), rated(4 * DWELL_MS, 0.06), rated(5 * DWELL_MS, 0.05)])
    assert (current(folded).rate, reasons(folded)[1:]) == (0.05, ["step_too_large"])


@pytest.mark.parametrize(
    "settings",
    [
        {"segments": [{"name": "new", "when": {"visitor": "new"}, "multiplier": 2.1}]},
        {"segments": [{"name": "new", "when": {"visitor": "new"}, "rate": 0.11}]},
    ],
)
def test_the_bound_of_a_step_holds_for_every_segment(settings: dict[str, Any]) -> None:
    folded = control()
    folded.fold([rated(0, 0.05, settings=settings)])
    assert reasons(folded) == ["step_too_large"]
    folded.fold([rated(0, 0.05, settings=settings | {"rate_cap": 0.1})])
    assert current(folded).rate_cap == 0.1


def test_a_change_waits_for_the_one_before_unless_it_stops_exploration() -> None:
    folded = control()
    folded.fold([rated(0, 0.1), rated(DWELL_MS - 1, 0.05)])
    assert (current(folded).rate, reasons(folded)) == (0.1, ["too_soon"])
    folded.fold([change(2, document={"rate": 0.1, "scheme": "greedy"})])
    assert (current(folded).scheme, current(folded).version) == ("greedy", 2)


def test_a_forced_change_sets_the_bounds_aside_and_says_why() -> None:
    folded = control()
    folded.fold([rated(0, 0.4, forced=True), rated(1, 0.4, forced=True, why="a test")])
    assert reasons(folded) == ["no_reason"]
    assert (current(folded).rate, current(folded).forced) == (0.4, True)


def test_a_change_made_from_another_version_is_refused() -> None:
    folded = control()
    folded.fold([rated(0, 0.06, expects=0), rated(DWELL_MS, 0.07, expects=0)])
    assert (current(folded).rate, reasons(folded)) == (0.06, ["version_conflict"])


def test_a_change_that_comes_twice_counts_once() -> None:
    folded = control()
    first = rated(0, 0.06)
    folded.fold([first, first])
    folded = control(folded.store)
    folded.fold([first])
    assert (current(folded).version, folded.count("control.duplicate")) == (1, 2)


def test_an_earlier_version_comes_back_as_a_new_one_from_the_history_alone() -> None:
    folded = control()
    folded.fold([rated(0, 0.4, forced=True, why="a test", settings={"temperature": 0.7})])
    folded.fold([rated(1, 0.01, forced=True, why="a test")])
    folded = control(folded.store)
    folded.fold([change(2, restores=1, document={"rate": 0.5})])
    held = current(folded)
    assert (held.rate, held.temperature, held.version, held.restores) == (0.4, 0.7, 3, 1)
    folded.fold([change(3, restores=0), change(4, restores=99)])
    assert (current(folded).rate, reasons(folded)) == (Explorations().rate, ["unknown_version"])


def test_a_temporary_change_returns_to_the_version_before_at_its_time() -> None:
    folded = control()
    folded.fold([rated(0, 0.06), rated(DWELL_MS, 0.1, settings={"ttl_s": 10.0})])
    held, ends = current(folded), AT + DWELL_MS + 10_000
    assert (in_force(held, ends - 1).version, in_force(held, ends).version) == (2, 1)
    folded.fold([rated(DWELL_MS + 10_001, 0.07, expects=1)])
    assert (current(folded).version, current(folded).before) == (3, None)


def test_temporary_changes_lie_on_each_other_to_a_depth() -> None:
    folded = control()
    rows = [rated(n, 0.05, settings={"ttl_s": 100.0 - n}, forced=True, why="a test") for n in range(6)]
    folded.fold(rows)
    assert (current(folded).version, reasons(folded)) == (4, ["too_deep"] * 2)
    assert in_force(current(folded), AT + 98_500).version == 2


def test_the_history_is_bounded() -> None:
    folded = control()
    folded.fold([rated(n, 0.05, forced=True, why="a test") for n in range(HISTORY_CAP + 3)])
    kept = {int(name.decode().partition("@")[2]) for name in folded.hash("history")}
    assert kept == set(range(4, HISTORY_CAP + 4))


@pytest.mark.parametrize("reloads", [False, True])
def test_a_version_that_left_the_history_cannot_be_restored(*, reloads: bool) -> None:
    folded = control()
    folded.fold([rated(n, 0.05, forced=True, why="a test") for n in range(HISTORY_CAP + 1)])
    if reloads:
        folded = control(folded.store)
    folded.fold([change(HISTORY_CAP + 1, restores=1)])
    assert reasons(folded) == ["unknown_version"]
    folded.fold([change(HISTORY_CAP + 2, restores=2)])
    assert (current(folded).version, current(folded).restores) == (HISTORY_CAP + 2, 2)


def of_a_later_release(store: Store, name: str, **more: Any) -> None:
    """Write what another release would have left: fields, values and kinds that this one does not know."""
    for family, field in (("control", name), ("history", f"{name}@1")):
        held = store.hashes.setdefault(f"{PLACE.prefix}{family}", {})
        said = msgspec.json.decode(held.get(field.encode(), b"{}"))
        held[field.encode()] = msgspec.json.encode(said | more)


def test_the_unit_starts_over_documents_of_a_later_release_and_leaves_what_it_does_not_know() -> None:
    folded = control()
    folded.fold([rated(0, 0.06, settings={"temperature": 0.7})])
    of_a_later_release(folded.store, HOME, mood="glad", scheme="quantum")
    of_a_later_release(folded.store, "weather/home", version=3)
    folded = control(folded.store)
    folded.fold(
        [rated(DWELL_MS, 0.1, expects=1), change(2 * DWELL_MS, restores=1), change(3, "weather/home")]
    )
    assert reasons(folded) == ["unknown_control"]
    held = current(folded)
    assert (held.version, held.restores, held.rate, held.temperature) == (3, 1, 0.06, 0.7)
    assert held.scheme == Explorations().scheme
    assert msgspec.json.decode(folded.hash("control")[b"weather/home"]) == {"version": 3}


def test_a_temporary_document_of_a_later_release_still_ends() -> None:
    folded = control()
    folded.fold([rated(0, 0.06), rated(DWELL_MS, 0.1, settings={"ttl_s": 10.0})])
    held = msgspec.json.decode(folded.hash("control")[HOME.encode()])
    raw = msgspec.json.encode(held | {"mood": "glad", "before": held["before"] | {"mood": "sad"}})
    after = in_force(decode_document(HOME, raw), AT + DWELL_MS + 10_000)  # type: ignore[arg-type]
    assert (after.version, after.rate) == (1, 0.06)


def test_a_budget_is_a_document_of_its_own() -> None:
    folded = control()
    folded.fold([change(0, "budget/all", document={"cost_per_hour": 7.0})])
    held = current(folded, "budget/all")
    assert isinstance(held, Budgets)
    assert (held.cost_per_hour, held.version) == (7.0, 1)


@pytest.mark.parametrize(
    ("document", "part"),
    [
        ({"segments": [{"name": "a", "when": {"visitor": "old"}}]}, "new or returning"),
        ({"segments": [{"name": "a", "when": {"d": "m"}}] * 2}, "names of their own"),
        ({"segments": [{"name": "a", "when": {}}]}, "length >= 1"),
        ({"quota": {"impressions": 0}}, ">= 1"),
        ({"guardrails": [{"metric": "joy", "worse_by": 0.1}]}, "joy"),
        ({"until": 5}, "the engine fills it in"),
    ],
)
def test_what_a_document_may_not_say_is_named(document: dict[str, Any], part: str) -> None:
    folded = control()
    folded.fold([change(0, document=document)])
    (letter,) = folded.letters()
    assert letter.reason == "bad_document"
    assert part in letter.detail


def test_the_same_rows_in_other_batches_leave_the_same_documents() -> None:
    rows = [rated(0, 0.1), rated(5, 0.1), rated(DWELL_MS, 0.2, settings={"ttl_s": 3.0}),
            rated(DWELL_MS + 4_000, 0.11, expects=1), change(DWELL_MS + 5_000, restores=2)]  # fmt: skip
    together, apart = control(), control()
    together.fold(rows)
    for one in rows:
        apart.fold([one])
        apart = control(apart.store)
    assert together.hash("control") == apart.hash("control")
    assert together.hash("history") == apart.hash("history")
    assert current(together).version == 4
