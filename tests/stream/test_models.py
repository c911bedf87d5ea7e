"""A lane's models: what shadows, promotions, rollbacks and versions do, and that a replay does it again."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from online_models.click import VERSION
from online_models.features import Feature, FeatureRegistry
from online_models.ranking import ranking_registry
from state.events import Directive, Outcome, OutcomeSlot, Versions
from state.keys import unit_prefix
from state.models import Lifecycle, decode_lifecycle
from state.outbox import NUMBER_HEADER, SOURCE_HEADER
from state.packing import to_base64
from state.retention import DAY_MS, MODEL_STEPS_KEPT, MODEL_VERSIONS_KEPT, MOST_SHADOWS
from stream.effects import Place
from stream.lane import LaneLogic
from stream.lessons import lesson_of
from stream.rows import Row
from stream.rules import unit_rules
from tests.online_models.compiling import compiled_after_warm_up
from tests.stream.folding import AT, Folded, Store, row, settings
from tests.stream.test_replay import Live, replayed, state

PLACE = Place(unit_prefix("hw", "m0"), "m0", 0)
DECLARED = ranking_registry()
SMALL = FeatureRegistry(
    [Feature("position", "count"), Feature("blend"), Feature("x"), Feature("y")], [("x", "y")]
)


def lane(store: Store | None = None, registry: FeatureRegistry = SMALL) -> Folded:
    return Folded(LaneLogic(PLACE, registry), store)


def outcomes(
    first: int,
    count: int,
    *,
    at: int = AT,
    registry: FeatureRegistry = SMALL,
    surface: str = "home",
    **more: Any,
) -> list[Row]:
    return [outcome(n, at, registry, surface, more) for n in range(first, first + count)]


def outcome(number: int, at: int, registry: FeatureRegistry, surface: str, more: dict[str, Any]) -> Row:
    rng = np.random.default_rng(number)
    rows = rng.normal(size=(5, len(registry)))
    p = 1 / (1 + np.exp(1.5 - 1.5 * rows[:, 2] * rows[:, 3]))  # only the cross tells
    clicked = rng.random(5) < p
    slots = [OutcomeSlot(f"i{n}", n, float(clicked[n]), 0.5) for n in range(5)]
    event = Outcome(
        event_id=f"o{number}", occurred_at=at, subject="u1", surface=surface, lane=0, shown_at=at,
        slots=slots,
        features=to_base64(rows), logits=to_base64(np.zeros(5)),
        versions=Versions("p", 1, 1, registry.fingerprint()), **more,
    )  # fmt: skip
    marks = [(SOURCE_HEADER, b"0"), (NUMBER_HEADER, str(number).encode())]
    return row("outcomes", event, headers=marks, offset=number)


def told(kind: str, document: dict[str, Any], number: int = 1, *, at: int = AT, forced: bool = False) -> Row:
    event = Directive(
        event_id=f"c{number}", occurred_at=at, name=f"{kind}/home", document=document, version=number,
        changed_by="growth team", why="to see", forced=forced,
    )  # fmt: skip
    marks = [(SOURCE_HEADER, b"c"), (NUMBER_HEADER, str(number).encode())]
    return row("directives", event, headers=marks, offset=number)


def life(folded: Folded) -> Lifecycle:
    return decode_lifecycle(folded.hash("lifecycle")[b"home"])


BLIND = {"shadow": "blind", "crosses": "none"}
SEEING = {"shadow": "seeing", "crosses": "x*y"}


def test_a_shadow_never_changes_what_is_served() -> None:
    plain, shadowed = lane(), lane()
    shadowed.fold([told("challenger", {"shadow": "fm", "kind": "fm"}), told("challenger", BLIND, 2)])
    for start in range(1, 400, 40):
        for folded in (plain, shadowed):
            folded.fold(outcomes(start, 40))
    assert shadowed.hash("models") == plain.hash("models")
    assert set(shadowed.hash("model_shadows")) == {b"home#fm", b"home#blind"}
    compared = {name: one.evidence.outcomes for name, one in life(shadowed).shadows.items()}
    assert compared == {"fm": 400, "blind": 400}


def champion_without_cross() -> Folded:
    """Return a lane whose champion cannot see what its shadow can."""
    folded = lane(registry=SMALL.variant([]))
    folded.fold([told("challenger", SEEING)])
    for start in range(1, 2000, 100):
        folded.fold(outcomes(start, 100))
    return folded


def test_a_shadow_shown_to_be_better_is_promoted_on_request() -> None:
    folded = champion_without_cross()
    evidence = life(folded).shadows["seeing"].evidence
    assert evidence.high is not None
    assert evidence.high < 0
    shadow = folded.hash("model_shadows")[b"home#seeing"]
    folded.fold([told("promotion", {"shadow": "seeing"}, 2)])
    step, now = life(folded).steps[-1], life(folded)
    assert (step.what, step.done, step.by, step.why, step.asked) == (
        "promotion",
        True,
        "growth team",
        "to see",
        "c2",
    )
    assert "over 2000 outcomes" in step.detail
    assert (now.shadows, now.crosses) == ({}, [("x", "y")])
    assert folded.hash("model_shadows") == {}
    assert [one.why for one in now.versions] == ["before seeing was promoted", "promoted seeing"]
    assert now.champion == now.versions[-1].number
    assert len(folded.hash("models")[b"home"]) <= len(shadow)


@pytest.mark.parametrize("outcomes_before", [0, 100, 600])
def test_an_undecided_promotion_is_refused_and_only_force_overrides(outcomes_before: int) -> None:
    folded = lane()
    folded.fold([*outcomes(1, 50), told("challenger", {"shadow": "twin"})])
    for start in range(51, 51 + outcomes_before, 50):
        folded.fold(outcomes(start, 50))
    served = folded.hash("models")[b"home"]
    folded.fold([told("promotion", {"shadow": "twin"}, 2)])
    assert folded.hash("models")[b"home"] == served
    step = life(folded).steps[-1]
    assert (step.done, "not shown to be better" in step.detail) == (False, True)
    assert (folded.count("directives"), folded.count("directives.refused")) == (1, 1)
    folded.fold([told("promotion", {"shadow": "twin"}, 3, forced=True)])
    assert (life(folded).steps[-1].done, life(folded).shadows) == (True, {})


def test_the_interval_of_all_lanes_together_counts_where_one_lane_cannot_tell() -> None:
    folded = lane()
    folded.fold([*outcomes(1, 50), told("challenger", {"shadow": "twin"})])
    folded.fold([told("promotion", {"shadow": "twin", "pooled_high": -0.001}, 2)])
    assert life(folded).steps[-1].done


def test_only_a_surface_that_says_so_promotes_by_itself() -> None:
    done = {}
    for promote in ("manual", "automatic"):
        folded = lane(registry=SMALL.variant([]))
        folded.fold([told("models", {"promote": promote}), told("challenger", SEEING, 2)])
        for start in range(1, 2000, 100):
            folded.fold(outcomes(start, 100))
        done[promote] = [step.by for step in life(folded).steps if step.what == "promotion"]
    assert done == {"manual": [], "automatic": ["automatic"]}


def test_a_rollback_brings_back_the_very_bytes() -> None:
    folded = lane()
    folded.fold(outcomes(1, 200))
    kept = folded.hash("models")[b"home"]
    folded.fold([told("version", {"label": "good"})])
    folded.fold(outcomes(201, 100))
    later = folded.hash("models")[b"home"]
    assert later != kept
    folded.fold([told("rollback", {"to": "good"}, 2)])
    assert folded.hash("models")[b"home"] == kept
    folded = lane(folded.store)  # a restart in between changes nothing
    folded.fold([told("rollback", {"to": str(life(folded).number)}, 3)])
    assert folded.hash("models")[b"home"] == later


def test_a_champion_put_back_goes_on_as_it_would_have_then() -> None:
    once, back = lane(), lane()
    once.fold(outcomes(1, 200))
    back.fold([*outcomes(1, 200), told("version", {"label": "good"})])
    back.fold(outcomes(201, 200))
    back.fold([told("rollback", {"to": "good"}, 2)])
    for folded in (once, back):
        folded.fold(outcomes(401, 100))
    assert once.hash("models") == back.hash("models")


def test_a_lane_that_starts_anew_after_every_commit_ends_in_the_same_state() -> None:
    batches = [[told("challenger", SEEING)], *(outcomes(n, 3, at=AT + 1_000 * n) for n in range(1, 60, 3))]
    batches[9] = [*batches[9], told("version", {"label": "good"}, 2)]
    batches[14] = [*batches[14], told("rollback", {"to": "good"}, 3)]
    steady, restarted = lane(), lane()
    for batch in batches:
        steady.fold(batch)
        restarted = lane(restarted.store)
        restarted.fold(batch)
        assert restarted.store.hashes == steady.store.hashes


@pytest.mark.parametrize(
    ("kind", "document", "words"),
    [
        ("rollback", {"to": "nowhere"}, "no version nowhere"),
        ("promotion", {"shadow": "nobody"}, "no shadow nobody"),
        ("challenger", {"shadow": "s", "crosses": "x*moon"}, "moon"),
        ("challenger", {"shadow": "s", "crosses": "x*y*x"}, "two features each"),
        ("challenger", {"shadow": "s", "hashed": "x"}, "hashed crosses name"),
        ("challenger", {"shadow": "s", "stop": True}, "no shadow s"),
        ("challenger", {}, "no name"),
        ("version", {}, "no name"),
        ("challenger", {"shadow": "s", "kind": "forest"}, "forest"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words_and_nothing_moves(
    kind: str, document: dict[str, Any], words: str
) -> None:
    folded = lane()
    folded.fold(outcomes(1, 20))
    before = folded.hash("models")[b"home"]
    folded.fold([told(kind, document)])
    step = life(folded).steps[-1]
    assert (step.done, words in step.detail) == (False, True), step
    assert folded.hash("models")[b"home"] == before
    assert (life(folded).shadows, life(folded).versions) == ({}, [])


def test_shadows_versions_and_history_are_bounded() -> None:
    folded, number = lane(), 0
    folded.fold(outcomes(1, 5))
    for n in range(30):
        commands = (("challenger", "shadow", "s"), ("version", "label", "v"), ("rollback", "to", "v"))
        for kind, field, letter in commands:
            number += 1
            folded.fold([told(kind, {field: f"{letter}{n}"}, number)])
    now = life(folded)
    assert (len(now.shadows), len(now.steps)) == (MOST_SHADOWS, MODEL_STEPS_KEPT)
    named = [one for one in now.versions if one.label]
    assert (len(named), len(now.versions)) == (MODEL_VERSIONS_KEPT, 2 * MODEL_VERSIONS_KEPT)
    assert set(folded.hash("model_versions")) == {f"home#{one.number}".encode() for one in now.versions}


def test_each_day_of_event_time_keeps_the_champion_it_began_with() -> None:
    folded = lane()
    for day in range(3):
        folded.fold(outcomes(1 + 10 * day, 10, at=AT + day * DAY_MS))
    assert [one.why for one in life(folded).versions] == ["a day began", "a day began"]
    assert [one.rows for one in life(folded).versions] == [50, 100]


def test_heads_learn_what_outcomes_say_they_know() -> None:
    folded = lane()
    for one in outcomes(1, 200):
        assert isinstance(one.event, Outcome)
        for slot in one.event.slots:
            slot.earned = ["purchase"] if slot.reward and slot.position % 2 else []
        one.event.labels = ["purchase"]
        folded.fold([one])
    heads = life(folded).heads
    assert set(heads) == {"click", "purchase"}
    assert 0.2 < heads["purchase"].rate < 0.8


def test_measures_are_told_by_segment() -> None:
    folded = lane(registry=DECLARED)
    folded.fold(outcomes(1, 50, registry=DECLARED, facets={"visitor": "new", "device": "tv"}))
    names = {one.name for one in life(folded).segments}
    assert {"device:tv", "item:new"} <= names
    assert not any("visitor:new" in name and "," in name for name in names)


def script(seed: int) -> list[list[Row]]:
    """Return batches of outcomes with everything a lane can be told in between."""
    rng = np.random.default_rng(seed)
    said = iter([
        told("challenger", {"shadow": "fm", "kind": "fm"}, 1),
        told("challenger", {"shadow": "bare", "crosses": "none", "hashed": "none", "begin": "prior"}, 2),
        told("version", {"label": "early"}, 3),
        told("promotion", {"shadow": "bare"}, 4),
        told("promotion", {"shadow": "fm"}, 5, forced=True),
        told("models", {"promote": "automatic", "dwell": 2.0}, 6),
        told("rollback", {"to": "early"}, 7),
        told("challenger", {"shadow": "bare", "stop": True}, 8),
    ])  # fmt: skip
    batches, number = [], 1
    while (one := next(said, None)) is not None:
        size = int(rng.integers(1, 30))
        at = AT + number * 600_000
        before = outcomes(number, size, at=at, registry=DECLARED, labels=["dwell"])
        batches.append([*before[: size // 2], one, *before[size // 2 :]])
        number += size
    return [*batches, outcomes(number, 20, at=AT + number * 600_000, registry=DECLARED)]


@given(st.integers(0, 1000), st.frozensets(st.integers(0, 8), max_size=3))
@effort(max_examples=6)
def test_a_replay_with_shadows_and_promotions_ends_in_the_same_state(
    seed: int, restarts: frozenset[int]
) -> None:
    live = Live("m0", RULES)
    for number, batch in enumerate(script(seed)):
        if number in restarts:
            live.begin()
        live.fold([live.arrived(one, headers_of(one)) for one in batch], AT)
    again = replayed(live.entries(), live.log, unit="m0", rules=RULES)
    assert state(again) == state(live.store)
    assert len(decode_lifecycle(again.hashes[f"{PLACE.prefix}lifecycle"][b"home"]).steps) >= 8


WIDER = FeatureRegistry(
    [Feature("position", "count"), Feature("blend"), Feature("x"), Feature("y"), Feature("z")], [("x", "y")]
)


def lived(registry: FeatureRegistry = SMALL) -> Folded:
    """Return a lane with a shadow, a named version and a rule of promotion."""
    folded = lane(registry=registry)
    said = [("models", {"promote": "automatic"}), ("challenger", BLIND), ("version", {"label": "good"})]
    for number, (kind, document) in enumerate(said, 1):
        folded.fold([*outcomes(10 * number, 10, registry=registry), told(kind, document, number)])
    return folded


def test_a_commit_writes_no_more_than_what_moved() -> None:
    folded = lived()
    change = folded.fold([told("models", {"promote": "manual"}, 4)])
    assert f"{PLACE.prefix}model_shadows" not in change.fields
    assert f"{PLACE.prefix}model_versions" not in change.fields
    (lesson,) = outcomes(200, 1)
    other = msgspec.structs.replace(lesson, source="7", number=1)
    assert isinstance(other.event, Outcome)
    other.event = msgspec.structs.replace(other.event, event_id="another")
    folded.fold([lesson])
    change = folded.fold([other])
    assert [name for name in change.meta if name.startswith("seen:")] == ["seen:7"]
    assert list(change.fields[f"{PLACE.prefix}model_shadows"]) == ["home#blind"]


def test_a_change_of_features_leaves_shadows_and_versions_behind_through_two_restarts() -> None:
    folded = lived()
    steps = len(life(folded).steps)
    for start in (100, 200):
        folded = lane(folded.store, WIDER)
        folded.fold(outcomes(start, 20, registry=WIDER))
        assert (folded.hash("model_shadows"), folded.hash("model_versions")) == ({}, {})
    folded = lane(folded.store, WIDER)
    folded.fold([told("challenger", {"shadow": "blind", "crosses": "none"}, 4)])
    now = life(folded)
    assert (now.promotes, set(now.shadows), now.versions) == ("automatic", {"blind"}, [])
    assert [step.what for step in now.steps[steps:]] == ["features", "challenger"]
    assert "['blind']" in now.steps[steps].detail
    assert now.number == 1


def test_a_lane_starts_over_models_of_another_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    folded = lived()
    monkeypatch.setattr("online_models.click.VERSION", VERSION + 1)
    monkeypatch.setattr("stream.lane.VERSION", VERSION + 1)
    for start in (100, 200):
        folded = lane(folded.store)
        folded.fold(outcomes(start, 20))
    assert (life(folded).outcomes, life(folded).promotes, life(folded).shadows) == (40, "automatic", {})


def test_a_directive_sent_again_under_a_new_number_is_followed_once() -> None:
    folded = lane()
    first, again = (told("version", {"label": "good"}, number) for number in (1, 2))
    assert isinstance(again.event, Directive)
    again.event.event_id = "c1"
    folded.fold([*outcomes(1, 5), first])
    folded = lane(folded.store)
    folded.fold([again])
    counted = folded.count("directives"), folded.count("directives.duplicate")
    assert (life(folded).number, counted) == (1, (1, 1))


def test_a_redriven_directive_is_followed_once() -> None:
    folded = lane()
    letter = told("version", {"label": "good"})
    letter.redrive, letter.number = "m0-directives-0-7", 0
    folded.fold([*outcomes(1, 5), letter])
    for number in range(2, 2 + MODEL_STEPS_KEPT):  # the history has forgotten it
        folded.fold([told("rollback", {"to": "nowhere"}, number)])
    folded = lane(folded.store)
    folded.fold([letter])
    assert (life(folded).number, folded.count("directives.redriven_again")) == (1, 1)


RULES = unit_rules(settings(), "m0")


def headers_of(one: Row) -> list[tuple[str, bytes]]:
    return [(SOURCE_HEADER, one.source.encode()), (NUMBER_HEADER, str(one.number).encode())]


def test_rows_learnt_are_the_rows_logged() -> None:
    """What the lane learns from is bit for bit what the decision was scored with."""
    rows = outcomes(1, 3, registry=DECLARED)
    events: Sequence[Any] = [one.event for one in rows]
    lesson = lesson_of(events, len(DECLARED))
    logged = np.concatenate([np.random.default_rng(n).normal(size=(5, len(DECLARED))) for n in range(1, 4)])
    np.testing.assert_array_equal(lesson.inputs, logged)
    assert msgspec.json.encode(lesson.facets) == b'["","",""]'


def test_a_lane_learns_by_loops_that_were_compiled_before_it_began() -> None:
    work = """
from tests.stream.test_models import AT, DECLARED, lane, outcomes
lane(registry=DECLARED).fold(outcomes(1, 3, registry=DECLARED), AT)
"""
    assert compiled_after_warm_up("ranking", work) == ""
