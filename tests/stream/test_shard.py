"""A shard folds values into one change: outcomes, rewards, records and counters, exactly once each."""

import base64
import itertools
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.hybrid import Posterior, packed_size
from bandits.ranking import ARM_DIM, CONTEXT_DIM, ranking_policy
from state.events import Click, Event
from state.packing import from_base64, to_base64, unpack_vector
from state.sessions import session_hash
from state.settings import FeedbackKind
from state.subject import SEAL_BYTES, id_hash
from state.tokens import TokenSigner
from stream.rows import Row, decode_row
from tests.stream.folding import (
    AT,
    DIMS,
    Folded,
    click,
    decision,
    decision_event,
    decision_id,
    feedback,
    impression,
    profile,
    row,
    shard,
    token,
    unsealed,
)

WINDOW, LATENESS = 600_000, 30_000
OVER = AT + WINDOW + LATENESS + 10_000


def event_of(one: Row) -> Event:
    """The event of a row that was understood."""
    assert one.event is not None
    return one.event


def learnt(folded: Folded) -> dict[str, np.ndarray]:
    """The shard's bandit blocks by field."""
    return {name.decode(): unpack_vector(unsealed(raw)) for name, raw in folded.hash("bandit").items()}


def test_a_clicked_decision_gives_one_outcome_with_its_reward() -> None:
    folded = shard()
    folded.fold([decision(), impression(decision=1), click("b", decision=1)], AT)
    assert folded.outcomes() == []
    folded.fold([], OVER)
    (outcome,) = folded.outcomes()
    assert [(slot.item_id, slot.position, slot.reward) for slot in outcome.slots] == [
        ("a", 0, 0.0),
        ("b", 1, 1.0),
        ("c", 2, 0.0),
    ]
    assert (outcome.event_id, outcome.subject, outcome.surface) == (decision_id(), "u1", "home")
    assert (outcome.shown_at, outcome.occurred_at, outcome.lane) == (AT, OVER, 0)
    event = decision_event()
    assert (outcome.features, outcome.logits, outcome.versions, outcome.rung) == (
        event.features,
        event.logits,
        event.versions,
        "personal",
    )
    (message,) = folded.messages("outcomes")
    assert (message.key, message.partition) == (b"home#0", 0)
    assert folded.count("closed.outcome") == folded.count("rewarded.home") == 1


def test_a_closed_decision_teaches_shared_item_and_user_blocks_in_the_same_commit() -> None:
    folded = shard()
    folded.fold([decision(), impression(decision=1), click("b", decision=1)], AT)
    assert learnt(folded) == {}
    change = folded.fold([], OVER)
    blocks = learnt(folded)
    assert set(blocks) == {"shared", "i:a", "i:b", "i:c"}
    assert blocks["shared"].shape == (packed_size(CONTEXT_DIM * ARM_DIM),)
    assert blocks["shared"][0] == 3
    assert [blocks[f"i:{item}"][0] for item in "abc"] == [1, 1, 1]
    assert len(folded.record("u1").bandit) == SEAL_BYTES + 8 * packed_size(ARM_DIM)
    assert change.outbox, "the outcome leaves with the same change"
    feed = folded.shard_feeds()[-1]
    assert (feed.bandit_shared, feed.bandit_items) == (True, ["a", "b", "c"])


def test_what_is_learnt_raises_the_clicked_item_and_lowers_the_others() -> None:
    folded = shard()
    for n in range(40):
        folded.fold([decision(number=n, at=AT + n), impression(at=AT + n, decision=n)], AT)
        folded.fold([click("b", at=AT + 1000 + n, decision=n)], AT)
    folded.fold([], OVER)
    posterior = Posterior(ranking_policy())
    blocks = learnt(folded)
    posterior.put_shared(0, blocks.pop("shared"))
    posterior.put_items(0, {name[2:]: block for name, block in blocks.items()})
    user = np.frombuffer(unsealed(folded.record("u1").bandit))
    arms = from_base64(decision_event().arms).reshape(3, -1)
    mean, _ = posterior.score(np.ones(DIMS[0]), arms, ["a", "b", "c"], user, with_variance=False)
    assert mean.argmax() == 1
    assert mean[1] > 0


