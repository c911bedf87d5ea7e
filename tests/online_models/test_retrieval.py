import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models.blend import FEATURES
from online_models.retrieval import Recommender, RecommenderSettings
from online_models.session_embedding import SessionEmbeddingSettings
from online_models.session_knn import SessionIndex, SessionKnnSettings
from state.packing import pack_arrays, unpack_arrays
from tests.online_models.compiling import compiled_after_warm_up

DATA = Path(os.environ.get("HEADWATER_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
SMALL = RecommenderSettings(
    knn=SessionKnnSettings(max_sessions=50),
    embedding=SessionEmbeddingSettings(dim=8, others=8, rivals=4, recent=100),
    learn_every=5,
    learn_early=3,
    early_lessons=8,
)

clicks = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 14), st.integers(0, 10_000)), max_size=80)


def fed(events: Any, recipe: RecommenderSettings = SMALL) -> Recommender:
    recommender = Recommender(recipe)
    for session, item, at_ms in events:
        recommender.add(session, item, at_ms)
    return recommender


@settings(max_examples=60, deadline=None)
@given(clicks, st.lists(st.integers(0, 20), max_size=6), st.integers(1, 12))
def test_answers_are_ranked_known_items_each_once(events: Any, query: Any, limit: Any) -> None:
    answer = fed(events).recommend(query, 10_000, limit)
    known = {item for _, item, _ in events} | set(query)
    assert len(answer.rows) == len(answer.scores) == len(answer.inputs) <= limit
    assert len(set(answer.rows.tolist())) == len(answer.rows)
    assert set(answer.rows.tolist()) <= known
    assert np.all(np.diff(answer.scores) <= 0)
    assert np.all(np.isfinite(answer.inputs))


@settings(max_examples=40, deadline=None)
@given(clicks, st.lists(st.integers(0, 14), max_size=5))
def test_scores_are_the_weights_times_the_inputs_shown(events: Any, query: Any) -> None:
    recommender = fed(events)
    answer = recommender.recommend(query, 10_000, 10)
    np.testing.assert_allclose(answer.inputs @ recommender.blend.weights, answer.scores, rtol=1e-9, atol=1e-9)
    assert answer.inputs.shape[1] == len(FEATURES)


@settings(max_examples=40, deadline=None)
@given(clicks, st.lists(st.integers(0, 14), min_size=1, max_size=5))
def test_novel_only_leaves_out_exactly_the_session(events: Any, query: Any) -> None:
    recommender = fed(events)
    every = [row for row in recommender.recommend(query, 10_000, 40).rows.tolist() if row not in query]
    assert recommender.recommend(query, 10_000, 40, novel_only=True).rows.tolist() == every


@settings(max_examples=30, deadline=None)
@given(clicks)
def test_asking_changes_nothing(events: Any) -> None:
    asked, silent = fed(()), fed(())
    for event in events:
        asked.recommend([event[1]], event[2], 5)
        for recommender in (asked, silent):
            recommender.add(*event)
    np.testing.assert_array_equal(asked.blend.weights, silent.blend.weights)
    left, right = (r.recommend([1, 2], 10_000, 10) for r in (asked, silent))
    np.testing.assert_array_equal(left.rows, right.rows)
    np.testing.assert_array_equal(left.scores, right.scores)


@settings(max_examples=30, deadline=None)
@given(clicks)
def test_the_parts_hold_what_they_hold_when_fed_apart(events: Any) -> None:
    recommender, index = fed(events), SessionIndex(SMALL.knn)
    for event in events:
        index.add(*event)
    for query in ([1], [2, 3, 4]):
        for left, right in zip(
            recommender.index.score(query, 0, limit=9), index.score(query, 0, limit=9), strict=True
        ):
            np.testing.assert_array_equal(left, right)


@settings(max_examples=30, deadline=None)
@given(clicks, st.integers(0, 80))
def test_clicks_in_bulk_leave_what_clicks_one_by_one_leave(events: Any, cut: Any) -> None:
    single, bulk = fed(events), fed(events[:cut])
    bulk.add_many(*np.array(events[cut:], np.int64).reshape(-1, 3).T)
    np.testing.assert_array_equal(single.blend.weights, bulk.blend.weights)
    for query in ([], [1], [3, 2, 9]):
        answers = (single.recommend(query, 10_000, 20), bulk.recommend(query, 10_000, 20))
        for left, right in zip(*answers, strict=True):
            np.testing.assert_array_equal(left, right)


@settings(max_examples=25, deadline=None)
@given(clicks, clicks)
def test_a_restored_recommender_answers_and_goes_on_bit_for_bit(events: Any, later: Any) -> None:
    recommender = fed(events)
    arrays, meta = unpack_arrays(pack_arrays(*recommender.snapshot()))
    twin = Recommender.restore(arrays, meta)
    for event in [None, *later]:
        if event is not None:
            recommender.add(*event)
            twin.add(*event)
        for query in ([], [1], [3, 2, 9]):
            answers = (r.recommend(query, 10_000, 20) for r in (recommender, twin))
            for left, right in zip(*answers, strict=True):
                np.testing.assert_array_equal(left, right)
    for left, right in zip(recommender.snapshot()[0].items(), twin.snapshot()[0].items(), strict=True):
        assert left[0] == right[0]
        np.testing.assert_array_equal(left[1], right[1], err_msg=left[0])
    assert recommender.settings == twin.settings


