import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models.session_knn import SessionIndex, SessionKnnSettings
from tests.online_models.compiling import compiled_after_warm_up

SMALL = SessionKnnSettings(max_sessions=6, max_length=5, neighbours=4, sample=64, max_query=4, max_age_s=1.0)

clicks = st.lists(
    st.tuples(st.integers(-3, 9), st.integers(0, 7), st.integers(0, 40)).map(
        lambda c: (c[0], c[1], c[2] * 50)
    ),
    max_size=60,
)


class PlainIndex:
    """The same recipe in dictionaries and loops, written for reading only."""

    def __init__(self, recipe: SessionKnnSettings) -> None:
        self.recipe = recipe
        self.sessions: dict[int, list[int]] = {}
        self.begun: dict[int, int] = {}
        self.last_ms: dict[int, int] = {}
        self.next = 0

    def add(self, session: Any, item: Any, at_ms: Any) -> None:
        if session not in self.sessions:
            for key in [k for k, n in self.begun.items() if n <= self.next - self.recipe.max_sessions]:
                self.remove_session(key)
            self.sessions[session], self.begun[session], self.last_ms[session] = [], self.next, 0
            self.next += 1
        self.sessions[session] = (self.sessions[session] + [item])[-self.recipe.max_length :]
        self.last_ms[session] = max(self.last_ms[session], at_ms)

    def remove_session(self, session: Any) -> None:
        for table in (self.sessions, self.begun, self.last_ms):
            table.pop(session, None)

    def remove_item(self, item: Any) -> None:
        self.sessions = {s: [i for i in row if i != item] for s, row in self.sessions.items()}

    def idf(self, item: Any) -> Any:
        holding = sum(item in row for row in self.sessions.values())
        return math.log(1 + len(self.sessions) / max(1, holding))

    def score(self, query: Any, now_ms: Any, exclude: Any) -> Any:
        r = self.recipe
        query = list(query)[-r.max_query :]
        back = {item: gap for gap, item in reversed(list(enumerate(reversed(query))))}
        near = []
        for session, row in self.sessions.items():
            shared = [item for item in back if item in row]
            if shared and session != exclude and self.last_ms[session] >= now_ms - r.max_age_s * 1000:
                weight = sum(math.exp(-back[i] / r.query_decay) * self.idf(i) ** r.idf_power for i in shared)
                weight *= math.exp(-(self.next - self.begun[session]) / r.session_decay)
                near.append((weight / len(row) ** r.length_power, session, min(back[i] for i in shared)))
        scores: dict[int, float] = {}
        for weight, session, gap in sorted(near, reverse=True)[: r.neighbours]:
            row = self.sessions[session]
            at = max(p for p, item in enumerate(row) if item == query[-1 - gap])
            for p, item in enumerate(row):
                share = math.exp(-abs(p - at) / r.position_decay) * (1 if p >= at else r.backward)
                scores[item] = scores.get(item, 0) + weight * math.exp(-gap / r.match_decay) * share
        twice = {i: s * (r.in_session if i in query else 1) for i, s in scores.items()}
        return {i: s * (1 + r.idf_weight * self.idf(i)) for i, s in twice.items()}


def filled(recipe: Any, events: Any) -> Any:
    index = SessionIndex(recipe)
    for event in events:
        index.add(*event)
    return index


def ranked(index: Any, query: Any, now_ms: Any = 2000, exclude: Any = None, limit: Any = 20) -> Any:
    rows, scores = index.score(query, now_ms, limit=limit, exclude_session=exclude)
    return dict(zip(rows.tolist(), scores.tolist(), strict=True))


@settings(max_examples=150, deadline=None)
@given(clicks, st.lists(st.integers(0, 9), max_size=6), st.integers(-3, 9))
def test_scores_are_those_of_the_recipe_written_plainly(events: Any, query: Any, exclude: Any) -> None:
    # Enough neighbours that no tie at the cut decides.
    recipe = replace(SMALL, neighbours=50)
    index, plain = filled(recipe, events), PlainIndex(recipe)
    for event in events:
        plain.add(*event)
    wish = plain.score(query, 2000, exclude)
    got = ranked(index, query, exclude=exclude)
    assert got == pytest.approx(wish, rel=1e-9)
    assert index.sessions == len(plain.sessions)


