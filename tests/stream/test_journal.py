"""Entries come out in the order of their commits, each once, whatever Kafka did to them on the way."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.events import encode
from stream.journal import (
    InOrder,
    Journal,
    JournalEntry,
    JournalError,
    Mark,
    decode_entry,
    marks,
    read_mark,
    runs,
)
from stream.rules import differences, unit_rules
from tests.stream.folding import click, impression, profile, settings

META = {"epoch": "3", "commit": "7"}


def entry(commit: int, after: int, epoch: int = 1) -> JournalEntry:
    return JournalEntry(commit, after, epoch, 0, 0)


def chain(count: int, epoch: int = 1) -> list[JournalEntry]:
    """Return entries whose commit numbers leave out some, as commits without an entry do."""
    numbers = [0, *(2 * n + n % 2 for n in range(1, count + 1))]
    return [entry(after, before, epoch) for before, after in pairwise(numbers)]


def ordered(entries: list[JournalEntry], mark: Mark | None = None) -> list[int]:
    order = InOrder("0", mark or Mark())
    found = []
    for one in entries:
        order.add(one)
        found += [ready.commit for ready in order.ready()]
    return found + [ready.commit for ready in order.ready(at_end=True)]


@given(st.integers(0, 60), st.randoms(use_true_random=False), st.integers(0, 60))
def test_entries_sent_twice_and_in_another_order_come_out_once_and_in_order(
    count: int, rng: random.Random, begun: int
) -> None:
    entries = chain(count)
    read = [*entries, *rng.sample(entries, len(entries) // 2)]
    rng.shuffle(read)
    wished = [one.commit for one in entries]
    assert ordered(read) == wished
    if entries:
        mark = entries[begun % count]
        assert ordered(read, Mark(mark.commit, 1)) == wished[begun % count + 1 :]


@pytest.mark.parametrize("lost", [0, 3, 8])
def test_an_entry_that_is_missing_is_told_and_nothing_after_it_is_folded(lost: int) -> None:
    entries = chain(10)
    gone = entries.pop(lost)
    with pytest.raises(
        JournalError, match=f"lacks what follows commit {gone.after}; .* commit {entries[lost].commit}"
    ):
        ordered(entries)


def test_a_missing_entry_is_told_before_the_whole_journal_is_in_memory() -> None:
    order = InOrder("0", Mark())
    held: list[int] = []

    def read(entries: list[JournalEntry]) -> None:
        for one in entries:
            held.append(one.commit)
            order.add(one)
            list(order.ready())

    with pytest.raises(JournalError, match="lacks what follows commit 0"):
        read(chain(5_000)[1:])
    assert len(held) < 3_000


def test_where_a_store_went_back_the_later_owner_counts() -> None:
    old, new = chain(6, epoch=1), chain(9, epoch=2)
    assert ordered([*old, *new[4:]]) == [one.commit for one in new]
    shorter = [*old, new[4]]
    assert ordered(shorter) == [one.commit for one in [*old[:4], new[4]]]


def test_a_store_that_went_back_behind_what_was_replayed_is_told() -> None:
    with pytest.raises(JournalError, match="store went back"):
        ordered([*chain(6, epoch=1), *chain(9, epoch=2)[2:]], Mark(chain(6)[-1].commit, 1))


def test_an_owner_writes_a_chain_and_its_rules_once() -> None:
    journal = Journal(META, {"window": 5})
    first = journal.entry([click()], 10, 11)
    assert (first.commit, first.after, first.epoch, first.rules) == (8, 0, 3, {"window": 5})
    journal.committed(8, first)
    journal.committed(9)
    second = journal.entry([], 12, 13)
    assert (second.commit, second.after, second.rules) == (10, 8, None)
    kept = META | {"commit": "10"} | marks(first) | marks(second)
    assert read_mark(kept) == Mark(10, 3)
    assert Journal(kept, {"window": 5}).entry([], 1, 1).rules is None
    assert Journal(kept, {"window": 6}).entry([], 1, 1).rules == {"window": 6}


def test_an_entry_survives_its_record() -> None:
    rows = [click(at=1_750_000_000_000 + n) for n in range(3)]
    for place, row in enumerate(rows):
        row.offset = place
    one = JournalEntry(
        5, 4, 2, 17, 18, runs([*rows, impression(), profile()]), [("clicks", 1, "E()")], {"a": 1}
    )
    raw = encode(one)
    assert decode_entry(raw, 9).number == 9
    one.number = 9
    assert decode_entry(raw, 9) == one
    assert one.order == [("clicks", 0, 2), ("impressions", 0, 0), ("users", 0, 0)]
    assert (
        len(encode(JournalEntry(123456, 123455, 12, 1_750_000_000_000, 1_750_000_000_000, one.order))) < 200
    )


def test_a_record_that_is_no_entry_is_told() -> None:
    with pytest.raises(JournalError, match="journal record 4 is"):
        decode_entry(b'{"epoch":1}', 4)


CHANGES: list[tuple[dict[str, object], str]] = [
    ({"attribution_window_s": 7.0}, "window_ms"),
    ({"feedback": {}}, "feedback"),
    ({"seen_cap": 3}, "caps"),
    ({"token_secret": "another secret of tests"}, "token_secret"),
    ({"half_lives_s": (1.0,)}, "half_lives_s"),
    ({"max_sessions": 9}, "max_sessions"),
    ({"max_skew_s": 1.0}, "max_skew_ms"),
    ({"shards": 2}, "shards"),
]


@pytest.mark.parametrize(
    ("changes", "name"), CHANGES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_setting_a_fold_depends_on_is_among_its_rules(changes: dict[str, object], name: str) -> None:
    ours, theirs = unit_rules(settings(), "0"), unit_rules(settings(**changes), "0")
    said = differences(theirs, ours)
    assert any(phrase.split()[0] == name for phrase in said), said


def test_no_rule_shows_the_secret_and_what_only_collects_garbage_is_none() -> None:
    told: dict[str, object] = {"token_secret": "a very secret secret"}
    ours = unit_rules(settings(**told), "0")
    assert b"very secret" not in encode(ours)
    assert ours == unit_rules(settings(**told, subject_ttl_s=9.0, decision_ttl_s=9.0, lateness_s=9.0), "0")
    assert differences({"token_secret": "x"}, {"token_secret": "y"}) == ["token_secret"]


def test_rules_are_said_alike_however_often_they_are_asked_for() -> None:
    told = settings()
    for unit in ("0", "m0", "i0", "c"):
        assert differences(unit_rules(told, unit), unit_rules(told, unit)) == []