def test_without_a_click_every_reward_is_zero_when_the_window_closes() -> None:
    folded = shard()
    folded.fold([decision(), impression(decision=1)], AT)
    folded.fold([], AT + WINDOW)
    assert folded.outcomes() == []
    folded.fold([], AT + WINDOW + 1)
    (outcome,) = folded.outcomes()
    assert [slot.reward for slot in outcome.slots] == [0.0, 0.0, 0.0]
    assert folded.count("rewarded.home") == 0
    assert learnt(folded)["shared"][0] == 3


def test_a_decision_nobody_was_shown_gives_no_outcome_and_teaches_nothing() -> None:
    folded = shard()
    folded.fold([decision()], AT)
    folded.fold([], OVER)
    assert (folded.count("closed.unseen"), folded.outcomes(), learnt(folded)) == (1, [], {})
    assert folded.hash("open") == {}


def test_only_the_slots_that_were_shown_are_judged() -> None:
    folded = shard()
    folded.fold([decision(), impression(["c", "a"], decision=1), click("b", decision=1)], AT)
    folded.fold([], OVER)
    (outcome,) = folded.outcomes()
    assert [(slot.item_id, slot.reward) for slot in outcome.slots] == [("a", 0.0), ("c", 0.0)]
    features = from_base64(decision_event().features).reshape(3, -1)
    np.testing.assert_array_equal(from_base64(outcome.features).reshape(2, -1), features[[0, 2]])


@pytest.mark.parametrize("flag", ["pinned", "fallback", "holdout"])
def test_a_flagged_slot_gives_an_outcome_and_teaches_no_policy(flag: str) -> None:
    folded = shard()
    folded.fold([decision(flag=flag), impression(decision=1), click("b", decision=1)], AT)
    folded.fold([], OVER)
    (outcome,) = folded.outcomes()
    assert {slot.flag for slot in outcome.slots} == {flag}
    assert (learnt(folded), folded.record("u1").bandit) == ({}, b"")


def test_an_unattributed_click_updates_the_record_and_teaches_no_policy() -> None:
    folded = shard()
    folded.fold([decision(), impression(decision=1), click("b")], AT)
    assert folded.record("u1").recent == ["b"]
    assert folded.count("unattributed.rewards") == 1
    folded.fold([], OVER)
    (outcome,) = folded.outcomes()
    assert [slot.reward for slot in outcome.slots] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "forged",
    [
        "not a token",
        TokenSigner(b"the secret of another").sign(decision_id(), "u1", AT * 2),
        token(decision_id(), "u2"),
        token(decision_id(), "u1", expires_at=AT + 999),
    ],
    ids=["nonsense", "other secret", "other subject", "expired"],
)
def test_a_forged_or_foreign_token_counts_as_unattributed(forged: str) -> None:
    folded = shard()
    lying = msgspec.structs.replace(event_of(click("b")), decision=forged)
    folded.fold([decision(), impression(decision=1), row("clicks", lying)], AT)
    assert folded.count("forged_tokens") == folded.count("unattributed.rewards") == 1
    assert folded.record("u1").recent == ["b"]
    folded.fold([], OVER)
    assert folded.count("rewarded.home") == 0


