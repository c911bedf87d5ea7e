"""An imported row counts once, in event time, whatever its order, and touches nothing of the present."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models.trends import Trends
from state.events import Item, encode
from state.imports import KEPT, Imports, import_fingerprints, import_mark, is_import_mark
from state.keys import meta_key, unit_prefix
from state.outbox import IMPORT_HEADER, NUMBER_HEADER, SENT_AT_ONCE
from state.packing import unpack_vector
from state.retention import RECENT_CAP, SEEN_MAX_AGE_MS
from state.sessions import decode_session, session_hash
from state.subject import HOUR_MS, id_hash
from stream.catalogue import CatalogueLogic
from stream.effects import Place
from stream.rows import Headers, Row, decode_row
from tests.stream.folding import (
    AT,
    Folded,
    click,
    decision,
    feedback,
    impression,
    profile,
    shard,
    user_of_shard,
)

MARK = import_mark("orders", "0123456789abcdef")
ITEMS = Place(unit_prefix("hw", "i0"), "i0", 0)
LONG_AGO = AT - 20 * 24 * HOUR_MS


def marks(number: int, mark: str = MARK) -> Headers:
    """The headers of an imported record."""
    return [(IMPORT_HEADER, mark.encode()), (NUMBER_HEADER, str(number).encode())]


def imported(row: Row, number: int, mark: str = MARK) -> Row:
    """The same row, from an import."""
    blank = Row(row.kind, row.partition, row.offset, row.received_at, row.key, row.raw)
    return decode_row(blank, marks(number, mark), 300_000)


def state_of(folded: Folded, user: str = "u1") -> dict[str, object]:
    """What of a subject and of shared statistics does not depend on the order rows came in."""
    record = folded.record(user)
    sessions = {key: decode_session(raw) for key, raw in folded.hash("sessions").items()}
    return {
        "recent": list(zip(record.recent, record.recent_at, record.recent_interest, strict=True)),
        "seen": sorted(record.seen_rows().tolist()),
        "hidden": sorted(record.hidden),
        "counts": (record.events, record.clicks, record.impressions, record.last_at),
        "sessions": {key: (row.items, row.at_ms) for key, row in sessions.items()},
        "attributes": record.attributes,
    }


def trends_of(folded: Folded, at_ms: int) -> dict[str, list[float]]:
    """Decayed counts of every item at one time."""
    trends = Trends(folded.logic.rules.half_lives_s)  # type: ignore[attr-defined]
    names = sorted(folded.hash("trends"))
    for row, name in enumerate(names):
        state = unpack_vector(folded.hash("trends")[name])
        trends.put_row(0, row, state.reshape(-1, 1 + 2 * trends.half_lives_s.size))
    return dict(
        zip([n.decode() for n in names], trends.scores(np.arange(len(names)), at_ms).tolist(), strict=True)
    )


def assert_same(one: Folded, other: Folded) -> None:
    """Two shards hold the same; decayed sums up to the rounding of their additions."""
    assert state_of(one) == state_of(other)
    mine, theirs = trends_of(one, AT), trends_of(other, AT)
    assert mine.keys() == theirs.keys()
    for item, counts in mine.items():
        np.testing.assert_allclose(counts, theirs[item], rtol=1e-9)


MINUTES = st.lists(st.integers(0, 20 * 24 * 60), min_size=1, max_size=70, unique=True)


@settings(max_examples=60, deadline=None)
@given(MINUTES, st.data())
def test_imported_in_any_order_and_batches_a_shard_holds_what_live_events_in_order_make(
    minutes: list[int], data: st.DataObject
) -> None:
    events = [history(n, minute) for n, minute in enumerate(sorted(minutes))]
    live, other = shard(), shard()
    for event in events:
        live.fold([event])
    shuffled = data.draw(st.permutations(list(enumerate(events, 1))))
    rows = [imported(event, number) for number, event in shuffled]
    size = data.draw(st.integers(1, len(rows)))
    for first in range(0, len(rows), size):
        other.fold(rows[first : first + size])
    assert_same(live, other)


def history(n: int, minute: int) -> Row:
    """One event of a visitor who never takes the same item twice; each day is a session."""
    at, session = LONG_AGO + minute * 60_000, f"day-{minute // 1440}"
    if n % 7 == 3:
        return feedback("dislike", f"i{n}", at=at, session_id=session)
    if n % 7 == 5:
        return impression([f"i{n}"], at=at, session_id=session)
    if n % 7 == 6:
        return feedback("rating", f"i{n}", at=at, session_id=session, value=n % 5 + 0.5)
    return click(f"i{n}", at=at, session_id=session)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 40)), min_size=1, max_size=12))
def test_resumed_anywhere_and_as_often_as_it_may_every_row_counts_once(runs: list[tuple[int, int]]) -> None:
    rows = [imported(click(f"i{n}", at=LONG_AGO + n * 60_000), n + 1) for n in range(60)]
    once, again = shard(), shard()
    once.fold(rows)
    for start, length in [*runs, (0, 60)]:
        again.fold(rows[start : start + length])
        again = shard(again.store)  # a worker that starts anew
    assert_same_counts(once, again)
    assert state_of(again)["sessions"] == state_of(once)["sessions"]


def assert_same_counts(once: Folded, again: Folded) -> None:
    """Each row was folded once, and only once."""
    assert again.count("imported.clicks") == once.count("imported.clicks") == 60
    assert again.record("u1").events == once.record("u1").events == 60
    mine, theirs = trends_of(again, AT), trends_of(once, AT)
    for item, counts in theirs.items():
        np.testing.assert_allclose(mine[item], counts, rtol=1e-9)


def test_an_import_with_a_decision_token_earns_no_reward_and_opens_no_window() -> None:
    folded = shard()
    folded.fold([decision(), impression(decision=1)], AT)
    folded.fold([imported(click("b", decision=1), 1), imported(impression(decision=2), 2)], AT)
    folded.fold([], AT + 10**9)
    (outcome,) = folded.outcomes()
    assert [slot.reward for slot in outcome.slots] == [0.0, 0.0, 0.0]
    assert folded.count("closed.orphan") == folded.count("unattributed.rewards") == 0


def test_live_events_fold_to_the_same_outcomes_and_learning_with_an_import_between_them() -> None:
    live = [
        [decision(), impression(decision=1)],
        [click("b", decision=1), feedback("purchase", "c", decision=1)],
        [],
    ]
    alone, beside, number = shard(), shard(), 0
    for step, rows in enumerate(live):
        alone.fold(rows, AT + 10**9 * (step == 2))
        more = [imported(click(f"i{n}", at=LONG_AGO + n, user="u1"), number + n) for n in range(1, 9)]
        number += 8
        beside.fold([*more[:4], *rows, *more[4:]], AT + 10**9 * (step == 2))
    assert beside.outcomes() == alone.outcomes()
    assert beside.hash("bandit") == alone.hash("bandit")
    assert beside.record("u1").bandit == alone.record("u1").bandit
    assert [feed.interactions for feed in beside.shard_feeds()] == [
        feed.interactions for feed in alone.shard_feeds()
    ]


def test_an_older_row_is_never_late_and_never_becomes_the_current_session() -> None:
    folded = shard()
    folded.fold([click("now", session_id="today")], AT)
    folded.fold([imported(click("then", at=LONG_AGO, session_id="once"), 1)], AT)
    record = folded.record("u1")
    assert (record.session_id, record.session_items, record.last_at) == ("today", ["now"], AT + 1000)
    assert record.recent == ["then", "now"]
    assert folded.count("imported.clicks") == 1
    assert folded.count("imported.clicks.late") == 0


def test_a_row_newer_than_all_known_of_its_subject_begins_its_session() -> None:
    folded = shard()
    folded.fold([imported(click("a", at=LONG_AGO, session_id="s"), 1)])
    folded.fold([imported(click("b", at=LONG_AGO + 1000, session_id="s"), 2)])
    record = folded.record("u1")
    assert (record.session_id, record.session_start, record.session_items) == ("s", LONG_AGO, ["a", "b"])


def test_imported_interactions_are_fed_apart_from_live_ones() -> None:
    folded = shard()
    folded.fold([imported(click("a", at=LONG_AGO), 1), click("b")])
    (feed,) = folded.shard_feeds()
    assert [step.item_id for step in feed.history] == ["a"]
    assert [step.item_id for step in feed.interactions] == ["b"]


def test_a_click_and_its_purchase_are_one_interaction_of_history_too() -> None:
    folded = shard()
    folded.fold([click("now")])
    folded.fold([imported(feedback("dwell", "a", at=LONG_AGO, value=6.0), 1)])
    folded.fold([imported(feedback("purchase", "a", at=LONG_AGO + 60_000), 2)])
    record = folded.record("u1")
    assert list(zip(record.recent, record.recent_interest, strict=True)) == [("a", 1.0), ("now", 1.0)]
    assert len(folded.shard_feeds()[-1].history) == 0


def test_an_item_counts_three_times_an_hour_in_hours_long_over_whatever_live_events_come_between() -> None:
    folded = shard()
    for n in range(12):
        at = LONG_AGO + 2 * n * 60_000
        other = imported(click(f"x{n}", at=at + 60_000), 2 * n + 2)
        folded.fold([imported(click("a", at=at), 2 * n + 1), other, click(f"live{n}", at=AT + n)])
    counted = [step.item_id for feed in folded.shard_feeds() for step in feed.history]
    assert counted.count("a") == 3
    assert len(counted) == 3 + 12


def test_what_a_full_record_has_newer_keeps_its_place() -> None:
    folded = shard(seen_cap=40)
    for n in range(RECENT_CAP + 10):
        folded.fold([click(f"n{n}", at=AT + n * HOUR_MS)])
    before = folded.record("u1")
    folded.fold([imported(click("old", at=AT - HOUR_MS), 1)])
    record = folded.record("u1")
    assert (record.recent, record.seen) == (before.recent, before.seen)
    assert record.events == before.events + 1


def test_what_was_seen_over_a_quarter_before_the_newest_is_not_remembered_as_seen() -> None:
    folded = shard()
    folded.fold([click("now")])
    folded.fold([imported(click("old", at=AT - SEEN_MAX_AGE_MS - HOUR_MS), 1)])
    assert folded.record("u1").seen_rows()["item"].tolist() == [id_hash("now")]


def test_an_older_session_goes_where_its_time_says_and_leaves_a_full_shard_first() -> None:
    folded = shard(max_sessions=2)
    folded.fold([click("a", session_id="one"), click("b", at=AT + 5000, session_id="two")])
    folded.fold([imported(click("z", at=LONG_AGO, session_id="old"), 1)])
    assert len(folded.hash("sessions")) == 2
    assert folded.shard_feeds()[-1].dropped_sessions == [session_hash("u1", "old")]
    folded.fold([imported(click("y", at=AT + 500, session_id="two"), 2)])
    stored = decode_session(folded.hash("sessions")[str(session_hash("u1", "two")).encode()])
    assert stored.items == ["y", "b"]


def test_nothing_is_stored_of_a_subject_without_consent() -> None:
    folded = shard()
    folded.fold([profile(consent="none")])
    folded.fold([imported(click("a", at=LONG_AGO), 1)])
    assert folded.record("u1").recent == []
    assert folded.count("imported.clicks.erased") == 1
    assert folded.hash("trends") == {}


def test_an_older_profile_fills_gaps_and_a_newer_one_replaces() -> None:
    folded = shard()
    folded.fold([profile(at=AT, attributes={"age": 40.0})])
    folded.fold([imported(profile(at=AT - 5, attributes={"age": 30.0, "city": "Oslo"}), 1)])
    assert folded.record("u1").attributes == {"age": 40.0, "city": "Oslo"}
    folded.fold([imported(profile(at=AT + 5, attributes={"age": 41.0}), 2)])
    assert folded.record("u1").attributes == {"age": 41.0, "city": "Oslo"}


@pytest.mark.parametrize("before", [0, 5])
def test_consent_of_history_never_undoes_a_later_word(before: int) -> None:
    folded = shard()
    folded.fold([profile(at=AT, consent="none")])
    folded.fold([imported(profile(at=AT - 5 + 2 * before, consent="full"), 1)])
    assert folded.record("u1").consent == ("full" if before else "none")


@pytest.mark.parametrize(
    ("row", "field"),
    [
        (decision(), "event_id"),
        (profile(erase=True), "erase"),
        (profile(merge_session="s1"), "merge_session"),
    ],
)
def test_what_only_makes_sense_when_it_happens_is_refused(row: Row, field: str) -> None:
    folded = shard()
    folded.fold([imported(row, 1)])
    (letter,) = folded.letters()
    assert letter.reason == "not_importable"
    assert f"'{field}'" in letter.detail


def test_a_row_on_a_wrong_shard_is_refused_and_not_passed_on() -> None:
    folded = shard(shards=4)
    folded.fold([imported(click("a", user=user_of_shard(1, 4)), 1)])
    assert [letter.reason for letter in folded.letters()] == ["misrouted"]
    assert folded.messages("clicks") == []


@pytest.mark.parametrize(
    "headers", [marks(0), marks(1, "no fingerprint"), [(IMPORT_HEADER, b"\xff"), (NUMBER_HEADER, b"1")]]
)
def test_a_mark_that_cannot_be_is_refused(headers: Headers) -> None:
    blank = click()
    row = decode_row(Row("clicks", 0, 0, AT, blank.key, blank.raw), headers, 300_000)
    assert row.refusal is not None
    assert row.refusal.reason == "bad_header"


@given(st.permutations(range(1, 40)), st.integers(1, SENT_AT_ONCE))
def test_each_import_counts_its_own_rows_across_restarts(numbers: Sequence[int], ahead: int) -> None:
    imports, other = Imports(), import_mark("other", "f" * 16)
    assert all(imports.is_new(MARK, number) for number in numbers)
    meta, dropped = imports.take_moved()
    again = Imports(meta)
    assert not any(again.is_new(MARK, number) for number in numbers)
    assert again.is_new(other, 1)
    assert again.is_new(MARK, 40 + ahead)
    assert dropped == []
    assert imports.take_moved() == ({}, [])


def test_the_import_that_began_longest_ago_is_forgotten_when_there_are_too_many() -> None:
    imports = Imports()
    names = [import_mark(f"n{n}", "0" * 16) for n in range(KEPT + 2)]
    for name in names[:KEPT]:
        imports.is_new(name, 1)
    imports.is_new(names[0], 2)
    meta, _ = imports.take_moved()
    again = Imports(meta)
    for name in names[KEPT:]:
        again.is_new(name, 1)
    kept, dropped = again.take_moved()
    assert dropped == [f"import:{name}" for name in sorted(names[:2])]
    assert sorted(kept) == sorted(f"import:{name}" for name in names[KEPT:])


def test_a_forgotten_import_leaves_the_store_in_the_same_commit() -> None:
    folded = shard()
    for n in range(KEPT + 1):
        change = folded.fold([imported(click(at=LONG_AGO + n), 1, import_mark(f"n{n}", "0" * 16))])
    assert list(change.dropped_fields[meta_key(folded.logic.place.prefix)]) == [f"import:n0@{'0' * 16}"]


def test_names_and_fingerprints_are_told_apart() -> None:
    fields = [f"import:orders@{'1' * 16}", f"import:orders.2@{'2' * 16}", "epoch"]
    assert import_fingerprints(fields, "orders") == {"1" * 16}
    assert is_import_mark(MARK)
    assert not is_import_mark("Orders@" + "1" * 16)


def item(at: int, title: str, number: int = 0) -> Row:
    event = Item(event_id=f"{title}-{at}", occurred_at=at, item_id="a", title=title)
    headers = marks(number) if number else ()
    return decode_row(Row("items", 0, 0, AT, b"a", encode(event)), headers, 300_000)


def stored_title(folded: Folded) -> bytes | None:
    return folded.hash("items").get(b"a")


@given(st.permutations([(AT - 20, "x"), (AT - 10, "y"), (AT, "live"), (AT + 10, "z")]))
def test_of_imported_items_the_newest_stays_whatever_the_order(words: Sequence[tuple[int, str]]) -> None:
    folded = Folded(CatalogueLogic(ITEMS))
    for number, (at, title) in enumerate(words, 1):
        folded.fold([item(at, title, number)])
        folded = Folded(CatalogueLogic(ITEMS), folded.store)
    assert stored_title(folded) == item(AT + 10, "z").raw


def test_an_imported_item_replaces_no_newer_one_and_brings_no_removed_one_back() -> None:
    folded = Folded(CatalogueLogic(ITEMS))
    folded.fold([item(AT, "live"), item(AT - 1, "older", 1)])
    assert stored_title(folded) == item(AT, "live").raw
    folded.fold([decode_row(Row("items", 0, 1, AT + 5, b"a", None), (), 0)])
    again = Folded(CatalogueLogic(ITEMS), folded.store)
    again.fold([item(AT + 1, "sold before it was removed", 2)])
    assert stored_title(again) is None
    again.fold([item(AT + 9, "back", 3), item(AT + 9, "back", 3)])
    assert stored_title(again) == item(AT + 9, "back").raw
    assert [again.count(f"imported.items{word}") for word in ("", ".older", ".duplicate")] == [1, 2, 1]


def test_a_live_item_is_the_last_word_even_if_it_says_to_be_older() -> None:
    folded = Folded(CatalogueLogic(ITEMS))
    folded.fold([item(AT, "first"), item(AT - 5, "second")])
    assert stored_title(folded) == item(AT - 5, "second").raw


def test_a_removal_the_log_does_not_show_any_more_is_forgotten() -> None:
    folded = Folded(CatalogueLogic(ITEMS))
    folded.fold([decode_row(Row("items", 0, 0, AT, b"old", None), (), 0)])
    later = AT + SEEN_MAX_AGE_MS + 1
    Folded(CatalogueLogic(ITEMS), folded.store).fold(
        [decode_row(Row("items", 0, 1, later, b"new", None), (), 0)]
    )
    assert set(folded.hash("item_times")) == {b"new"}
