"""The subject record: what goes in comes out, duplicates are known, memory has bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.packing import CorruptStateError, seal
from state.retention import COUNTED_CAP, RECENT_CAP
from state.sessions import SessionRow, decode_session, encode_session, session_hash
from state.subject import (
    HOUR_MS,
    SubjectRecord,
    decode_subject,
    encode_subject,
    id_hash,
)

AT = 1_750_000_000_000
TEXTS = st.text(max_size=12)
TIMES = st.integers(946_684_800_000, 4_102_444_800_000)
RECORDS = st.builds(
    SubjectRecord,
    recent=st.lists(TEXTS, max_size=5),
    recent_at=st.lists(TIMES, max_size=5),
    recent_interest=st.lists(st.floats(0, 1), max_size=5),
    seen=st.binary(max_size=48),
    hidden=st.lists(TEXTS, max_size=5),
    events=st.integers(0, 2**40),
    session_id=TEXTS,
    session_start=TIMES,
    session_items=st.lists(TEXTS, max_size=5),
    last_at=TIMES,
    consent=st.sampled_from(["full", "none"]),
    applied=st.binary(max_size=48),
    bandit=st.binary(max_size=48),
    attributes=st.dictionaries(
        TEXTS, st.booleans() | st.floats(allow_nan=False) | TEXTS | st.lists(TEXTS, max_size=3) | st.none()
    ),
    counted=st.binary(max_size=48),
)


@given(RECORDS)
def test_a_record_comes_back_as_it_was(record: SubjectRecord) -> None:
    raw = encode_subject(record)
    assert decode_subject(raw) == record
    assert encode_subject(decode_subject(raw)) == raw


def test_an_unknown_subject_has_a_fresh_record() -> None:
    assert decode_subject(None) == SubjectRecord()


def test_a_record_of_an_earlier_version_with_fewer_fields_is_read() -> None:
    assert decode_subject(seal(b"\x91\x91\xa1a")) == SubjectRecord(recent=["a"])


def test_a_damaged_record_is_not_believed() -> None:
    raw = encode_subject(SubjectRecord(events=7))
    with pytest.raises(CorruptStateError):
        decode_subject(raw[:-1] + bytes([raw[-1] ^ 1]))


@given(st.lists(st.tuples(TEXTS, TIMES), max_size=20), TEXTS)
def test_every_folded_event_is_known_and_no_other(events: list[tuple[str, int]], other: str) -> None:
    record = SubjectRecord()
    for event_id, at_ms in events:
        record.mark_applied(event_id, at_ms)
    assert all(record.has_applied(event_id) for event_id, _ in events)
    assert record.has_applied(other) == (other in {event_id for event_id, _ in events})


def test_an_event_time_that_looks_like_an_event_hash_is_no_duplicate() -> None:
    record = SubjectRecord()
    record.mark_applied("a", id_hash("b"))
    record.mark_applied("c", AT)
    assert not record.has_applied("b")


def test_marks_inside_the_lateness_bound_are_never_forgotten() -> None:
    record = SubjectRecord()
    for n in range(200):
        record.mark_applied(f"e{n}", AT + n)
        record.forget_applied(AT + n - 50)
    assert all(record.has_applied(f"e{n}") for n in range(150, 200))
    assert not record.has_applied("e0")
    assert len(record.applied) <= 16 * 51


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=120), st.integers(1, 10))
def test_the_last_items_are_remembered_as_seen_each_once(items: list[int], cap: int) -> None:
    record = SubjectRecord()
    for n, item in enumerate(items):
        record.mark_seen(f"i{item}", AT + n * HOUR_MS, cap)
    newest_first = list(dict.fromkeys(reversed(items)))[:cap]
    assert sorted(record.seen_rows()["item"].tolist()) == sorted(id_hash(f"i{n}") for n in newest_first)


def test_what_was_seen_a_quarter_ago_leaves_first() -> None:
    record = SubjectRecord()
    record.mark_seen("old", AT, 2)
    record.mark_seen("new", AT + 91 * 24 * HOUR_MS, 2)
    record.mark_seen("new", AT + 91 * 24 * HOUR_MS, 2)
    assert record.seen_rows()["item"].tolist() == [id_hash("new")]


def test_recent_items_are_bounded_and_their_lists_stay_in_step() -> None:
    record = SubjectRecord()
    for n in range(3 * RECENT_CAP):
        record.add_recent(f"i{n}", AT + n, n / 1000)
    wanted = range(2 * RECENT_CAP, 3 * RECENT_CAP)
    assert record.recent == record.session_items == [f"i{n}" for n in wanted]
    assert record.recent_at == [AT + n for n in wanted]
    assert record.recent_interest == [n / 1000 for n in wanted]


def test_an_item_is_counted_only_so_often_an_hour_whatever_comes_between() -> None:
    record = SubjectRecord()
    counted = [record.count(f"i{n % 80}", AT + n, 3) for n in range(800)]
    assert sum(counted) == 3 * 80
    assert record.count("i0", AT + 2 * HOUR_MS, 3)


def test_what_counting_remembers_is_bounded() -> None:
    record = SubjectRecord()
    assert sum(record.count(f"i{n}", AT, 3) for n in range(COUNTED_CAP + 100)) == COUNTED_CAP
    assert record.count("i0", AT + 2 * HOUR_MS, 3)
    assert len(record.counted) == 12


@given(st.lists(st.tuples(TEXTS, TIMES), max_size=8))
def test_a_stored_session_comes_back_as_it_was(steps: list[tuple[str, int]]) -> None:
    row = SessionRow([item for item, _ in steps], [at for _, at in steps])
    assert decode_session(encode_session(row)) == row


@given(TEXTS, TEXTS)
def test_a_session_number_fits_the_index(subject: str, session_id: str) -> None:
    assert np.int64(session_hash(subject, session_id)) == session_hash(subject, session_id)
