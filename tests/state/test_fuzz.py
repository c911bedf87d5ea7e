"""Hostile input is understood or refused, never anything else; `benchmarks.fuzz` tries many times as much."""

from benchmarks._fuzzing import AT, fuzz, hostile_events, hostile_filters
from state.decoding import decode_event
from state.filters import parse_filter

CASES = 1_500


def test_whatever_comes_as_an_event_is_understood_or_refused() -> None:
    found = fuzz(lambda given: decode_event(given[0], given[1], received_at=AT), hostile_events(7), CASES)
    assert found.crashes == []
    assert found.understood > 50
    assert {"malformed_json", "wrong_type", "missing_field", "too_large", "out_of_bounds"} <= set(
        found.reasons
    )


def test_whatever_comes_as_a_filter_is_understood_or_refused() -> None:
    found = fuzz(parse_filter, hostile_filters(7), CASES)
    assert found.crashes == []
    assert found.understood > 50
    assert found.refused > 50


def test_the_fuzzer_tells_of_a_crash_and_repeats_itself() -> None:
    def breaks(text: str) -> None:
        if "==" in text:
            raise IndexError("as a careless parser would")

    found = fuzz(breaks, hostile_filters(1), 200)
    assert len(found.crashes) == 20
    assert "IndexError" in found.crashes[0]
    again, other = hostile_events(3), hostile_events(3)
    assert [next(again) for _ in range(50)] == [next(other) for _ in range(50)]