def test_a_snapshot_that_does_not_fit_is_refused() -> None:
    arrays, meta = fed([(1, 5, 0), (1, 9, 2)]).snapshot()
    with pytest.raises(ValueError, match="version 99, wanted 3"):
        Recommender.restore(arrays, {**meta, "version": 99})
    with pytest.raises(ValueError, match="snapshot's vector is none, wanted float32"):
        Recommender.restore({n: a for n, a in arrays.items() if n != "embedding.vector"}, meta)


def test_a_load_without_lessons_leaves_the_blend_alone() -> None:
    events = [(n // 3, n % 7, n) for n in range(60)]
    loaded = fed(())
    loaded.add_many(*np.array(events, np.int64).T, lessons=False)
    assert loaded.blend.lessons == 0
    assert fed(events).blend.lessons > 0
    np.testing.assert_array_equal(
        np.sort(loaded.recommend([1, 2], 60, 20).rows), np.sort(fed(events).recommend([1, 2], 60, 20).rows)
    )


def test_lessons_are_frequent_at_first_and_rarer_later() -> None:
    recommender, lessons = fed(()), []
    for click in range(60):
        before = recommender.blend.lessons
        recommender.add(1, click % 2, click)
        lessons += [click + 1] * (recommender.blend.lessons - before)
    assert lessons == [*range(3, 25, 3), *range(29, 61, 5)]


def test_a_blend_that_has_learnt_nothing_is_taught_often_however_much_was_loaded() -> None:
    loaded = fed(())
    loaded.add_many(*np.array([(n // 3, n % 7, n) for n in range(300)], np.int64).T, lessons=False)
    for click in range(24):
        loaded.add(1000, click % 7, 1000 + click)
    assert loaded.blend.lessons == 24 // SMALL.learn_early


def test_scores_of_the_sources_are_inputs_of_the_blend() -> None:
    recommender = fed([(n, item, n) for n in range(6) for item in (1, 2 + n % 2, 4)])
    answer = recommender.recommend([1], 10, 10)
    at = {name: place for place, name in enumerate(recommender.names)}
    for share, scores in (
        ("knn_share", dict(zip(*recommender.index.score([1], 10, limit=40), strict=True))),
        ("covisit_share", dict(zip(*recommender.covisits.score([1], limit=40), strict=True))),
    ):
        best = max(score for row, score in scores.items() if row != 1)
        wished = [min(1.0, scores.get(row, 0.0) / best) for row in answer.rows.tolist()]
        np.testing.assert_allclose(answer.inputs[:, at[share]], wished, rtol=1e-12)
    rules = dict(zip(answer.rows.tolist(), answer.inputs[:, at["rule_share"]].tolist(), strict=True))
    assert min(rules[2], rules[3]) > 0.999  # the older of the two has faded a little
    assert 0 < rules[4] < 1.0
    absent = dict(zip(answer.rows.tolist(), answer.inputs[:, at["rule_absent"]].tolist(), strict=True))
    assert absent[1] == 1.0
    assert absent[4] == 0.0


def test_a_click_shows_in_the_very_next_answer() -> None:
    recommender = fed([(1, 5, 0), (2, 5, 1)])
    assert 9 not in recommender.recommend([5], 10, 5).rows
    recommender.add(1, 9, 2)
    assert 9 in recommender.recommend([5], 10, 5).rows


def test_without_a_session_the_trends_answer() -> None:
    recommender = fed([(n, n % 4, 1000 * n) for n in range(40)] + [(100, 3, 41_000)] * 5)
    answer = recommender.recommend([], 42_000, 3)
    assert len(answer.rows) == 3
    assert recommender.recommend([9999], 42_000, 3).rows.size == 3


def test_a_removed_item_is_never_recommended_until_it_is_clicked_again() -> None:
    recommender = fed([(n, item, n) for n in range(10) for item in (1, 2, 3)])
    recommender.remove_item(2)
    assert 2 not in recommender.recommend([1], 10, 20).rows
    recommender.remove_item(1_000_000)
    recommender.add(50, 2, 50)
    answer, popular = recommender.recommend([], 60, 20), recommender.names.index("popular")
    inputs = dict(zip(answer.rows.tolist(), answer.inputs[:, popular].tolist(), strict=True))
    assert inputs[2] == pytest.approx(np.log1p(1.0) / 5.0)
    assert 2 in recommender.recommend([], 60, 20).rows


def test_rows_nobody_knows_are_passed_over() -> None:
    recommender = fed([(1, 5, 0), (1, 6, 1), (2, 5, 2)])
    with_strangers = recommender.recommend([-7, 10_000_000, 5], 10, 5)
    assert set(with_strangers.rows.tolist()) == {5, 6}
    assert np.all(np.isfinite(with_strangers.scores))


def test_rows_far_apart_are_taken_as_they_come() -> None:
    recommender = fed([(1, 10, 0), (1, 70_000, 1), (2, 10, 2)])
    assert 70_000 in recommender.recommend([10], 10, 5).rows


def test_the_blend_learns_what_the_sources_are_worth() -> None:
    rng = np.random.default_rng(0)
    recommender = Recommender(RecommenderSettings(learn_every=2, learn_early=2))
    hits: list[bool] = []
    for session in range(3000):
        begin = int(rng.integers(0, 500))
        before: list[int] = []
        for step in range(4):
            item = begin + step if rng.random() < 0.7 else int(rng.integers(0, 503))
            if before and session > 2500:
                hits.append(item in recommender.recommend(before, 0, 5, exclude_session=session).rows)
            recommender.add(session, item, 0)
            before.append(item)
    assert recommender.blend.lessons > 1000
    assert np.mean(hits) > 0.5


def test_bad_values_are_named() -> None:
    with pytest.raises(ValueError, match="item is -1"):
        fed([(1, -1, 0)])
    with pytest.raises(ValueError, match="item is -3"):
        fed([]).add_many([1], [-3], [0])
    with pytest.raises(ValueError, match=r"\(1,\), \(2,\), \(1,\)"):
        fed([]).add_many([1], [1, 2], [0])
    with pytest.raises(ValueError, match="learn_early is 0"):
        RecommenderSettings(learn_early=0)


def test_warm_up_leaves_nothing_to_compile() -> None:
    work = """
from online_models.retrieval import Recommender, RecommenderSettings
recommender = Recommender(RecommenderSettings(learn_early=2))
for click in range(40):
    recommender.add(click // 4, click % 5, click)
recommender.add_many([90, 90, 91], [1, 2, 3], [50, 51, 52])
recommender.recommend([0, 1], 60, 5, exclude_session=90)
recommender.recommend([], 60, 5, novel_only=True)
recommender.remove_session(2)
recommender.remove_item(3)
"""
    assert compiled_after_warm_up("retrieval", work) == ""


@pytest.mark.skipif(not (DATA / "serenade_toy").exists(), reason=f"no serenade_toy in {DATA}")
def test_the_published_toy_data_are_ranked_better_than_by_vmis_knn() -> None:
    """VMIS-kNN (Serenade) reaches HR@20 .662 and MRR@20 .339 on these files."""

    def read(name: str) -> list[tuple[int, float, int]]:
        with gzip.open(DATA / "serenade_toy" / f"{name}.tsv.gz", "rt") as file:
            cells = [line.split("\t") for line in file]
        return [(int(c[0]), float(c[3]), int(c[2])) for c in cells]

    train, test = read("train"), sorted(read("test"))
    row_of = {item: row for row, item in enumerate(dict.fromkeys(c[2] for c in train + test))}
    recommender = Recommender(RecommenderSettings())
    for session, at, item in sorted(train, key=lambda c: c[1]):
        recommender.add(session, row_of[item], int(at * 1000))
    ranks, held = [], dict[int, list[int]]()
    for session, at, item in test:
        before = held.setdefault(session, [])
        if before:
            rows = recommender.recommend(before, int(at * 1000), 20).rows
            ranks.append(int(np.flatnonzero(rows == row_of[item])[0]) + 1 if row_of[item] in rows else 0)
        before.append(row_of[item])
    found = [1 / rank for rank in ranks if rank]
    assert len(found) / len(ranks) > 0.662
    assert sum(found) / len(ranks) > 0.339


def test_a_session_learnt_whole_leaves_what_its_clicks_leave_but_for_the_lessons() -> None:
    rng, whole, clicked = np.random.default_rng(2), Recommender(SMALL), Recommender(SMALL)
    for session in range(40):
        items, times = rng.integers(0, 12, 6), 1000 * session + np.arange(6)
        whole.add_session(session, items, times)
        clicked.add_many(np.full(6, session), items, times, lessons=False)
    (ours, _), (theirs, _) = whole.snapshot(), clicked.snapshot()
    for name in ours:
        if not name.startswith("blend"):
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert whole.blend.lessons > 20
    assert clicked.blend.lessons == 0


def test_lessons_of_a_session_learnt_whole_know_nothing_of_it() -> None:
    """Every session is new items only: learnt click by click they would be seen with each other."""
    whole, clicked = (Recommender(SMALL) for _ in range(2))
    for session in range(30):
        items = [100 * session + n for n in (0, 1, 2, 0, 1, 2)]
        whole.add_session(session, items, [1000 * session] * 6)
        clicked.add_many([session] * 6, items, [1000 * session] * 6)
    pairs = FEATURES.index("covisit_log")
    assert whole.blend.lessons > 0
    assert abs(whole.blend.weights[pairs] - 3.0) < 1e-9
    assert abs(clicked.blend.weights[pairs] - 3.0) > 1e-3
