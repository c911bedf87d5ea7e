"""A lane remembers the latest outcomes: restarts change nothing, and memory is bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream import learnt
from stream.effects import Counters, Effects, Place
from stream.learnt import LearntOutcomes

KEY = "{hw:m0}:learnt"
PLACE = Place("{hw:m0}:", "m0", 0)


class Kept:
    """The outcomes of a lane and the hash they are kept in."""

    def __init__(self) -> None:
        self.stored: dict[bytes, bytes] = {}
        self.load()

    def load(self) -> None:
        """Begin anew from what is stored."""
        self.outcomes = LearntOutcomes(KEY, self.stored)

    def learn(self, *numbers: int) -> list[bool]:
        """Learn outcomes in one commit; returns which were new."""
        effects = Effects(PLACE, Counters({}), 0)
        new = [self.outcomes.is_new(f"d{number}") for number in numbers]
        self.outcomes.write(effects)
        for name in effects.change.dropped_fields.get(KEY, []):
            self.stored.pop(name.encode(), None)
        self.stored |= {name.encode(): raw for name, raw in effects.change.fields.get(KEY, {}).items()}
        return new


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learnt, "PAGE", 4)
    monkeypatch.setattr(learnt, "OUTCOMES_KEPT", 12)


@given(st.lists(st.tuples(st.lists(st.integers(0, 60), max_size=9), st.booleans()), max_size=12))
def test_an_outcome_is_new_once_through_any_restarts(commits: list[tuple[list[int], bool]]) -> None:
    kept, seen = Kept(), set()
    for numbers, restart in commits:
        if restart:
            kept.load()
        for number in numbers:
            assert kept.learn(number) == [number not in seen]
            seen.add(number)


def test_only_the_latest_outcomes_are_kept(small_pages: None) -> None:
    kept = Kept()
    for number in range(100):
        kept.learn(number)
        assert len(kept.stored) <= 3
    kept.load()
    assert kept.learn(*range(92, 100)) == [False] * 8
    assert kept.learn(0) == [True]


def test_batches_leave_no_trace_in_what_is_stored(small_pages: None) -> None:
    one, many = Kept(), Kept()
    one.learn(*range(11))
    for number in range(11):
        many.learn(number)
        many.load()
    assert one.stored == many.stored
