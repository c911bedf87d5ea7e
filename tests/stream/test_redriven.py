"""A re-driven dead letter counts once: however often, in whatever order and across whatever restarts."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.events import Control, DeadLetter, Item, Outcome, Versions, encode
from state.keys import unit_prefix
from state.outbox import FORWARDED_HEADER, NUMBER_HEADER, REDRIVE_HEADER, SOURCE_HEADER
from state.retention import DAY_MS, LETTERS_KEPT_MS
from state.settings import DEFAULT_FEEDBACK, FeedbackKind
from stream.catalogue import CatalogueLogic
from stream.control import ControlLogic
from stream.effects import MOST_RAW, Place
from stream.isolation import Isolation
from stream.lane import LaneLogic
from stream.rows import Row, decode_row
from tests.stream.folding import (
    AT,
    Folded,
    Store,
    click,
    decision,
    feedback,
    impression,
    passed_on,
    profile,
    shard,
    user_of_shard,
)
from tests.stream.test_units import REGISTRY

LATER = AT + DAY_MS
FIXED = {**DEFAULT_FEEDBACK, "shrug": FeedbackKind(reward=1.0)}


def at_offset(row: Row, offset: int) -> Row:
    row.offset = offset
    return row


def redriven(row: Row, letter: str, *, at: int = LATER, offset: int = 100, **headers: bytes) -> Row:
    """The record a re-drive sends: the same bytes and key under a new offset, with the letter's id."""
    marks = [(REDRIVE_HEADER, letter.encode()), *((f"hw-{k}", v) for k, v in headers.items())]
    again = Row(row.kind, row.partition, offset, at, row.key, row.raw)
    return decode_row(again, marks, 300_000)


def fixed(folded: Folded, **changes: Any) -> Folded:
    """The shard after a restart with the feedback kind registered."""
    return shard(folded.store, feedback=FIXED, **changes)


def refused_shrug(**more: Any) -> tuple[Folded, Row, DeadLetter]:
    folded, row = shard(), at_offset(feedback("shrug", **more), 7)
    folded.fold([row], AT)
    (letter,) = folded.letters()
    return folded, row, letter


def test_a_redriven_event_counts_once_after_the_fix() -> None:
    folded, row, letter = refused_shrug()
    assert (letter.event_id, letter.reason) == ("0-feedback-0-7", "unknown_feedback")
    assert (folded.count("feedback"), folded.count("refused")) == (0, 1)
    again = fixed(folded)
    again.fold([redriven(row, letter.origin)], LATER)
    again.fold([redriven(row, letter.origin, offset=101)], LATER)
    counts = {name: again.count(name) for name in ("feedback", "feedback.redriven_again", "refused")}
    assert counts == {"feedback": 1, "feedback.redriven_again": 1, "refused": 1}
    assert (again.record("u1").recent, again.record("u1").events) == (["b"], 1)
    assert again.letters() == []


def test_a_redriven_event_is_never_late_and_others_still_are() -> None:
    folded, row, letter = refused_shrug()
    again = fixed(folded)
    again.fold([], LATER)
    again.fold([redriven(row, letter.origin), click("c")], LATER)
    assert (again.count("feedback"), again.count("feedback.late"), again.count("clicks.late")) == (1, 0, 1)


def test_an_event_that_was_folded_already_is_a_duplicate_although_it_is_redriven() -> None:
    folded = shard()
    folded.fold([click("b")], AT)
    folded.fold([redriven(click("b"), "0-clicks-0-3", at=AT)], AT)
    assert (folded.count("clicks"), folded.count("clicks.duplicate")) == (1, 1)
    assert folded.hash("redriven") == {}


def test_copies_of_a_refused_event_make_one_letter_inside_the_lateness_bound() -> None:
    folded, row, _ = refused_shrug()
    folded.fold([at_offset(row, 8)], AT)
    assert len(folded.letters()) == 1
    assert folded.count("feedback.duplicate") == 1


def test_two_letters_of_one_event_count_once_even_long_after_the_lateness_bound() -> None:
    """An event nobody could decode has no id yet: each of its copies is a letter of its own."""
    folded, row = shard(), click("b")
    for n, letter in enumerate(("0-clicks-0-3", "0-clicks-0-4")):
        at = LATER + n * DAY_MS
        others = [click(f"i{k}", at=at + k) for k in range(40)]
        folded.fold([redriven(row, letter, at=at), *others], at)
        folded = shard(folded.store)
    assert (folded.count("clicks"), folded.count("clicks.duplicate")) == (81, 1)