def test_a_token_is_opened_once_however_much_its_event_earns(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, plain = [], TokenSigner.open

    def counted(signer: TokenSigner, *given: Any) -> str | None:
        opened.append(given[0])
        return plain(signer, *given)

    monkeypatch.setattr(TokenSigner, "open", counted)
    folded = shard()
    folded.fold([decision(), impression(decision=1), feedback("purchase", decision=1)])
    assert len(opened) == 2
    folded.fold([], OVER)
    (outcome,) = folded.outcomes()
    assert [(slot.reward > 0, slot.earned) for slot in outcome.slots] == [
        (False, []), (True, ["purchase"]), (False, []),
    ]  # fmt: skip


def test_every_order_of_one_decisions_events_gives_the_same_outcome() -> None:
    events = [decision(), impression(decision=1), click("b", decision=1), feedback("like", "c", decision=1)]
    seen = set()
    for order in itertools.permutations(events):
        folded = shard()
        folded.fold(order, AT)
        folded.fold([], OVER)
        (message,) = folded.messages("outcomes")
        seen.add(message.value)
    assert len(seen) == 1


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(12)), st.lists(st.integers(0, 12), max_size=4))
def test_no_order_and_no_batching_changes_what_is_counted(order: list[int], cuts: list[int]) -> None:
    events = [
        event
        for n in range(3)
        for event in (
            decision(number=n, user=f"u{n}"),
            impression(user=f"u{n}", decision=n),
            click("a", user=f"u{n}", decision=n),
            feedback("dwell", "z", user=f"u{n}", value=30.0),
        )
    ]
    folded = shard()
    edges = [0, *sorted(cuts), 12]
    for start, end in itertools.pairwise(edges):
        folded.fold([events[n] for n in order[start:end]], AT)
    folded.fold([], OVER)
    assert sorted(one.event_id for one in folded.outcomes()) == [decision_id(n) for n in range(3)]
    assert [folded.count(name) for name in ("impressions", "clicks", "feedback", "decisions")] == [3] * 4
    assert folded.count("rewarded.home") == 3


@pytest.mark.parametrize("event", [decision(), impression(decision=1), click("b"), feedback("hide")])
def test_a_repeated_event_is_counted_and_has_no_other_effect(event: Row) -> None:
    once, twice = shard(), shard()
    once.fold([event], AT)
    twice.fold([event, event], AT)
    twice.fold([event], AT)
    kind = event.kind
    assert (twice.count(f"{kind}.duplicate"), twice.count(kind)) == (2, 1)
    assert twice.store.values == once.store.values
    assert twice.hash("trends") == once.hash("trends")


def test_a_late_event_is_counted_and_has_no_other_effect() -> None:
    folded = shard()
    folded.fold([], AT)
    folded.fold([click("a", at=AT), impression(at=AT - 1)], AT)
    counts = [folded.count(name) for name in ("impressions.late", "impressions", "clicks")]
    assert counts == [1, 0, 1]
    assert folded.record("u1").impressions == 0


def test_a_backlog_in_one_batch_does_not_make_its_own_beginning_late() -> None:
    folded = shard()
    folded.fold([decision(), impression(decision=1), click("b", decision=1)], OVER)
    assert folded.count("rewarded.home") == 1


@pytest.mark.parametrize("kind", ["hide", "dislike"])
def test_a_hidden_item_is_remembered_exactly_and_once(kind: str) -> None:
    folded = shard()
    folded.fold([feedback(kind, "b"), feedback(kind, "b", at=AT + 2000), feedback(kind, "c")], AT)
    record = folded.record("u1")
    assert (record.hidden, record.recent, record.seen) == (["b", "c"], [], b"")
    assert folded.hash("trends") == {}


def test_a_neutral_feedback_marks_the_item_as_seen_and_moves_no_taste_and_no_trend() -> None:
    folded = shard(feedback={"noticed": FeedbackKind(sign=0)})
    folded.fold([feedback("noticed", "b")], AT)
    record = folded.record("u1")
    assert (record.recent, record.recent_interest) == (["b"], [0.0])
    assert len(record.seen_rows()) == 1
    assert folded.hash("trends") == {}


