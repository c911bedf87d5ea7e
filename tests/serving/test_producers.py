"""A producer's verdict says in words what its counts mean, and praises only what is well."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.producers import ProducerReport, report
from state.producers import HOUR_MS, OTHERS, UNNAMED, ProducerRecord, Refused, Tally

NOW = 486_111 * HOUR_MS + 1_800_000
MISSING = Refused("clicks", "missing_field", "occurred_at", 0, "", "this field is required")


def known(at: int = NOW, **counts: Any) -> ProducerRecord:
    record = ProducerRecord(first_at=at, seen_at=at)
    tally = record.tally(at)
    for name, value in counts.items():
        setattr(tally, name, value)
    return record


def judged(*records: ProducerRecord, name: str = "web", unknown: tuple[str, ...] = ()) -> ProducerReport:
    return report(name, records, set(unknown), NOW)


def test_nothing_wrong_is_healthy() -> None:
    found = judged(known(events={"clicks": 12_031}))
    assert (found.healthy, found.verdict) == (True, "healthy: 12,031 events, nothing refused")


def test_refusals_are_told_with_their_share_and_the_most_frequent_one() -> None:
    record = known(events={"clicks": 1000})
    record.tally(NOW).refuse(MISSING, 20)
    record.tally(NOW).refuse(Refused("clicks", "wrong_type", "surface", 0, "7", "Expected `str`"), 1)
    found = judged(record)
    assert found.verdict == (
        "2.1 % refused, most: missing_field occurred_at (clicks); wished: this field is required"
    )
    assert not found.healthy
    assert [one.reason for one in found.recent.refusals] == ["missing_field", "wrong_type"]


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"misrouted": 50}, "5 % sent to the wrong partition: its partitioner is not murmur2"),
        ({"late": 300, "lag_ms": 7_200_000}, "30 % late, up to 2 h"),
        ({"duplicate": 11}, "1.1 % sent again under the same event_id"),
        ({"lead_ms": 240_000}, "its clock is up to 4 min ahead"),
        ({"unattributed": 1000}, "none of 1,000 clicks carries a decision token"),
        ({"refusals": [Refused("clicks", "wrong_type", "kind", 1, "'\x1b[2J'", "x")]}, "'?[2J'"),
        ({"refusals": [Refused("", OTHERS, "", 1)]}, "many different mistakes"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_each_mistake_has_words_of_its_own(counts: dict[str, Any], words: str) -> None:
    found = judged(known(events={"clicks": 1000}, **counts))
    assert words in found.verdict
    assert not found.healthy


@pytest.mark.parametrize("counts", [{"late": 9}, {"duplicate": 9}, {"lead_ms": 5000}, {"unattributed": 999}])
def test_what_is_ordinary_is_no_mistake(counts: dict[str, int]) -> None:
    assert judged(known(events={"clicks": 1000}, **counts)).healthy


def test_items_that_are_not_in_the_catalogue_are_told_with_examples() -> None:
    shards = [known(events={"clicks": 9}), known(events={"clicks": 1})]
    shards[0].items = {f"i{n}": 1 for n in range(40)} | {"sku-1": 2}
    shards[1].items = {"sku-17": 3, "sku-1": 2} | {f"j{n}": 1 for n in range(8)}
    found = judged(*shards, unknown=("sku-17", "sku-1", "sku-2"))
    assert (found.items, found.unknown_items) == (50, 2)
    assert [(one.item_id, one.count) for one in found.unknown_examples] == [("sku-1", 4), ("sku-17", 3)]
    assert "4 % of its items are not in the catalogue, e.g. sku-1, sku-17" in found.verdict
    assert judged(*shards, unknown=("sku-17",)).healthy


def test_a_hostile_item_id_is_tamed_in_words_and_exact_in_the_examples() -> None:
    record = known(events={"clicks": 1})
    record.items = {"\x1b[2J": 1}
    found = judged(record, unknown=("\x1b[2J",))
    assert "e.g. ?[2J" in found.verdict
    assert found.unknown_examples[0].item_id == "\x1b[2J"


def test_what_was_mended_hours_ago_does_not_spoil_the_verdict_and_is_not_forgotten() -> None:
    record = known(events={"clicks": 10})
    old = record.tally(NOW - 3 * HOUR_MS)
    old.events = {"clicks": 97}
    old.refuse(MISSING, 97)
    found = judged(record)
    assert found.verdict == "healthy: 10 events, nothing refused; before that 97 were refused"
    assert found.healthy
    assert (found.recent.refused, found.total.refused) == (0, 97)


def test_a_producer_that_fell_silent_is_said_to_be() -> None:
    record = known(at=NOW - 30 * HOUR_MS, events={"clicks": 10})
    assert judged(record).verdict == "silent for 30 h; healthy: 10 events, nothing refused"


@pytest.mark.parametrize(("name", "hint"), [(UNNAMED, "hw-producer"), (OTHERS, "beyond the first 200")])
def test_names_that_are_ours_are_explained(name: str, hint: str) -> None:
    found = judged(known(events={"clicks": 1}), name=name)
    assert hint in found.verdict
    assert found.healthy


COUNTS = st.integers(0, 10**6)


@given(st.lists(COUNTS, min_size=6, max_size=6), COUNTS, COUNTS)
def test_whatever_was_counted_there_is_a_verdict_in_one_line(
    counts: list[int], clicks: int, refused: int
) -> None:
    record = ProducerRecord(hours={NOW // HOUR_MS: Tally({"clicks": clicks}, [], *counts)}, seen_at=NOW)
    if refused:
        record.tally(NOW).refuse(MISSING, refused)
    found = judged(record)
    assert found.verdict
    assert "\n" not in found.verdict
    assert not (found.healthy and refused)