def test_an_event_refused_again_becomes_a_new_letter_of_the_same_origin() -> None:
    folded, row, letter = refused_shrug()
    folded.fold([redriven(row, letter.origin, offset=20), redriven(row, letter.origin, offset=21)], LATER)
    _, second, third = folded.letters()
    assert [(one.event_id, one.origin) for one in (second, third)] == [
        ("0-feedback-0-20", letter.event_id),
        ("0-feedback-0-21", letter.event_id),
    ]
    again = fixed(folded)
    again.fold(
        [redriven(row, one.origin, offset=30 + n) for n, one in enumerate((third, letter, second))], LATER
    )
    assert (again.count("feedback"), again.count("feedback.redriven_again")) == (1, 2)


def test_a_letter_taken_is_not_refused_again_by_a_version_that_cannot_read_it() -> None:
    folded, row, letter = refused_shrug()
    again = fixed(folded)
    again.fold([redriven(row, letter.origin)], LATER)
    before = shard(again.store)
    before.fold([redriven(row, letter.origin, offset=101)], LATER)
    assert before.letters() == []


def test_a_full_hidden_list_refused_and_redriven_counts_once() -> None:
    folded = shard(hidden_cap=1)
    row = feedback("hide", "c")
    folded.fold([feedback("hide", "a"), row], AT)
    (letter,) = folded.letters()
    again = shard(folded.store, hidden_cap=2)
    again.fold([redriven(row, letter.origin)], LATER)
    record = again.record("u1")
    assert (record.hidden, record.events, again.count("feedback")) == (["a", "c"], 2, 2)


def test_a_reward_of_a_closed_window_is_unattributed_and_opens_nothing() -> None:
    folded, row = shard(), feedback("shrug", decision=1)
    folded.fold([decision(), impression(decision=1), row], AT)
    (letter,) = folded.letters()
    folded.fold([], LATER)
    again = fixed(folded)
    again.fold([redriven(row, letter.origin)], LATER)
    again.fold([], LATER + DAY_MS)
    assert (again.count("unattributed.rewards"), again.count("feedback")) == (1, 1)
    assert [again.count(f"closed.{verdict}") for verdict in ("outcome", "orphan", "unseen")] == [1, 0, 0]
    assert again.hash("open") == {}


def test_a_reward_of_an_open_window_still_earns_it() -> None:
    folded, row = shard(), feedback("shrug", decision=1)
    folded.fold([decision(), impression(decision=1), row], AT)
    (letter,) = folded.letters()
    again = fixed(folded)
    again.fold([redriven(row, letter.origin, at=AT + 60_000)], AT + 30_000)
    again.fold([], LATER)
    (outcome,) = again.outcomes()
    assert [slot.reward for slot in outcome.slots] == [0.0, 1.0, 0.0]


def test_a_decision_redriven_after_its_window_teaches_nothing_and_is_kept_for_explaining() -> None:
    folded, row = shard(), decision()
    folded.fold([impression(decision=1), click("b", decision=1)], AT)
    folded.fold([], LATER)
    again = shard(folded.store)
    again.fold(
        [redriven(row, "0-decisions-0-3"), redriven(impression(decision=1), "0-impressions-0-3")], LATER
    )
    again.fold([], LATER + DAY_MS)
    assert again.outcomes() == []
    assert (again.count("unattributed.decisions"), again.count("closed.orphan")) == (1, 1)
    assert again.store.values[f"{again.logic.place.prefix}d:{row.event.event_id}"] == row.raw  # type: ignore[union-attr]


def test_what_a_visitor_did_since_stays_the_newest() -> None:
    folded, row, letter = refused_shrug(session_id="s0")
    again = fixed(folded)
    again.fold([click("x", at=AT, session_id="s0"), click("y", at=LATER, session_id="s9")], LATER)
    again.fold([redriven(row, letter.origin, at=LATER + 5)], LATER)
    record = again.record("u1")
    assert record.recent == ["x", "b", "y"]
    assert record.recent_at == sorted(record.recent_at)
    assert (record.session_id, record.session_items, record.last_at) == ("s9", ["y"], LATER)
    step = again.shard_feeds()[-1].interactions[0]
    assert (step.item_id, step.at_ms) == ("b", AT + 1000)