@settings(max_examples=80, deadline=None)
@given(clicks, st.lists(st.tuples(st.sampled_from(["session", "item"]), st.integers(0, 7)), max_size=4))
def test_removed_sessions_and_items_leave_no_trace(events: Any, removals: Any) -> None:
    recipe = replace(SMALL, neighbours=50, max_age_s=1e6)
    index, plain = filled(recipe, events), PlainIndex(recipe)
    for event in events:
        plain.add(*event)
    for kind, key in removals:
        for target in (index, plain):
            (target.remove_session if kind == "session" else target.remove_item)(key)
    for query in ([0, 1], [2], [7, 3, 0, 5]):
        wish = {i: s for i, s in plain.score(query, 0, None).items() if s > 0}
        assert ranked(index, query) == pytest.approx(wish, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(clicks, st.integers(1, 10))
def test_bulk_equals_click_by_click(events: Any, cut: Any) -> None:
    one, many = filled(SMALL, events), SessionIndex(SMALL)
    for part in (events[:cut], events[cut:]):
        many.add_many([e[0] for e in part], [e[1] for e in part], [e[2] for e in part])
    for query in ([0], [1, 2, 3], [7, 6]):
        assert ranked(many, query) == ranked(one, query)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_int64_key_is_found_again_until_it_is_evicted(seed: Any) -> None:
    rng = np.random.default_rng(seed)
    keys = rng.integers(-(2**63), 2**63 - 1, 200)
    index = SessionIndex(SessionKnnSettings(max_sessions=50, sample=8))
    for n, key in enumerate(keys.tolist()):
        index.add(key, n % 5, n)
    held = [index.session_items(key).tolist() for key in keys.tolist()]
    assert held == [[]] * 150 + [[n % 5] for n in range(150, 200)]


def test_the_live_session_does_not_vote_for_itself() -> None:
    index = filled(SessionKnnSettings(), [(1, 5, 0), (1, 6, 1)])
    assert ranked(index, [5, 6], exclude=1) == {}
    assert set(ranked(index, [5])) == {5, 6}


def test_a_click_is_seen_by_the_very_next_query() -> None:
    index = filled(SessionKnnSettings(), [(1, 5, 0), (2, 5, 1)])
    assert 9 not in ranked(index, [5])
    index.add(1, 9, 2)
    assert 9 in ranked(index, [5])


def test_sessions_without_recent_clicks_do_not_vote() -> None:
    index = filled(SessionKnnSettings(max_age_s=10), [(1, 5, 0), (1, 6, 1000), (2, 5, 9000), (2, 7, 9000)])
    assert set(ranked(index, [5], now_ms=11_000)) == {5, 6, 7}
    assert set(ranked(index, [5], now_ms=11_001)) == {5, 7}


def test_a_long_session_keeps_its_latest_clicks() -> None:
    index = filled(replace(SMALL, max_age_s=10), [(1, item, 0) for item in (0, 1, 2, 3, 0, 4, 5, 6)])
    assert index.session_items(1).tolist() == [3, 0, 4, 5, 6]
    assert ranked(index, [1]) == {}
    assert 3 in ranked(index, [0])


def test_only_the_latest_sessions_of_a_popular_item_are_looked_at() -> None:
    recipe = SessionKnnSettings(sample=4)
    index = filled(recipe, [(s, item, s) for s in range(10) for item in (0, 100 + s)])
    assert set(ranked(index, [0])) == {0, 106, 107, 108, 109}


def test_limit_and_order() -> None:
    rng = np.random.default_rng(0)
    index = SessionIndex(SessionKnnSettings())
    index.add_many(np.repeat(np.arange(400), 5), rng.integers(0, 60, 2000), np.arange(2000))
    every, scores = index.score([3, 4], 0, limit=100)
    few, _ = index.score([3, 4], 0, limit=7)
    assert np.all(np.diff(scores) <= 0)
    assert few.tolist() == every[:7].tolist()


def test_memory_is_bounded_however_long_the_stream() -> None:
    rng = np.random.default_rng(1)
    index = SessionIndex(SessionKnnSettings(max_sessions=500, sample=32))

    def feed(sessions: Any) -> None:
        items = np.minimum(rng.zipf(1.3, 4 * len(sessions)), 2000)
        index.add_many(np.repeat(sessions, 4), items, np.zeros(4 * len(sessions)))

    feed(np.arange(3000))
    before = index.nbytes()
    feed(np.arange(3000, 40_000))
    assert index.nbytes() <= 2 * before
    assert index.sessions == 500


def test_removed_keys_do_not_hide_others_in_the_key_table() -> None:
    rng = np.random.default_rng(2)
    index, alive = SessionIndex(SessionKnnSettings(max_sessions=1000)), set()
    for key in rng.integers(0, 300, 5000).tolist():
        if rng.random() < 0.5:
            index.add(key, 1, 0)
            alive.add(key)
        else:
            index.remove_session(key)
            alive.discard(key)
    assert index.sessions == len(alive)
    assert all((len(index.session_items(key)) > 0) == (key in alive) for key in range(300))


@pytest.mark.parametrize("query", [[], [10_000_000], [-5]])
def test_unknown_or_missing_items_give_an_empty_answer(query: Any) -> None:
    assert ranked(filled(SessionKnnSettings(), [(1, 5, 0)]), query) == {}


def test_bad_values_are_named() -> None:
    index = SessionIndex(SessionKnnSettings())
    with pytest.raises(ValueError, match=r"item is -1, wanted a row >= 0"):
        index.add(1, -1, 0)
    with pytest.raises(ValueError, match=r"shapes \(2,\), \(1,\), \(1,\)"):
        index.add_many([1, 2], [1], [1])
    with pytest.raises(ValueError, match="neighbours is 0"):
        SessionKnnSettings(neighbours=0)
    with pytest.raises(ValueError, match="query_decay is 0"):
        SessionKnnSettings(query_decay=0)


def test_warm_up_leaves_nothing_to_compile() -> None:
    work = """
from online_models.session_knn import SessionIndex, SessionKnnSettings
index = SessionIndex(SessionKnnSettings(max_sessions=4))
for click in range(40):
    index.add(click // 4, click % 5, click)
index.add_many([90, 90, 91], [1, 2, 3], [50, 51, 52])
index.score([0, 1], 60, limit=5, exclude_session=90)
index.remove_session(8)
index.remove_item(3)
"""
    assert compiled_after_warm_up("session_knn", work) == ""