def test_too_many_hidden_items_are_refused_loudly() -> None:
    folded = shard(hidden_cap=2)
    folded.fold([feedback("hide", item) for item in "abcb"], AT)
    assert folded.record("u1").hidden == ["a", "b"]
    (letter,) = folded.letters()
    assert letter.reason == "hidden_full"
    assert "field 'item_id' has value 'c'" in letter.detail
    assert "at most 2 hidden items" in letter.detail
    assert folded.count("refused.hidden_full") == 1


def test_an_unknown_kind_of_feedback_is_refused_with_the_known_ones() -> None:
    folded = shard()
    folded.fold([feedback("shrug")], AT)
    (letter,) = folded.letters()
    assert letter.reason == "unknown_feedback"
    assert "add_to_cart, dislike, dwell, hide, like, purchase, rating" in letter.detail


def test_a_refused_record_keeps_its_place_and_bytes_among_the_dead_letters() -> None:
    folded = shard()
    bad = row("clicks", event_of(click()), offset=41)
    bad.raw, bad.event = b"{", None
    folded.fold([decode_row(bad, (), 0), click("b")], AT)
    (letter,) = folded.letters()
    assert (letter.topic, letter.partition, letter.offset) == ("clicks", 0, 41)
    assert base64.b64decode(letter.raw) == b"{"
    assert base64.b64decode(letter.key or "") == b"u1"
    assert (letter.reason, folded.count("refused"), folded.count("clicks")) == ("malformed_json", 1, 1)


def test_a_decision_without_a_row_for_each_slot_is_refused() -> None:
    folded = shard()
    folded.fold([decision(features=to_base64(np.ones(44))), decision(number=2, logits="")], AT)
    details = [letter.detail for letter in folded.letters()]
    assert ["field 'features'" in details[0], "field 'logits'" in details[1]] == [True, True]


@pytest.mark.parametrize("name", ["context", "features", "arms", "logits"])
@pytest.mark.parametrize(
    "packed",
    ["AAA", "ü", "AAAA", to_base64(np.full(45, np.nan)), to_base64(np.full(45, -np.inf))],
    ids=["cut", "no base64", "half a number", "not a number", "infinite"],
)
def test_a_decision_with_arrays_nothing_can_learn_from_is_refused_and_stops_nobody(
    name: str, packed: str
) -> None:
    """A poisoned record must not come back at every restart: it is refused before its window opens."""
    folded = shard()
    poisoned = msgspec.structs.replace(decision_event(number=1), **{name: packed})
    folded.fold([row("decisions", poisoned), impression(decision=1)], AT)
    folded.fold([decision(number=2), impression(at=AT + 1, decision=2)], AT)
    folded.fold([], OVER)
    (letter,) = folded.letters()
    assert letter.reason == "out_of_bounds"
    assert f"field '{name}'" in letter.detail
    assert [one.event_id for one in folded.outcomes()] == [decision_id(2)]


def test_a_decision_of_a_version_with_other_features_gives_an_outcome_and_teaches_nothing() -> None:
    folded = shard()
    folded.fold([decision(context=to_base64(np.ones(4))), impression(decision=1)], AT)
    folded.fold([], OVER)
    assert (len(folded.outcomes()), learnt(folded)) == (1, {})


def test_an_item_is_counted_into_shared_statistics_three_times_an_hour_and_subject() -> None:
    folded = shard()
    items = [f"i{n}" for n in range(60)]
    rows = [click(item, at=AT + 1000 * n) for n, item in enumerate(items * 5)]
    folded.fold(rows, AT)
    counted = [step.item_id for feed in folded.shard_feeds() for step in feed.interactions]
    assert {item: counted.count(item) for item in items} == dict.fromkeys(items, 3)
    folded.fold([click("i0", at=AT + 1, user="u2")], AT)
    assert folded.shard_feeds()[-1].interactions[0].item_id == "i0"