def test_a_redriven_purchase_strengthens_the_view_it_followed_however_much_came_since() -> None:
    folded = shard()
    folded.fold([feedback("dwell", "b", at=AT, value=6.0), click("y", at=LATER)], AT)
    purchase = feedback("purchase", "b", at=AT + 60_000)
    folded.fold([redriven(purchase, "0-feedback-0-7", at=LATER + 5)], LATER)
    record = folded.record("u1")
    assert list(zip(record.recent, record.recent_interest, strict=True)) == [("b", 1.0), ("y", 1.0)]
    assert (folded.count("feedback"), folded.shard_feeds()[-1].interactions) == (2, [])


def test_redriven_clicks_count_three_times_an_hour_with_the_live_ones_of_that_hour() -> None:
    folded = shard()
    items = ["b", "c"] * 3
    folded.fold([click(item, at=AT + n * 60_000) for n, item in enumerate(items)], AT)
    folded.fold([click(f"later{n}", at=LATER + n) for n in range(2)], AT)
    fourth = click("b", at=AT + 30_000, event_id="the fourth")
    folded.fold([redriven(fourth, "0-clicks-0-7", at=LATER + 5)], LATER)
    assert (folded.count("clicks"), folded.shard_feeds()[-1].interactions) == (9, [])


def test_an_overtaken_profile_fills_in_what_is_not_known_and_gives_no_consent() -> None:
    folded = shard()
    folded.fold([profile(attributes={"city": "Ulm"}), profile(at=AT + 9, consent="none")], AT)
    folded.fold([profile(at=AT + 10, consent="full"), profile(at=AT + 20, attributes={"city": "Bonn"})], AT)
    old = profile(at=AT + 15, attributes={"city": "Wien", "age": 3.0})
    folded.fold([redriven(old, "0-users-0-3")], AT)
    assert folded.record("u1").attributes == {"city": "Bonn", "age": 3.0}
    folded.fold([profile(at=AT + 30, consent="none")], AT)
    folded.fold([redriven(profile(at=AT + 25, consent="full"), "0-users-0-4")], LATER)
    assert folded.record("u1").consent == "none"


def test_a_misrouted_letter_is_forwarded_with_its_origin_and_counted_at_its_owner() -> None:
    user = user_of_shard(1, 2)
    wrong, owner = shard(number=0, shards=2), shard(number=1, shards=2)
    rows = [redriven(click("b", user=user), "0-clicks-0-3", offset=n) for n in (50, 51)]
    wrong.fold(rows, LATER)
    forwards = wrong.messages("clicks")
    assert [dict(one.headers("0"))[REDRIVE_HEADER] for one in forwards] == [b"0-clicks-0-3"] * 2
    owner.fold([], LATER)
    owner.fold([passed_on(one, received_at=LATER) for one in forwards], LATER)
    assert (wrong.count("forwarded"), owner.count("clicks")) == (2, 1)
    assert owner.count("clicks.redriven_again") == 1


def test_the_letter_of_a_forwarded_record_says_so() -> None:
    folded = shard(number=0, shards=2)
    row = click("b", user=user_of_shard(1, 2))
    folded.fold([decode_row(row, [(FORWARDED_HEADER, b"1")], 0)], AT)
    (letter,) = folded.letters()
    assert (letter.reason, letter.forwarded) == ("misrouted", True)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"nonsense",
        b"0-clicks-0",
        b"0-clicks-0-17\n",
        b"\xff\xfe",
        b"0-clicks-0-" + b"9" * 99,
        b"; DROP-a-1-1",
    ],
)
def test_a_garbled_redrive_header_becomes_a_dead_letter(value: bytes) -> None:
    folded, row = shard(), click("b")
    bad = decode_row(Row(row.kind, 0, 4, AT, row.key, row.raw), [(REDRIVE_HEADER, value)], 300_000)
    folded.fold([bad, click("c")], AT)
    (letter,) = folded.letters()
    assert (letter.reason, letter.origin) == ("bad_header", "0-clicks-0-4")
    assert REDRIVE_HEADER in letter.detail
    assert folded.count("clicks") == 1


