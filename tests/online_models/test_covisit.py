import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from online_models._covisit_loops import hops_any
from online_models._topk import room_for
from online_models.covisit import CoVisits, CoVisitSettings

WIDE = CoVisitSettings(neighbours=64, window=3, max_query=4, session_decay=5.0)
sessions = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), max_size=25)


def fed(streams: Any, recipe: CoVisitSettings = WIDE) -> CoVisits:
    visits = CoVisits(recipe)
    for session in streams:
        for at, item in enumerate(session):
            visits.add(session[:at], item)
    return visits


def ranked(visits: CoVisits, query: Any, limit: int = 20) -> dict[int, float]:
    rows, scores = visits.score(query, limit=limit)
    return dict(zip(rows.tolist(), scores.tolist(), strict=True))


def plain_scores(streams: Any, query: Any, r: CoVisitSettings = WIDE) -> dict[int, float]:
    """The same recipe in dictionaries, with ages counted back from now."""
    pairs: dict[tuple[int, int], float] = defaultdict(float)
    visits: dict[int, float] = defaultdict(float)
    idf: dict[int, float] = {}
    total = 0.0
    for number, session in enumerate(streams):
        for at, item in enumerate(session):
            # The click that begins a session still counts with the sessions before it.
            age = len(streams) - number - (at > 0)
            weight = math.exp(-age / r.session_decay)
            visits[item] += weight
            total += weight
            idf[item] = math.log(1 + total / visits[item])  # as of its latest click: both fade alike
            met = {item}
            for back, other in enumerate(reversed(session[max(0, at - r.window) : at]), start=1):
                if other not in met:
                    met.add(other)
                    near = weight * math.exp(-back / r.position_decay)
                    pairs[other, item] += near
                    pairs[item, other] += near * r.backward
    scores: dict[int, float] = defaultdict(float)
    places = {item: gap for gap, item in reversed(list(enumerate(reversed(query[-r.max_query :]))))}
    for item, gap in places.items():
        if visits[item]:
            share = math.exp(-gap / r.query_decay) / (visits[item] / total) ** r.visit_power
            scores[item] += share * visits[item]
            for (left, right), weight in pairs.items():
                if left == item:
                    scores[right] += share * weight
    for item in set(query) & scores.keys():
        scores[item] *= r.in_session * (r.current if item == query[-1] else 1.0)
    return {i: s * (1 + r.idf_weight * idf[i]) for i, s in scores.items() if s}


@settings(max_examples=120, deadline=None)
@given(sessions, st.lists(st.integers(0, 12), min_size=1, max_size=4))
def test_scores_are_those_of_the_recipe_written_plainly(streams: Any, query: Any) -> None:
    assert ranked(fed(streams), query) == pytest.approx(plain_scores(streams, query), rel=1e-4)


@settings(max_examples=60, deadline=None)
@given(sessions)
@example([[0]] * 7)
def test_whole_sessions_leave_the_same_tables_as_their_clicks_one_by_one(streams: Any) -> None:
    bulk, recipe = CoVisits(WIDE), CoVisitSettings(neighbours=2, window=3, max_query=4, session_decay=0.2)
    narrow = CoVisits(recipe)
    for session in streams:
        bulk.add_session(session)
        narrow.add_session(session)
    for ours, one_by_one in ((bulk, fed(streams)), (narrow, fed(streams, recipe))):
        for left, right in zip(ours.tables, one_by_one.tables, strict=True):
            assert np.array_equal(np.asarray(left), np.asarray(right))
        assert ranked(ours, [1, 2]) == pytest.approx(ranked(one_by_one, [1, 2]), rel=1e-12)


def test_both_directions_count_and_the_forward_one_more() -> None:
    visits = fed([[1, 2]] * 50)
    forward = ranked(visits, [1])[2]
    backward = ranked(visits, [2])[1]
    assert 0 < backward < forward
    assert backward == pytest.approx(0.7 * forward, rel=0.1)


def test_what_is_clicked_together_lately_beats_what_was_long_ago() -> None:
    visits = fed([[1, 2]] * 6 + [[8], [9]] * 20 + [[1, 3]] * 2)
    scores = ranked(visits, [1])
    assert scores[3] > scores[2]


def test_a_full_list_keeps_its_strong_neighbours() -> None:
    recipe = CoVisitSettings(neighbours=4)
    visits = fed([[0, 1]] * 30 + [[0, 2]] * 20 + [[0, item] for item in range(10, 60)], recipe)
    assert {1, 2} <= ranked(visits, [0]).keys()
    assert len(ranked(visits, [0])) == 5


def test_rebasing_the_landmark_changes_no_ranking() -> None:
    recipe = CoVisitSettings(session_decay=1.0)
    visits = fed([[1, 2], [1, 3]] * 200, recipe)
    scores = ranked(visits, [1])
    assert all(math.isfinite(score) for score in scores.values())
    assert scores[3] > scores[2] > 0


def test_a_removed_item_is_in_no_list_and_can_return() -> None:
    visits = fed([[1, 2, 3]] * 4)
    visits.remove_item(2)
    assert 2 not in ranked(visits, [1, 3])
    assert 3 in ranked(visits, [1])
    visits.add([1], 2)
    assert 2 in ranked(visits, [1])


def test_latest_scores_reach_beyond_the_limit() -> None:
    visits = fed([[1, 2, 3, 4]] * 4)
    every = ranked(visits, [1])
    visits.score([1], limit=1)
    asked = [4, 99, 2, -1]
    np.testing.assert_allclose(visits.latest_scores(asked), [every[4], 0, every[2], 0])


def test_a_session_without_clicks_changes_nothing() -> None:
    visits = CoVisits(WIDE)
    visits.add_session([])
    assert visits.begun == 0
    with pytest.raises(ValueError, match="item is -1"):
        visits.add_session([3, -1])


def test_bad_values_are_named() -> None:
    with pytest.raises(ValueError, match="item is -1"):
        CoVisits(WIDE).add([], -1)
    with pytest.raises(ValueError, match="window is 0"):
        CoVisitSettings(window=0)


def test_what_is_seen_with_what_was_found_is_found_by_hops() -> None:
    visits = CoVisits(WIDE)
    for session in ([1, 2], [2, 3], [1, 2], [3, 4]):
        visits.add_session(session)
    found, _ = visits.score([1], limit=10)
    assert set(found.tolist()) == {1, 2}
    beyond = visits.hops(10).tolist()
    assert 3 in beyond
    assert 4 not in beyond


def test_hops_of_nothing_found_are_none() -> None:
    visits = CoVisits(WIDE)
    visits.score([7], limit=10)
    assert visits.hops(10).size == 0


def test_what_has_faded_away_leads_nowhere() -> None:
    visits = CoVisits(WIDE)
    for session in ([1, 2], [2, 3]):
        visits.add_session(session)
    faded, best = room_for(1), room_for(10)
    faded.keys[0] = 2
    assert hops_any(visits.tables, visits.recipe, faded, 1, best) == 0
