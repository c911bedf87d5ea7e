"""Consent, erasure, login merges, wrong shards: nothing is stored that must not be, nothing happens twice."""

import base64
from typing import Any

import msgspec
import numpy as np
import pytest

from state.events import User
from state.outbox import FORWARDED_HEADER, Message
from state.partition import shard_of
from state.sessions import session_hash
from state.subject import SubjectRecord, encode_subject
from stream.rows import Row
from tests.stream.folding import (
    AT,
    Folded,
    click,
    decision,
    decision_id,
    feedback,
    impression,
    passed_on,
    profile,
    shard,
    unsealed,
    user_of_shard,
)

OVER = AT + 10**7
PASSED_ON = [(FORWARDED_HEADER, b"1")]


def test_a_subject_without_consent_leaves_nothing_but_its_refusal() -> None:
    folded = shard()
    folded.fold([profile(consent="none"), decision(at=AT + 1), impression(at=AT + 2, decision=1)], AT)
    folded.fold([click("b", decision=1), feedback("hide", "c")], AT)
    record = folded.record("u1")
    assert record == SubjectRecord(consent="none", applied=record.applied, begins_after=AT, profile_at=AT)
    assert (folded.count("no_consent"), folded.hash("open"), folded.hash("sessions")) == (4, {}, {})
    assert [feed.interactions for feed in folded.shard_feeds()] == [[], []]
    assert folded.hash("trends") == {}


def test_taking_consent_back_forgets_what_was_stored_and_consent_begins_anew() -> None:
    folded = shard()
    folded.fold([click("a"), feedback("hide", "b"), profile(at=AT + 1, attributes={"age": 3.0})], AT)
    folded.fold([profile(at=AT + 2, consent="none", attributes={"age": 4.0})], AT)
    record = folded.record("u1")
    assert record == SubjectRecord(
        consent="none", applied=record.applied, begins_after=AT + 2, profile_at=AT + 2
    )
    folded.fold([profile(at=AT + 3, attributes={"age": 5.0})], AT)
    assert folded.record("u1").attributes == {}
    folded.fold([profile(at=AT + 4, consent="full"), click("c", at=AT + 5)], AT)
    assert folded.record("u1").recent == ["c"]


@pytest.mark.parametrize("leave", [{"erase": True}, {"consent": "none"}], ids=["erasure", "consent"])
def test_a_decision_open_at_erasure_or_refusal_writes_nothing_of_the_subject_again(
    leave: dict[str, Any],
) -> None:
    folded = shard()
    folded.fold([decision(), impression(decision=1), click("b", decision=1), click("z", user="u2")], AT)
    folded.fold([profile(at=AT + 1, **leave)], AT)
    folded.fold([], OVER)
    assert (folded.outcomes(), folded.hash("open"), folded.count("closed.forgotten")) == ([], {}, 1)
    assert folded.record("u1").bandit == b""
    assert folded.is_stored("u1") == ("consent" in leave)
    assert f"{{hw:0}}:d:{decision_id()}" not in folded.store.values
    assert list(folded.hash("sessions")) == [str(session_hash("u2", "s1")).encode()]
    assert folded.shard_feeds()[1].erased_sessions == [session_hash("u1", "s1")]


def test_an_erasure_and_what_came_before_it_in_one_batch_leave_nothing() -> None:
    folded = shard()
    folded.fold([decision(), impression(decision=1), click("b"), profile(at=AT + 1, erase=True)], AT)
    assert {key for key in folded.store.values if "u1" in key or ":d:" in key} == set()
    assert (folded.hash("open"), folded.hash("sessions"), folded.count("erased")) == ({}, {}, 1)


def test_a_visitor_who_comes_back_after_erasure_begins_anew() -> None:
    folded = shard()
    folded.fold([click("a"), profile(at=AT + 1, erase=True), click("b", at=AT + 2)], AT)
    assert folded.record("u1").recent == ["b"]


def shards(count: int = 2) -> list[Folded]:
    return [shard(number=n, shards=count) for n in range(count)]


def deliver(units: list[Folded], read_to: list[int] | None = None) -> int:
    """Hand every sent event on to the shard it went to, until nothing moves; returns how many went."""
    done, moved = read_to or [0] * len(units), 0
    while True:
        going = [m for n, unit in enumerate(units) for m in unit.sent[done[n] :] if m.partition is not None]
        done = [len(unit.sent) for unit in units]
        if not going:
            return moved
        moved += len(going)
        for message in going:
            units[to(message)].fold([passed_on(message, received_at=AT)], AT)


def to(message: Message) -> int:
    assert message.partition is not None
    return message.partition


def anonymous_of_shard(number: int, count: int) -> str:
    return next(s for s in map(str, range(1000)) if shard_of(f"s:{s}", count) == number)


@pytest.mark.parametrize(("home", "away"), [(0, 1), (1, 0), (0, 0)])
def test_a_login_carries_the_sessions_record_to_the_user_exactly_once(home: int, away: int) -> None:
    units = shards()
    user, session = user_of_shard(home, 2), anonymous_of_shard(away, 2)
    units[home].fold([click("a", user=user, at=AT + 10, session_id="old")], AT)
    before: list[Row] = [
        click("b", user=None, session_id=session, at=AT + 5),
        click("c", user=None, session_id=session, at=AT + 20),
        feedback("hide", "d", user=None, session_id=session),
    ]
    units[away].fold(before, AT)
    units[home].fold([profile(user, at=AT + 100, merge_session=session)], AT)
    assert deliver(units) == 2
    record = units[home].record(user)
    assert (record.recent, record.recent_at) == (["b", "a", "c"], [AT + 5, AT + 10, AT + 20])
    assert (record.hidden, record.clicks, record.session_id) == (["d"], 3, session)
    assert not units[away].is_stored(f"s:{session}")
    again = [m for unit in units for m in unit.messages("users")]
    read_to = [len(unit.sent) for unit in units]
    for message in again:  # an outbox is sent again after a crash
        units[to(message)].fold([passed_on(message, received_at=AT)], AT)
    assert deliver(units, read_to) == 1
    assert units[home].record(user).recent == ["b", "a", "c"]
    assert units[home].record(user).clicks == 3