def test_a_header_without_a_value_is_garbled_too() -> None:
    row = click("b")
    bad = decode_row(Row(row.kind, 0, 4, AT, row.key, row.raw), [(REDRIVE_HEADER, None)], 300_000)
    assert bad.refusal is not None
    assert bad.refusal.reason == "bad_header"


def test_a_failed_fold_is_redriven_once_it_can_be_folded() -> None:
    folded, row = shard(), at_offset(click("b"), 5)
    isolation = Isolation()
    isolation.failed([row], RuntimeError("a defect of ours"))
    isolation.mark([row])
    folded.fold([row], AT)
    (letter,) = folded.letters()
    assert letter.reason == "fold_failed"
    again = shard(folded.store)
    again.fold([redriven(click("b"), letter.origin), redriven(click("b"), letter.origin)], LATER)
    assert (again.count("clicks"), again.count("clicks.redriven_again")) == (1, 1)


def test_ids_leave_when_their_letters_have_left_the_topic() -> None:
    folded, row, letter = refused_shrug()
    again = fixed(folded)
    again.fold([redriven(row, letter.origin, at=LATER)], LATER)
    again.fold([], LATER + LETTERS_KEPT_MS)
    assert set(again.hash("redriven")) == {letter.origin.encode()}
    again = fixed(again)
    again.fold([], LATER + LETTERS_KEPT_MS + 1)
    assert again.hash("redriven") == {}
    assert len(again.logic.redriven) == 0  # type: ignore[attr-defined]


# -- other units


def catalogue(store: Store | None = None) -> Folded:
    return Folded(CatalogueLogic(Place(unit_prefix("hw", "i0"), "i0", 0)), store)


def item(item_id: str = "a", title: str = "A") -> Row:
    event = Item(event_id=f"e-{item_id}", occurred_at=AT, item_id=item_id, title=title)
    return Row("items", 0, 0, AT, item_id.encode(), encode(event))


def test_a_redriven_item_is_folded_once_across_restarts() -> None:
    folded = catalogue()
    folded.fold([redriven(item(), "i0-items-0-3"), decode_row(item(title="newer"), (), 0)], AT)
    folded = catalogue(folded.store)
    folded.fold([redriven(item(), "i0-items-0-3")], AT)
    assert msgspec.json.decode(folded.hash("items")[b"a"])["title"] == "newer"
    assert (folded.count("items"), folded.count("items.redriven_again")) == (2, 1)


def test_a_redriven_tombstone_is_folded_once() -> None:
    folded = catalogue()
    gone = Row("items", 0, 9, AT, b"a", None)
    folded.fold(
        [redriven(gone, "i0-items-0-9"), decode_row(item(), (), 0), redriven(gone, "i0-items-0-9")], AT
    )
    assert set(folded.hash("items")) == {b"a"}
    assert (folded.count("removed_items"), folded.count("items.redriven_again")) == (1, 1)


def test_a_redriven_control_document_raises_the_version_once() -> None:
    def control(store: Store | None = None) -> Folded:
        return Folded(ControlLogic(Place(unit_prefix("hw", "c"), "c", 0), 0), store)

    event = Control(event_id="e", occurred_at=AT, name="exploration/home", document={"rate": 0.1})
    row = Row("control", 0, 0, AT, b"exploration/home", encode(event))
    folded = control()
    folded.fold([redriven(row, "c-control-0-3"), redriven(row, "c-control-0-4")], AT)
    folded = control(folded.store)
    folded.fold([redriven(row, "c-control-0-3")], AT)
    assert msgspec.json.decode(folded.hash("control")[b"exploration/home"])["version"] == 1
    assert folded.count("control.redriven_again") == 2


def lane(store: Store | None = None) -> Folded:
    return Folded(LaneLogic(Place(unit_prefix("hw", "m0"), "m0", 0), REGISTRY), store)


def outcome_row(offset: int = 0) -> Row:
    event = Outcome(
        event_id="d1", occurred_at=AT, subject="u1", surface="home", lane=0, shown_at=AT, slots=[],
        features="", logits="", versions=Versions("p", 1, 1, "f"),
    )  # fmt: skip
    return Row("outcomes", 0, offset, AT, b"home#0", encode(event))


