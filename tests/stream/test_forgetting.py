"""Erasure and refusal of consent by values: nothing of the subject is left, nobody else loses anything."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from state.erasure import ErasureKeys, ErasureList
from state.events import User, subject_of
from state.feed import NO_SESSION
from state.keys import decisions_of_key, subject_key
from state.partition import shard_of
from state.receipts import Erasure
from state.retention import DAY_MS, DECISIONS_CAP, MERGED_CAP, SESSIONS_CAP
from state.sessions import session_hash
from stream.rows import Row
from tests.stream.folding import (
    AT,
    Folded,
    Store,
    click,
    decision,
    decision_id,
    feedback,
    impression,
    passed_on,
    profile,
    settings,
    shard,
)

VICTIM, OTHERS = "qvictim", ("other-1", "other-2")
SESSIONS = ("qsession-a", "qsession-b", "qanonymous")
END = AT + 10**6
WEEK_MS = 604_800_000
KEYS = ErasureKeys(settings().erasure_key())
USERS: st.SearchStrategy[str | None] = st.sampled_from([VICTIM, *OTHERS, None])
STEP = st.tuples(
    st.sampled_from(["click", "hide", "decide", "show", "log in", "attributes", "wait"]),
    USERS,
    st.sampled_from(SESSIONS),
    st.integers(0, 5),
)


def row_of(step: tuple[str, str | None, str, int], place: int, decided: dict[int, str]) -> Row | None:
    what, user, session, number = step
    at, subject = AT + 10 * place, subject_of(user, session)
    more: dict[str, Any] = {"at": at, "user": user, "session_id": session}
    if what in ("click", "hide"):
        return click(f"i{number}", **more) if what == "click" else feedback("hide", f"i{number}", **more)
    if what == "decide":
        decided[place] = subject
        return decision(number=place, **more)
    if what == "show":
        known = [one for one, whose in decided.items() if whose == subject]
        return impression(decision=known[-1], **more) if known else impression(**more)
    if user is None or what == "wait":
        return None
    if what == "log in":
        return profile(user, at=at, merge_session=session)
    return profile(user, at=at, attributes={"plan": f"gold {number}"})


def deliver(folded: Folded, done: int) -> int:
    """Hand what a shard sent to itself back to it, until nothing moves; returns how much it has sent."""
    while done < len(folded.sent):
        going = [message for message in folded.sent[done:] if message.forwarded]
        done = len(folded.sent)
        folded.fold([passed_on(message, received_at=END) for message in going], AT)
    return done


def traffic(steps: Sequence[tuple[str, str | None, str, int]], close: bool) -> tuple[Folded, dict[int, str]]:
    folded, decided, done = shard(), dict[int, str](), 0
    for place, step in enumerate(steps):
        row = row_of(step, place, decided)
        folded.fold([row] if row is not None else [], AT)
        done = deliver(folded, done)
    if close:
        folded.fold([], AT + 10**7)
    return folded, decided


def traces(store: Store, words: Sequence[str | bytes]) -> list[tuple[str, str]]:
    """Return where the store holds one of the words, in a key, field or value, in text or bytes."""
    held = [
        *((key, key.encode()) for key in (*store.values, *store.hashes, *store.indexes)),
        *store.values.items(),
        *((key, part) for key, hash_ in store.hashes.items() for pair in hash_.items() for part in pair),
        *((key, json.dumps(members).encode()) for key, members in store.indexes.items()),
        ("meta", json.dumps(store.meta).encode()),
    ]
    needles = [word if isinstance(word, bytes) else word.encode() for word in words]
    return [(key, repr(needle)) for key, raw in held for needle in needles if needle in raw]


def numbers_of(subject: str) -> list[str | bytes]:
    """Return the session hashes of a subject as stored: in digits, and packed."""
    hashes = [session_hash(subject, session) for session in SESSIONS]
    return [*map(str, hashes), *(one.to_bytes(8, "little", signed=True) for one in hashes)]


@hypothesis_settings(max_examples=150, deadline=None)
@given(st.lists(STEP, min_size=3, max_size=25), st.booleans(), st.sampled_from(["erase", "refuse"]))
def test_after_an_erasure_nothing_in_the_store_holds_the_subject_its_sessions_or_its_decisions(
    steps: list[tuple[str, str | None, str, int]], close: bool, how: str
) -> None:
    folded, decided = traffic(steps, close)
    merged = [f"s:{session}" for session in folded.record(VICTIM).merged]
    gone = [VICTIM, *merged]
    leave = {"erase": True} if how == "erase" else {"consent": "none"}
    done = len(folded.sent)
    folded.fold([profile(VICTIM, at=END, **leave)], AT)
    deliver(folded, done)
    words: list[str | bytes] = [decision_id(number) for number, whose in decided.items() if whose in gone]
    for subject in gone:
        words += numbers_of(subject)
        if subject != VICTIM or how == "erase":
            words.append(subject)
    assert traces(folded.store, words) == []
    if how == "refuse":
        mark = subject_key("{hw:0}:", VICTIM)
        assert {key for key, _ in traces(folded.store, [VICTIM])} <= {mark}
        record = folded.record(VICTIM)
        assert (record.consent, record.recent, record.hidden, record.sessions) == ("none", [], [], b"")
    folded.fold([], END + 10**7)
    assert traces(folded.store, words) == []


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.lists(STEP, min_size=3, max_size=25))
def test_an_erasure_takes_nothing_from_anybody_else(steps: list[tuple[str, str | None, str, int]]) -> None:
    steps = [step for step in steps if step[0] != "log in"]
    folded, decided = traffic(steps, close=False)
    before = {other: folded.record(other) for other in OTHERS}
    folded.fold([profile(VICTIM, at=END, erase=True)], AT)
    assert {other: folded.record(other) for other in OTHERS} == before
    for number, whose in decided.items():
        stored = f"{{hw:0}}:d:{decision_id(number)}" in folded.store.values
        assert stored == (whose != VICTIM)
    others = {
        session_hash(step[1], step[2])
        for step in steps
        if step[0] == "click" and step[1] in OTHERS and step[1] is not None
    }
    assert {str(one).encode() for one in others} <= set(folded.hash("sessions"))


def entry_of(folded: Folded, subject: str = "u1") -> Erasure:
    raw = folded.hash("erased")[KEYS.subject(subject).encode()]
    return msgspec.json.decode(raw, type=Erasure)


def test_an_erasure_is_listed_under_a_keyed_hash_with_what_it_removed() -> None:
    folded = shard()
    rows = [decision(number=n, at=AT + n) for n in (1, 2)]
    folded.fold([*rows, impression(decision=1), click("b"), click("c", session_id="s2")], AT)
    folded.fold([], AT + 10**7)
    folded.fold([decision(number=3, at=AT + 10**7)], AT + 10**7)
    erase = profile(at=AT + 2 * 10**7, erase=True, why="asked for it", event_id="r-1")
    folded.fold([erase], AT + 10**7)
    entry = entry_of(folded)
    removed = entry.removed
    assert (removed.records, removed.open_decisions, removed.sessions, entry.decisions) == (1, 1, 2, 3)
    assert (entry.receipt_id, entry.erased_at, entry.why) == (
        KEYS.receipt_id("r-1"),
        AT + 2 * 10**7,
        "asked for it",
    )
    assert (entry.rebuilt_at, entry.commit) == (None, 4)
    assert entry.rebuild_by == erase.received_at + WEEK_MS
    assert entry.kafka_ends_at == erase.received_at + 90 * DAY_MS


def test_what_occurred_before_an_erasure_and_arrives_after_it_has_no_effect() -> None:
    folded = shard()
    early = [click("a", at=AT), decision(at=AT + 1), profile(at=AT + 2, attributes={"age": 1.0})]
    folded.fold([*early, profile(at=AT + 10, erase=True)], AT)
    folded.fold([*early, click("b", at=AT + 10), feedback("hide", "c", at=AT + 9)], AT)
    assert traces(folded.store, ["u1", decision_id()]) == []
    counts = [folded.count(f"{kind}.erased") for kind in ("clicks", "feedback", "decisions", "users")]
    assert counts == [2, 1, 1, 1]
    again = shard(folded.store)  # another owner reads the list first
    again.fold([click("a", at=AT), click("d", at=AT + 11)], AT)
    assert again.record("u1").recent == ["d"]
    again.fold([click("e", at=AT + 5), profile(at=AT + 10, erase=True)], AT)  # once it is known again
    assert (again.record("u1").recent, again.count("clicks.erased")) == (["d"], 4)


def test_a_repeated_erasure_keeps_the_entry_that_says_what_was_removed() -> None:
    folded = shard()
    folded.fold([click("a"), profile(at=AT + 1, erase=True)], AT)
    folded.fold([profile(at=AT + 2, erase=True)], AT)
    assert (entry_of(folded).removed.records, folded.count("erased_again")) == (1, 1)
    folded.fold([click("b", at=AT + 3), profile(at=AT + 4, erase=True)], AT)
    assert entry_of(folded).erased_at == AT + 4


def test_it_is_never_too_late_to_be_forgotten() -> None:
    folded = shard()
    folded.fold([click("a"), click("b", user="u2")], AT)
    folded.fold([], AT + 10**6)
    late = [profile("u1", at=AT + 1, erase=True), profile("u2", at=AT + 1, consent="none")]
    folded.fold([*late, click("c", at=AT + 2, user="u3")], AT + 10**6)
    assert (folded.is_stored("u1"), folded.record("u2").consent) == (False, "none")
    assert (folded.count("clicks.late"), folded.hash("sessions")) == (1, {})


def test_a_visitor_back_in_the_batch_of_the_erasure_keeps_only_what_is_new() -> None:
    folded = shard()
    folded.fold([click("a", at=AT), decision(number=1)], AT)
    back = [decision(number=2, at=AT + 6), click("c", at=AT + 7)]
    folded.fold([click("b", at=AT + 2), decision(number=9), profile(at=AT + 5, erase=True), *back], AT)
    assert folded.record("u1").recent == ["c"]
    assert {key for key in folded.store.values if ":d:" in key} == {f"{{hw:0}}:d:{decision_id(2)}"}
    assert folded.record("u1").decisions == [decision_id(2)]
    (feed,) = folded.shard_feeds()[1:]
    session = session_hash("u1", "s1")
    assert [(step.session, step.item_id) for step in feed.interactions] == [(NO_SESSION, "b"), (session, "c")]
    assert feed.erased_sessions == [session]


def test_the_change_feed_is_emptied_where_it_told_of_the_subject_and_only_there() -> None:
    folded = shard()
    assert not folded.fold([click("a"), click("z", user="u2")], AT).empties_feed
    assert folded.fold([profile(at=AT + 1, erase=True)], AT).empties_feed
    assert not folded.fold([profile("new", at=AT + 1, consent="none")], AT).empties_feed
    assert folded.fold([profile("u2", at=AT + 1, consent="none")], AT).empties_feed
    assert not folded.fold([profile("u2", at=AT + 2, consent="none")], AT).empties_feed


def test_consent_given_back_begins_with_what_occurs_from_then_on() -> None:
    folded = shard()
    folded.fold([click("a", at=AT), profile(at=AT + 10, consent="none")], AT)
    folded.fold([profile(at=AT + 20, consent="full"), click("b", at=AT + 15), click("a", at=AT)], AT)
    folded.fold([click("c", at=AT + 20), profile(at=AT + 10, consent="none", event_id="again")], AT)
    assert (folded.record("u1").recent, folded.record("u1").consent) == (["c"], "full")
    assert (folded.count("clicks.erased"), folded.count("users.erased")) == (2, 1)


def test_an_anonymous_session_is_erased_with_proof_only() -> None:
    folded = shard()
    session = "s:visitor"
    folded.fold([click("a", user=None, session_id="visitor"), decision(user=None, session_id="visitor")], AT)
    proof = KEYS.proof("e2", session, AT + 2)
    forged = [
        profile(session, at=AT + 2, event_id="e1", erase=True, proof=proof),
        profile(session, at=AT + 2, event_id="e2", erase=True),
        profile(session, at=AT + 2, event_id="e2", proof=proof, consent="none"),
    ]
    folded.fold(forged, AT)
    assert [letter.reason for letter in folded.letters()] == ["reserved_id"] * 3
    assert folded.is_stored(session)
    folded.fold([profile(session, at=AT + 2, event_id="e2", erase=True, proof=proof)], AT)
    digits = str(session_hash(session, "visitor"))
    assert traces(folded.store, ["visitor", digits, decision_id()]) == []


def test_a_login_links_the_session_so_that_its_decisions_and_sessions_go_with_the_user() -> None:
    shards = 2
    units = [shard(number=n, shards=shards) for n in range(shards)]
    user = next(f"u{n}" for n in range(99) if shard_of(f"u{n}", shards) == 0)
    session = next(f"v{n}" for n in range(99) if shard_of(f"s:v{n}", shards) == 1)
    units[1].fold(
        [decision(user=None, session_id=session), click("a", user=None, session_id=session, at=AT)], AT
    )
    units[0].fold([profile(user, at=AT + 5, merge_session=session)], AT)
    move(units, units[0], units[1])
    move(units, units[1], units[0])
    assert units[0].record(user).merged == [session]
    assert f"{{hw:1}}:d:{decision_id()}" in units[1].store.values
    units[0].fold([profile(user, at=AT + 9, erase=True)], AT)
    move(units, units[0], units[1])
    assert traces(units[0].store, [user, session]) == []
    assert traces(units[1].store, [session, decision_id(), str(session_hash(f"s:{session}", session))]) == []
    assert entry_of(units[0], user).merged == [(1, KEYS.subject(f"s:{session}"))]
    assert entry_of(units[1], f"s:{session}").decisions == 1


def move(units: list[Folded], source: Folded, target: Folded) -> None:
    going = [m for m in source.sent if m.forwarded and m.partition == units.index(target)]
    source.sent.clear()
    target.fold([passed_on(message, received_at=AT) for message in going], AT)


def test_a_user_erased_while_a_session_is_on_its_way_to_it_gets_nothing_of_it() -> None:
    folded = shard()
    folded.fold([click("a", user=None, session_id="v"), profile(at=AT + 2000, merge_session="v")], AT)
    folded.fold([profile(at=AT + 3000, erase=True)], AT)
    deliver(folded, 0)
    assert traces(folded.store, ["u1", "s:v"]) == []
    assert folded.hash("sessions") == {}


def test_what_a_record_cannot_list_any_more_is_removed() -> None:
    folded = shard()
    visits = [click("a", at=AT + n, session_id=f"v{n}") for n in range(SESSIONS_CAP + 3)]
    folded.fold([row for n, row in enumerate(visits) if n % 4 != 3], AT)
    folded.fold([row for n, row in enumerate(visits) if n % 4 == 3], AT)
    listed = {str(one).encode() for one in folded.record("u1").session_hashes()}
    assert set(folded.hash("sessions")) <= listed
    logins = [profile(at=AT + n, merge_session=f"m{n}", event_id=f"m{n}") for n in range(MERGED_CAP + 2)]
    folded.fold(logins, AT)
    sent = [msgspec.json.decode(m.value, type=User) for m in folded.messages("users")]
    assert [event.user_id for event in sent if event.erase] == ["s:m0", "s:m1"]


def test_decisions_that_came_in_the_batch_of_the_erasure_leave_neither_values_nor_an_index() -> None:
    folded = shard()
    rows = [decision(number=n, at=AT + n) for n in range(2 * DECISIONS_CAP + 1)]
    folded.fold([*rows, profile(at=AT + 200, erase=True)], AT)
    assert (traces(folded.store, ["u1"]), folded.store.indexes) == ([], {})
    assert (folded.hash("open"), entry_of(folded).decisions) == ({}, 0)


@pytest.mark.parametrize("subject", ["u1", "s:s1"])
def test_an_erasure_finds_the_decisions_of_record_and_index_and_after_a_login(subject: str) -> None:
    folded = shard()
    count, user = DECISIONS_CAP + 5, None if subject == "s:s1" else subject
    folded.fold([decision(user=user, number=n, at=AT + n) for n in range(count)], AT)
    assert len(folded.store.indexes[decisions_of_key("{hw:0}:", subject)]) == DECISIONS_CAP
    folded.fold([decision(user="u2", number=count)], AT)
    if user is None:  # its record moves to the user, then all goes
        folded.fold([profile("u1", at=AT + 100, merge_session="s1")], AT)
        deliver(folded, 0)
    done = len(folded.sent)
    folded.fold([profile("u1", at=AT + 200, erase=True)], AT)
    deliver(folded, done)
    assert {key for key in folded.store.values if ":d:" in key} == {f"{{hw:0}}:d:{decision_id(count)}"}
    assert (folded.store.indexes, entry_of(folded, subject).decisions) == ({}, count)


@pytest.mark.parametrize("secret", ["another secret entirely", "a secret of the test"])
def test_another_secret_finds_nobody_on_the_list(secret: str) -> None:
    folded = shard()
    folded.fold([click("a"), profile(at=AT + 9000, erase=True)], AT)
    stored = folded.hash("erased")
    assert ErasureList(KEYS, stored).erased_at("u1") == AT + 9000
    assert ErasureList(ErasureKeys(secret.encode()), stored).erased_at("u1") == 0
