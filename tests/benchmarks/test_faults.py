import random
from collections.abc import Iterator

import pytest

from benchmarks._faults_chaos import Pace
from benchmarks._faults_truth import Truth, compare, decayed
from benchmarks._faults_visits import ITEMS, SLOTS, Crowd, Told
from state.decoding import decode_event
from state.events import Click, Feedback, encode
from state.partition import shard_of
from state.settings import Settings
from state.tokens import TokenSigner

SETTINGS = Settings(token_secret="x" * 16, seed=3, shards=12)
NOW = 1_760_000_000_000


def told(visits: int, seed: int = 3) -> Iterator[Told]:
    crowd = Crowd(Settings(token_secret="x" * 16, seed=seed, shards=12), visitors=9)
    for number in range(visits):
        yield from crowd.visit(NOW + 10 * number)


def truth_of(events: list[Told]) -> Truth:
    truth = Truth(SETTINGS.feedback)
    for one in events:
        truth.add(one.kind, one.event, one.names)
    return truth


def test_every_event_is_understood_and_its_token_names_what_the_truth_is_told() -> None:
    signer = TokenSigner(SETTINGS.secret())
    for one in told(400):
        assert decode_event(one.kind, encode(one.event), received_at=NOW + 10_000) == one.event
        if one.kind != "decisions":
            token = getattr(one.event, "decision", None)
            assert (token and signer.open(token, one.event.subject, NOW)) == one.names
        else:
            assert int(one.event.event_id.split("-")[1], 16) == shard_of(one.event.subject, 12)


def test_nobody_reacts_to_an_item_twice() -> None:
    met = [
        (one.event.subject, one.event.item_id)
        for one in told(9 * ITEMS // SLOTS + 500)
        if isinstance(one.event, Click | Feedback)
    ]
    assert len(met) == len(set(met)) > 1_000


def test_the_truth_depends_on_no_order() -> None:
    events = list(told(500))
    shuffled = events.copy()
    random.Random(1).shuffle(shuffled)
    one, other = truth_of(events), truth_of(shuffled)
    assert one.expected() == other.expected()
    assert one.outcomes() == other.outcomes()
    assert one.trend("item-1", 1e6, NOW) == pytest.approx(other.trend("item-1", 1e6, NOW))


def test_each_decision_closes_one_way() -> None:
    events = list(told(500))
    expected = truth_of(events).expected()
    closed = sum(expected[f"closed.{verdict}"] for verdict in ("outcome", "unseen", "orphan"))
    named = {one.names for one in events if one.names} | {
        one.event.event_id for one in events if one.kind == "decisions"
    }
    assert closed == len(named)
    assert expected["closed.outcome"] == expected["outcomes.home"] + expected["outcomes.search"]
    assert min(expected[f"closed.{verdict}"] for verdict in ("outcome", "unseen", "orphan")) > 0
    assert expected["impressions"] == expected["shown"] + expected["unattributed.impressions"]


def test_an_excess_here_does_not_hide_a_shortage_there() -> None:
    check = compare("outcomes", {"a": 1, "b": 1}, {"a": 2, "c": 1})
    assert (check.expected, check.found, check.lost, check.doubled) == (2, 3, 1, 2)


def test_interest_halves_every_half_life() -> None:
    assert decayed([(0, 1.0), (1_000, 0.5)], 1_000.0, 2_000) == pytest.approx(0.25 + 0.25)


def test_ten_minutes_hold_at_least_fifty_kills() -> None:
    assert 600 / (1.4 * Pace().kill_s) >= 50