@pytest.mark.parametrize("learnt", [("u1", "s:s1"), ("s:s1",), ("u1",)])
def test_a_login_adds_up_what_the_policy_learnt_of_session_and_user(learnt: tuple[str, ...]) -> None:
    folded = shard()
    for number, subject in enumerate(learnt):
        user = None if subject == "s:s1" else subject
        folded.fold([decision(user=user, number=number), impression(user=user, decision=number)], AT)
    folded.fold([], OVER)
    blocks = [np.frombuffer(unsealed(folded.record(subject).bandit)) for subject in learnt]
    rows = [profile("u1", at=OVER + 100, merge_session="s1")]
    for _ in range(3):  # the login, the question to the session's shard, and its answer
        sent = len(folded.sent)
        folded.fold(rows, OVER)
        rows = [passed_on(message, received_at=OVER + 100) for message in folded.sent[sent:]]
    assert np.frombuffer(unsealed(folded.record("u1").bandit)).tolist() == np.sum(blocks, axis=0).tolist()
    assert np.any(blocks)


def test_a_login_of_a_user_without_consent_takes_the_sessions_record_away_and_keeps_nothing() -> None:
    units = shards()
    user, session = user_of_shard(0, 2), anonymous_of_shard(1, 2)
    units[1].fold([click("b", user=None, session_id=session)], AT)
    units[0].fold([profile(user, consent="none")], AT)
    units[0].fold([profile(user, at=AT + 1, merge_session=session)], AT)
    deliver(units)
    assert units[0].record(user).recent == []
    assert not units[1].is_stored(f"s:{session}")


def test_a_login_whose_event_id_is_as_long_as_ids_may_be_still_merges() -> None:
    units = shards()
    user, session = user_of_shard(0, 2), anonymous_of_shard(1, 2)
    units[1].fold([click("b", user=None, session_id=session)], AT)
    units[0].fold([profile(user, at=AT + 100, event_id="x" * 128, merge_session=session)], AT)
    deliver(units)
    assert units[0].record(user).recent == ["b"]


@pytest.mark.parametrize(
    "carried",
    ["%%%", "AAAA", base64.b64encode(encode_subject(SubjectRecord(recent=["a"]))).decode()],
    ids=["no record", "damaged", "uneven"],
)
def test_a_carried_record_that_is_none_is_refused_and_stops_nobody(carried: str) -> None:
    folded = shard()
    folded.fold([profile(carried=carried, headers=PASSED_ON), click("b", user="u2")], AT)
    (letter,) = folded.letters()
    assert (letter.reason, folded.record("u2").recent) == ("out_of_bounds", ["b"])


@pytest.mark.parametrize("wrong_shard", [False, True])
@pytest.mark.parametrize(
    "event",
    [
        User(event_id="e", occurred_at=AT, user_id="s:victim", merge_session="thief"),
        User(event_id="e", occurred_at=AT, user_id="s:victim", erase=True),
        User(event_id="e", occurred_at=AT, user_id="u1", carried="AAAA"),
    ],
    ids=["take a session", "erase a session", "carry a record"],
)
def test_a_client_cannot_say_what_only_the_engine_says_not_even_through_another_shard(
    event: User, *, wrong_shard: bool
) -> None:
    units = shards()
    owner = shard_of(event.user_id, 2)
    given = msgspec.to_builtins(event)
    client = profile(given.pop("user_id"), at=given.pop("occurred_at"), **given)
    met = units[1 - owner if wrong_shard else owner]
    met.fold([client], AT)
    (letter,) = met.letters()
    assert letter.reason == "reserved_id"
    assert met.messages("users") == []


def test_a_misrouted_event_is_forwarded_once_to_its_owner_as_it_came() -> None:
    units = shards()
    user = user_of_shard(1, 2)
    event = click("b", user=user)
    units[0].fold([event], AT)
    (message,) = units[0].sent
    assert (message.kind, message.partition, message.value) == ("clicks", 1, event.raw)
    assert (message.forwarded, message.key) == (True, user.encode())
    assert units[0].count("forwarded") == 1
    assert not units[0].is_stored(user)
    for _ in range(2):
        units[1].fold([passed_on(message, received_at=AT)], AT)
    assert (units[1].record(user).recent, units[1].count("clicks.duplicate")) == (["b"], 1)


def test_an_event_that_is_still_wrong_after_forwarding_is_a_dead_letter() -> None:
    units = shards()
    units[0].fold([click("b", user=user_of_shard(1, 2))], AT)
    (message,) = units[0].sent
    units[0].fold([passed_on(message, received_at=AT)], AT)
    (letter,) = units[0].letters()
    assert letter.reason == "misrouted"
    assert len(units[0].messages("clicks")) == 1


def test_every_message_of_a_shard_has_the_next_number_across_restarts() -> None:
    first = shard(shards=2)
    strangers = [click("b", user=f"u{n}") for n in range(40)]
    first.fold(strangers[:20], AT)
    second = shard(first.store, shards=2)
    second.fold(strangers[20:], AT)
    numbers = [message.number for message in first.sent + second.sent]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 10
