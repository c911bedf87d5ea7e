"""The demo's judges: rivals equal a naive count, visits are cut at silence, nothing is counted twice."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.datasets import Rating
from headwater.demo.baselines import HALF_LIVES_EVENTS, Chance, Popularity
from headwater.demo.counts import Folded
from headwater.demo.freshness import Probes
from headwater.demo.judge import Judge
from headwater.demo.report import demo_report, score_rows
from headwater.demo.traffic import SESSION_GAP_S, Sent, visits

ITEMS = 7
HALF_LIVES = (1.0, 4.0, float("inf"))
STREAM = st.lists(st.tuples(st.integers(0, ITEMS - 1), st.sets(st.integers(0, ITEMS - 1))), max_size=40)


def naive_slate(history: list[int], half_life: float, seen: set[int], k: int) -> list[int]:
    """The k most popular unseen items, ties in the order of the columns, counted from scratch."""
    counts = [0.0] * ITEMS
    for age, item in enumerate(reversed(history)):
        counts[item] += 0.5 ** (age / half_life)
    unseen = [item for item in range(ITEMS) if item not in seen]
    return sorted(unseen, key=lambda item: (-counts[item], item))[:k]


@settings(deadline=None)
@given(STREAM, st.integers(1, 4))
def test_popularity_is_what_a_naive_count_says(stream: list[tuple[int, set[int]]], k: int) -> None:
    history: list[int] = []
    popularity = Popularity(ITEMS, HALF_LIVES)
    hits = np.zeros(len(HALF_LIVES), dtype=int)
    for item, others in stream:
        seen = others - {item}
        mask = np.isin(np.arange(ITEMS), list(seen))
        got = popularity.judge(item, mask, k)
        slates = [naive_slate(history, half_life, seen, k) for half_life in HALF_LIVES]
        wanted = [item in slate for slate in slates]
        assert got.tolist() == wanted
        hits += wanted
        popularity.learn(item)
        history.append(item)
    assert popularity.hits.tolist() == hits.tolist()


def test_ties_go_to_the_earlier_column() -> None:
    popularity, unseen = Popularity(5), np.zeros(5, dtype=np.bool_)
    assert [bool(popularity.judge(item, unseen, 2).all()) for item in range(5)] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_counts_survive_being_brought_back_into_range() -> None:
    popularity, unseen = Popularity(3, (1.0,)), np.zeros(3, dtype=np.bool_)
    for _ in range(1000):
        popularity.learn(2)
    popularity.learn(0)
    assert np.isfinite(popularity._counts).all()
    assert popularity.judge(0, unseen, 1)[0]
    assert popularity.judge(2, unseen, 2)[0]


def test_the_best_half_life_is_told_with_its_hits() -> None:
    popularity = Popularity(3, (1.0, 100.0))
    popularity.hits[:] = [3, 5]
    assert popularity.best() == (5, 100.0)
    assert float("inf") in HALF_LIVES_EVENTS


def test_chance_is_the_share_of_unseen_items_a_slate_covers() -> None:
    chance, seen = Chance(), np.arange(40) < 20
    assert chance.judge(seen) == 0.5
    assert chance.judge(np.arange(40) < 35) == 1.0
    assert chance.judge(np.ones(40, dtype=np.bool_)) == 1.0
    assert chance.hits == 2.5


def rating(user: str, at: int, item: str = "i") -> Rating:
    return Rating(user, item, 5, at)


def test_a_visit_ends_with_half_an_hour_of_silence() -> None:
    ratings = [
        rating("a", 0), rating("b", 10), rating("a", SESSION_GAP_S), rating("a", 2 * SESSION_GAP_S + 1),
        rating("b", 20), rating("a", 2 * SESSION_GAP_S + 2),
    ]  # fmt: skip
    cut = [(visit.session_id, visit.first_session) for visit in visits(ratings)]
    assert cut == [("a-1", True), ("b-1", True), ("a-1", True), ("a-2", False), ("b-1", True), ("a-2", False)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10_000)), max_size=40))
def test_visits_keep_every_interaction_in_its_order(steps: list[tuple[str, int]]) -> None:
    ratings = [rating(user, at, f"i{n}") for n, (user, at) in enumerate(sorted(steps, key=lambda s: s[1]))]
    cut = list(visits(ratings))
    assert [(visit.user, visit.item_id) for visit in cut] == [(one.user_id, one.item_id) for one in ratings]
    sessions = Counter(visit.session_id for visit in cut)
    assert all(session.rsplit("-", 1)[0] in "abc" for session in sessions)


def test_every_request_is_judged_before_its_interaction_is_learnt() -> None:
    judge = Judge([f"i{n}" for n in range(30)])
    popular, chance = judge.plan("u1", "i29")
    assert not popular.any()
    assert chance == pytest.approx(10 / 30)
    popular, chance = judge.plan("u2", "i29")
    assert popular.all()
    _, chance = judge.plan("u1", "i0")
    assert chance == pytest.approx(10 / 29)


def test_what_a_user_has_rated_is_left_out_for_that_user_only() -> None:
    judge = Judge([f"i{n}" for n in range(12)])
    for n in range(11):
        judge.plan("u1", f"i{n}")
    popular, chance = judge.plan("u1", "i11")
    assert popular.all()
    assert chance == 1.0
    assert judge.plan("u2", "i11")[1] == pytest.approx(10 / 12)


def scored() -> Judge:
    judge = Judge([f"i{n}" for n in range(30)])
    for n, (hit, first) in enumerate([(True, True), (False, True), (True, False), (True, False)]):
        judge.score(judge.plan(f"u{n % 2}", f"i{n}"), hit=hit, first_session=first)
    return judge


def test_tallies_of_new_and_returning_users_add_up_to_all() -> None:
    judge = scored()
    assert (judge.all.requests, judge.new.requests, judge.returning.requests) == (4, 2, 2)
    assert (judge.all.rate(), judge.new.rate(), judge.returning.rate()) == (0.75, 0.5, 1.0)
    np.testing.assert_array_equal(judge.all.popularity, judge.new.popularity + judge.returning.popularity)
    assert judge.all.chance == pytest.approx(judge.new.chance + judge.returning.chance)
    assert next(name for name, _ in score_rows(judge)) == "all requests"


def test_before_the_first_request_every_rate_is_zero() -> None:
    judge = Judge(["a"])
    assert (judge.all.rate(), judge.all.popularity_rate(), judge.all.chance_rate()) == (0.0, 0.0, 0.0)


def test_a_report_gives_the_counted_figures() -> None:
    counters: dict[str, Any] = {"closed.outcome": 4, "refused": 1, "impressions": 4}
    folded = Folded(counters, {"outcomes": 3, "refused": 2}, {}, {"refused": 1})
    sent = Sent(impressions=4, clicks=3, feedback=4, latencies_ms=[1.0, 3.0])
    report = demo_report(scored(), sent, Probes([10.0, 20.0], missed=1), folded, 2.0)
    wanted = {
        "events": 11,
        "events_per_s": 5.5,
        "hit_rate_10": 0.75,
        "outcomes": 4,
        "outcomes_learnt": 3,
        "deadletters": 4,
    }
    assert {name: report[name] for name in wanted} == wanted
    assert [report["freshness_ms"][name] for name in ("p50", "p90", "missed")] == [15.0, 19.0, 1]


def test_a_run_without_requests_still_has_a_report() -> None:
    report = demo_report(Judge(["a"]), Sent(), Probes(), Folded({}, {}, {}, {}), 1.0)
    assert (report["hit_rate_10"], report["over_popularity"], report["latency_ms"]["p99"]) == (0.0, 0.0, 0.0)