def test_a_click_and_a_purchase_of_one_item_are_one_interaction_of_the_stronger_interest() -> None:
    folded = shard()
    rows = [feedback("dwell", "b", value=30.0), feedback("purchase", "b", at=AT + 2000)]
    folded.fold(rows, AT)
    record = folded.record("u1")
    assert (record.recent, record.recent_interest, record.events) == (["b"], [1.0], 2)
    assert len(folded.shard_feeds()[0].interactions) == 1


def test_silence_or_another_session_id_begins_a_new_session() -> None:
    folded = shard(session_idle_s=60.0)
    folded.fold([click("a", at=AT), click("b", at=AT + 60_000)], AT)
    assert folded.record("u1").session_items == ["a", "b"]
    folded.fold([click("c", at=AT + 120_001)], AT)
    assert (folded.record("u1").session_items, folded.record("u1").session_start) == (["c"], AT + 120_001)
    folded.fold([click("d", at=AT + 121_000, session_id="s2")], AT)
    assert (folded.record("u1").session_id, folded.record("u1").session_items) == ("s2", ["d"])


def test_interactions_are_fed_and_stored_under_their_session() -> None:
    folded = shard()
    folded.fold([click("a"), click("b", at=AT + 5)], AT)
    session = session_hash("u1", "s1")
    assert list(folded.hash("sessions")) == [str(session).encode()]
    (feed,) = folded.shard_feeds()
    assert [(step.session, step.item_id, step.at_ms) for step in feed.interactions] == [
        (session, "a", AT + 1000),
        (session, "b", AT + 5),
    ]
    assert feed.watermark == AT
    assert folded.record("u1").seen_rows()["item"].tolist() == [id_hash("a"), id_hash("b")]


def test_the_coldest_session_leaves_first_and_the_feed_says_so() -> None:
    folded = shard(max_sessions=2)
    folded.fold([click("a", user="u1", at=AT + 900), click("a", user="u2", at=AT + 100)], AT)
    folded.fold([click("a", user="u3", at=AT + 500)], AT)
    left = {str(session_hash(user, "s1")).encode() for user in ("u1", "u3")}
    assert set(folded.hash("sessions")) == left
    assert folded.shard_feeds()[-1].dropped_sessions == [session_hash("u2", "s1")]


def test_decisions_are_kept_with_a_time_to_live() -> None:
    folded = shard(decision_ttl_s=100.0)
    change = folded.fold([decision()], AT)
    key = f"{{hw:0}}:d:{decision_id()}"
    assert change.values[key] == (decision().raw, 100_000)


def test_an_empty_batch_changes_nothing_but_the_watermark_of_the_feed() -> None:
    folded = shard()
    change = folded.fold([], AT)
    assert (change.values, change.fields, change.outbox) == ({}, {}, [])
    assert folded.shard_feeds()[0].watermark == AT


def test_profile_attributes_are_merged_field_by_field() -> None:
    folded = shard()
    folded.fold([profile(attributes={"age": 30.0, "city": "Ulm"})], AT)
    folded.fold([profile(at=AT + 1, attributes={"city": "Bonn"})], AT)
    assert folded.record("u1").attributes == {"age": 30.0, "city": "Bonn"}


def test_an_interaction_is_fed_with_its_surface_and_what_its_open_decision_knows_of_the_visit() -> None:
    folded = shard()
    told = decision(facets={"device": "tv", "country": "de", "visitor": "new"})
    folded.fold(
        [told, impression(decision=1), click("b", decision=1, surface="home"), click("c", user="u2")], AT
    )
    steps = folded.shard_feeds()[-1].interactions
    assert [(one.item_id, one.surface, one.facets) for one in steps] == [
        ("b", "home", ["country:de", "device:tv"]), ("c", "", []),
    ]  # fmt: skip
    forged = click("a", at=AT + 2000, surface="home", event_id="forged").event
    assert isinstance(forged, Click)
    forged.decision = token(decision_id(1), "somebody else")
    folded.fold([row("clicks", forged)], AT)
    (step,) = folded.shard_feeds()[-1].interactions
    assert (step.surface, step.facets) == ("home", [])
