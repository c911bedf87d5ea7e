"""What a shard keeps of a decision, and which decisions nothing could be learnt or told from."""

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from online_models.ranking import ranking_registry
from state.events import Versions, Weights
from state.packing import to_base64
from stream.kept import keep
from stream.rows import Row
from tests.stream.folding import AT, Folded, decision, decision_event, impression, shard

LATER = AT + 10**9


def told(row: Row) -> Folded:
    """Fold a decision, its impression, and time until it has closed."""
    folded = shard()
    folded.fold([row, impression(decision=1)], AT)
    folded.fold([], LATER)
    return folded


@pytest.mark.parametrize(
    "event_id",
    ["d1", "00000000000-0000-00000000000g", f"{AT:011x}-0000-000000000001\n", f"{AT + 1:011x}-0000-{1:012x}"],
)
def test_a_decision_whose_id_is_none_or_tells_of_a_later_time_is_refused(event_id: str) -> None:
    (letter,) = told(decision(event_id=event_id)).letters()
    assert (letter.reason, "event_id" in letter.detail) == ("out_of_bounds", True)


@pytest.mark.parametrize(
    ("name", "value"), [("rate", "often"), ("rate", -0.1), ("rate", 1.5), ("floor", "low"), ("floor", 2.0)]
)
def test_a_decision_that_explored_by_no_chance_is_refused(name: str, value: Any) -> None:
    (letter,) = told(decision(exploration={"scheme": "epsilon", name: value})).letters()
    assert (letter.reason, f"exploration.{name}" in letter.detail) == ("out_of_bounds", True)


@pytest.mark.parametrize(
    ("named", "packed"),
    [
        ("wide@1", "no base64!"),
        ("wide@1", to_base64(np.ones(2))),
        ("wide@1", to_base64(np.array([1.0, np.nan, 1.0]))),
        ("wide@1", to_base64(np.array([1.0, np.inf, 1.0]))),
        ("wide@1", to_base64(np.array([1.0, -1.0, 1.0]))),
        ("wide", to_base64(np.ones(3))),
        ("wide@two", to_base64(np.ones(3))),
        ("Wide:@2", to_base64(np.ones(3))),
        ("wide@" + "9" * 30, to_base64(np.ones(3))),
    ],
)
def test_a_decision_with_weights_of_shadows_that_are_none_is_refused(named: str, packed: str) -> None:
    (letter,) = told(decision(shadows={named: packed})).letters()
    assert (letter.reason, "shadows" in letter.detail) == ("out_of_bounds", True)


@pytest.mark.parametrize("name", ["model", "exploration", "ranking"])
@pytest.mark.parametrize("number", [-1, 2**64])
def test_a_decision_with_versions_no_store_can_hold_is_refused(name: str, number: int) -> None:
    row = decision()
    assert row.raw is not None
    versions = {"policy": "p", "model": 3, "exploration": 2, "features": "f", name: number}
    folded = told(decision(versions=versions))
    assert [letter.reason for letter in folded.letters()] == ["out_of_bounds"]


def test_a_decision_with_numbers_and_shadows_in_bounds_closes() -> None:
    folded = told(
        decision(
            exploration={"scheme": "softmax", "rate": 1.0, "floor": 0.0, "mode": "single_slot"},
            shadows={"wide@12": to_base64(np.array([0.0, 0.5, 1e9]))},
        )
    )
    assert (folded.letters(), len(folded.outcomes())) == ([], 1)


def test_the_policy_learns_to_the_logit_where_a_slot_stands() -> None:
    """A draw takes every candidate as if at the top; what stands low would pass for worth less."""
    registry = ranking_registry()
    rows = np.zeros((3, len(registry)))
    rows[:, registry.place("position")] = np.log1p(np.arange(3))
    told = np.zeros(1 + len(registry))
    told[1 + registry.place("position")] = -0.5
    logged = decision_event(
        features=to_base64(rows), logits=to_base64(np.full(3, -2.0)), weights=Weights(to_base64(told)),
        versions=Versions("p", 1, 1, registry.fingerprint()),
    )  # fmt: skip
    np.testing.assert_allclose(np.frombuffer(keep(logged).logits), -2.0 - 0.5 * np.log1p(np.arange(3)))
    for odd in (None, Weights("odd"), Weights(to_base64(told[:-1]))):
        assert np.frombuffer(keep(replace(logged, weights=odd)).logits).tolist() == [-2.0] * 3


def test_a_decision_that_cannot_say_where_its_slots_stand_keeps_its_logits() -> None:
    registry = ranking_registry()
    heavy = np.zeros(1 + len(registry))
    heavy[1 + registry.place("position")] = 1e308
    rows = np.zeros((3, len(registry)))
    rows[:, registry.place("position")] = 1e300
    known = Versions("p", 1, 1, registry.fingerprint())
    logged = decision_event(
        features=to_base64(rows), logits=to_base64(np.full(3, -2.0)), weights=Weights(to_base64(heavy)),
        versions=known,
    )  # fmt: skip
    assert np.frombuffer(keep(logged).logits).tolist() == [-2.0] * 3
    bare = replace(logged, features="", weights=Weights(to_base64(np.zeros(1))))
    assert np.frombuffer(keep(bare).logits).tolist() == [-2.0] * 3
    empty = replace(logged, slots=[], features="", arms="", logits="")
    assert keep(empty).logits == b""
