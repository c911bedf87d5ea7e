"""The audit record: every change asked for, whoever asked, and what became of it."""

from typing import Any

import msgspec
import pytest

from headwater.audit import describe
from state.audit import LONGEST_VALUE, AuditEntry
from state.retention import AUDIT_CAP
from tests.stream.test_control import DWELL_MS, change, control, rated


def entries(folded: Any) -> list[AuditEntry]:
    found = [msgspec.json.decode(raw, type=AuditEntry) for raw in folded.hash("audit").values()]
    return sorted(found, key=lambda entry: entry.number)


def test_a_change_tells_who_asked_what_was_and_what_is() -> None:
    folded = control()
    folded.fold([rated(0, 0.06, principal="key:growth", why="a launch")])
    folded.fold([rated(DWELL_MS, 0.1, principal="command:anna")])
    first, second = entries(folded)
    assert (first.principal, first.changed_by, first.why) == ("key:growth", "me", "a launch")
    assert (first.before, first.after, first.changes["rate"]) == (0, 1, ("0.05", "0.06"))
    assert (second.before, second.after, second.changes) == (1, 2, {"rate": ("0.06", "0.1")})
    assert second.at == first.at + DWELL_MS
    assert "command:anna (says me)  version 1 -> 2  [rate 0.06 -> 0.1]" in describe(second)


def test_a_refused_change_is_on_record_with_its_reason() -> None:
    folded = control()
    folded.fold([rated(0, 0.06), rated(1, 0.4, principal="key:growth"), change(2, "weather/home")])
    _, bold, unknown = entries(folded)
    assert (bold.refused, bold.before, bold.after) == ("step_too_large", 1, 0)
    assert bold.changes == {"rate": ("0.06", "0.4")}
    assert (unknown.refused, unknown.before) == ("unknown_control", 0)
    assert "refused: step_too_large" in describe(bold)


def test_a_change_that_comes_twice_is_on_record_once() -> None:
    folded = control()
    first = rated(0, 0.06)
    folded.fold([first, first])
    folded = control(folded.store)
    folded.fold([first])
    assert len(entries(folded)) == 1


def test_the_record_goes_on_after_a_restart_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.control.AUDIT_CAP", 5)
    folded = control()
    for at in range(8):
        folded = control(folded.store)
        folded.fold([rated(at, 0.05, forced=True, why="a test")])
    assert [entry.number for entry in entries(folded)] == [4, 5, 6, 7, 8]
    assert AUDIT_CAP == 10_000


def test_long_values_are_cut() -> None:
    folded = control()
    segments = [{"name": f"s{n}", "when": {"device": f"d{n}"}, "multiplier": 1.5} for n in range(20)]
    folded.fold([rated(0, 0.05, settings={"segments": segments})])
    (entry,) = entries(folded)
    assert len(entry.changes["segments"][1]) < LONGEST_VALUE + 30
