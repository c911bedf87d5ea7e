"""What one subject makes the store keep has a bound, and reaching it is told."""

from typing import Any

import pytest

from state.retention import APPLIED_KEPT, ATTRIBUTES_CAP
from state.subject import EVENT_ROW
from tests.stream.folding import AT, Folded, click, feedback, passed_on, profile, shard


def test_attributes_beyond_the_cap_are_refused_and_the_rest_stays() -> None:
    folded = shard()
    for n in range(0, ATTRIBUTES_CAP, 64):
        folded.fold([profile(at=AT + n, attributes={f"a{n + k}": k for k in range(64)})])
    folded.fold([profile(at=AT + 999, attributes={"more": 1}, consent="full")])
    assert len(folded.record("u1").attributes) == ATTRIBUTES_CAP
    assert [letter.reason for letter in folded.letters()] == ["attributes_full"]
    folded.fold([profile(at=AT + 1000, attributes={"a0": 5})])
    assert folded.record("u1").attributes["a0"] == 5


def test_a_merge_hides_no_more_than_the_cap_and_says_what_is_left_out() -> None:
    folded = shard(hidden_cap=4)
    for n in range(3):
        folded.fold([feedback("hide", f"u{n}", at=AT + n), feedback("hide", f"s{n}", at=AT + n, user=None)])
    folded.fold([click("c", user=None), profile(at=AT + 5000, merge_session="s1")])
    for _ in range(2):  # asked, then handed over
        folded.fold([passed_on(folded.messages("users")[-1], received_at=AT + 6000)])
    record = folded.record("u1")
    assert record.hidden == ["u0", "u1", "u2", "s0"]
    assert record.recent == ["c"]
    (letter,) = folded.letters()
    assert (letter.reason, "2 of the session's are left out" in letter.detail) == ("hidden_full", True)


def test_a_record_at_rest_carries_few_marks_of_old_events() -> None:
    folded = shard()
    for n in range(200):
        at = AT + n * 60_000
        folded.fold([click(f"i{n}", at=at)], at - 30_000)
        assert len(folded.record("u1").applied) <= EVENT_ROW.size * APPLIED_KEPT


@pytest.mark.parametrize("name", ["seen_cap", "max_sessions"])
def test_caps_of_the_settings_hold(name: str) -> None:
    changes: dict[str, Any] = {name: 3}
    folded: Folded = shard(**changes)
    for n in range(8):
        folded.fold([click(f"i{n}", at=AT + n * 10_000_000, session_id=f"s{n}")])
    held = {"seen_cap": len(folded.record("u1").seen_rows()), "max_sessions": len(folded.hash("sessions"))}
    assert held[name] == 3