def test_a_redriven_outcome_is_learnt_once_without_its_number_in_the_outbox() -> None:
    folded = lane()
    folded.fold([redriven(outcome_row(), "m0-outcomes-0-3"), redriven(outcome_row(), "m0-outcomes-0-4")], AT)
    folded = lane(folded.store)
    folded.fold([redriven(outcome_row(), "m0-outcomes-0-3")], AT)
    assert (folded.count("outcomes"), folded.count("outcomes.redriven_again")) == (1, 2)


def test_a_refused_outcome_sent_twice_is_one_letter() -> None:
    marks = [(SOURCE_HEADER, b"0"), (NUMBER_HEADER, b"5")]
    folded = lane()
    for offset in (3, 4):
        bad = Row("outcomes", 0, offset, AT, b"home#0", b"{")
        folded.fold([decode_row(bad, marks, 0)], AT)
    assert [letter.event_id for letter in folded.letters()] == ["m0-outcomes-0-3"]
    assert folded.count("outcomes.duplicate") == 1


# -- whatever happens


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000), st.lists(st.integers(0, 11), min_size=1, max_size=40), st.sets(st.integers(0, 9))
)
def test_no_number_and_no_order_of_redrives_counts_twice(
    seed: int, sends: list[int], restarts: set[int]
) -> None:
    """Twelve letters, sent in any order any number of times, in any batches, with restarts in between."""
    rng = random.Random(seed)
    rows = [at_offset(feedback("shrug", f"i{n}", at=AT + n * 1000, user=f"u{n % 3}"), n) for n in range(12)]
    folded = shard()
    folded.fold(rows, AT)
    letters = folded.letters()
    again = fixed(folded)
    left = [redriven(rows[n], letters[n].origin, at=LATER, offset=100 + k) for k, n in enumerate(sends)]
    for number in range(10):
        if number in restarts:
            again = fixed(again)
        size = rng.randrange(len(left) + 1) if number < 9 else len(left)
        again.fold(left[:size], LATER)
        left = left[size:]
    wished = sorted({f"i{n}" for n in sends})
    assert again.count("feedback") == len(wished)
    assert again.count("feedback.redriven_again") == len(sends) - len(wished)
    records = [again.record(f"u{n}") for n in range(3)]
    assert sorted(one for record in records for one in record.recent) == wished
    assert all(record.recent_at == sorted(record.recent_at) for record in records)
    assert len(again.hash("redriven")) == len(wished)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sets(st.integers(0, 9)))
def test_restarts_leave_the_same_bytes_of_redrives(seed: int, restarts: set[int]) -> None:
    def run(broken: set[int]) -> Folded:
        rng = random.Random(seed)
        folded = shard()
        for number in range(10):
            if number in broken:
                folded = shard(folded.store)
            at = AT + number * (LETTERS_KEPT_MS // 4) + rng.randrange(DAY_MS)
            rows = [
                redriven(
                    click(f"i{rng.randrange(8)}"),
                    f"0-clicks-0-{rng.randrange(8)}",
                    at=at - rng.randrange(DAY_MS),
                )
                for _ in range(rng.randrange(4))
            ]
            folded.fold(rows, at)
        return folded

    assert run(restarts).store.state() == run(set()).store.state()


# -- letters themselves


def test_a_letter_of_any_record_fits_into_a_record_and_says_what_was_cut() -> None:
    folded = shard()
    for offset, size in enumerate((MOST_RAW, MOST_RAW + 1, 1_000_000)):
        huge = Row("clicks", 0, offset, AT, b"k" * 1_000_000, b"x" * size)
        folded.fold([decode_row(huge, (), 0)], AT)
    assert [letter.cut_from for letter in folded.letters()] == [0, MOST_RAW + 1, 1_000_000]
    assert all(len(m.value) + len(m.key or b"") < 1_000_000 for m in folded.messages("deadletters"))


@pytest.mark.parametrize("at", [-1, 0, 2**62])
def test_a_letter_is_readable_whatever_time_its_producer_gave_the_record(at: int) -> None:
    folded = shard()
    folded.fold([decode_row(Row("clicks", 0, 0, at, b"k", b"{"), (), 0)], AT)
    (letter,) = folded.letters()
    assert letter.reason == "malformed_json"
