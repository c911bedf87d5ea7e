"""The compiled path from sources to features does what its plain formulas say."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models import candidates, ranking
from online_models.candidates import Catalogue, Wanted, empty_marks, gather, look_up
from online_models.ranking import Visit, Votes, describe, ranking_registry, taste, warm_up
from online_models.trends import Trends

ROWS, KINDS, NOW = 60, 7, 40 * 86_400_000
ROW_LISTS = st.lists(st.integers(0, ROWS - 1), max_size=25, unique=True)


def shop(seed: int) -> Catalogue:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(ROWS, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Catalogue(
        available=rng.random(ROWS) < 0.8,
        published_at=rng.integers(0, NOW + 86_400_000, ROWS),
        hashes=rng.integers(0, 2**64, ROWS, dtype=np.uint64),
        codes=rng.integers(-1, KINDS, (ROWS, 3)).astype(np.int32),
        vectors=vectors,
    )


def plainly_gathered(c: Catalogue, parts: list[list[int]], wanted: Wanted) -> Any:
    rows = np.array([row for part in parts for row in part], np.int64)
    letters = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    order = np.sort(np.unique(rows, return_index=True)[1])
    rows, letters = rows[order], letters[order]
    elsewhere = ~np.isin(c.codes[rows], wanted.categories).any(axis=1) & (len(wanted.categories) > 0)
    seen, excluded = np.isin(c.hashes[rows], wanted.seen), np.isin(rows, wanted.excluded)
    keep, cuts = np.ones(len(rows), np.bool_), []
    for reason, out in enumerate((~c.available[rows], seen, excluded, elsewhere), start=1):
        cuts += [(row, reason) for row in rows[keep & out].tolist()]
        keep &= ~out
    return rows[keep][: wanted.limit].tolist(), letters[keep][: wanted.limit].tolist(), cuts


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 5),
    st.lists(ROW_LISTS, min_size=1, max_size=4),
    ROW_LISTS,
    ROW_LISTS,
    st.lists(st.integers(0, KINDS), max_size=2),
    st.integers(1, 40),
)
def test_candidates_are_merged_and_cut_as_array_operations_would(
    seed: int, parts: list[list[int]], excluded: list[int], seen: list[int], kinds: list[int], limit: int
) -> None:
    c, marks = shop(seed), empty_marks(ROWS)
    wanted = Wanted(np.array(excluded, np.int64), np.sort(c.hashes[seen]), np.array(kinds, np.int64), limit)
    brought = np.array([row for part in parts for row in part], np.int64)
    ends = np.cumsum([len(part) for part in parts])
    for _ in range(2):  # working memory of one request says nothing to the next
        got = gather(c, marks, brought, ends, wanted)
        cuts = list(zip(got.cut.tolist(), got.reasons.tolist(), strict=True))
        assert (got.rows.tolist(), got.parts.tolist(), cuts) == plainly_gathered(c, parts, wanted)


@given(ROW_LISTS, ROW_LISTS)
def test_values_are_looked_up_by_key(keys: list[int], wanted: list[int]) -> None:
    values = np.arange(1.0, len(keys) + 1)
    known = dict(zip(keys, values.tolist(), strict=True))
    got = look_up(np.array(keys, np.int64), values, np.array(wanted, np.int64))
    assert got.tolist() == [known.get(key, 0.0) for key in wanted]


def plain_taste(c: Catalogue, visit: Visit, last: int) -> Any:
    total = visit.weights[-last:] @ c.vectors[visit.recent[-last:]]
    return total / max(float(np.linalg.norm(total)), 1e-30)


def inverse_ranks(scores: Any) -> Any:
    ranks = np.empty(len(scores))
    ranks[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    return np.where(scores > 0, 1.0 / np.sqrt(1.0 + ranks), 0.0)


def affinities(c: Catalogue, visit: Visit, rows: Any) -> Any:
    weights = np.zeros(KINDS + 1)
    codes = c.codes[visit.recent]
    np.add.at(weights, codes, np.broadcast_to(visit.weights[:, None], codes.shape))
    weights[-1] = 0.0
    return weights[c.codes[rows]].max(axis=1) / max(float(visit.weights.sum()), 1e-9)


def plainly_described(c: Catalogue, trends: Trends, visit: Visit, rows: Any, votes: Votes) -> Any:
    sums = trends.scores(rows, NOW)
    shares = sums / np.maximum(sums.max(axis=0, initial=0.0), 1e-9)
    values = {
        "knn": votes.knn / max(float(votes.knn.max(initial=0.0)), 1e-12),
        "knn_rank": inverse_ranks(votes.knn),
        "covisit": votes.covisit / max(float(votes.covisit.max(initial=0.0)), 1e-12),
        "covisit_rank": inverse_ranks(votes.covisit),
        "content": c.vectors[rows] @ plain_taste(c, visit, 50),
        "content_last": c.vectors[rows] @ plain_taste(c, visit, 1),
        "trend_fast": shares[:, 0],
        "trend_mid": shares[:, shares.shape[1] // 2],
        "trend_slow": shares[:, -1],
        "rising": np.log((shares[:, 0] + 0.05) / (shares[:, -1] + 0.05)),
        "affinity": affinities(c, visit, rows),
        "novelty": 1.0 / (1.0 + sums[:, -1]),
        "item_age": np.maximum(0.0, (NOW - c.published_at[rows]) / 86_400_000),
        "repeat": np.isin(rows, visit.recent).astype(np.float64),
        "session_length": visit.session_length,
        "new_user": visit.is_new,
    }
    return ranking_registry().matrix(values, len(rows))


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 5),
    ROW_LISTS,
    ROW_LISTS,
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 7.0]), min_size=25, max_size=25),
    st.booleans(),
    st.sampled_from([(3_600.0,), (3_600.0, 86_400.0), (900.0, 3_600.0, 86_400.0, 604_800.0)]),
)
def test_features_equal_the_plain_formula(
    seed: int, rows: list[int], recent: list[int], knn: list[float], falling: bool, halves: tuple[float, ...]
) -> None:
    c, rng, trends = shop(seed), np.random.default_rng(seed), Trends(halves)
    for row in rng.integers(0, ROWS, 80).tolist():
        trends.add(row, int(rng.integers(NOW - 86_400_000, NOW)), float(rng.random()) + 0.1)
    visit = Visit(np.array(recent, np.int64), rng.random(len(recent)), NOW, float(seed), float(seed % 2))
    scores = np.array(sorted(knn, reverse=True) if falling else knn)[: len(rows)]
    votes = Votes(scores, scores[::-1].copy())
    got = describe(c, trends.counts(), visit, np.array(rows, np.int64), votes, KINDS)
    want = plainly_described(c, trends, visit, np.array(rows, np.int64), votes)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=5e-7)
    exact = [n for n, name in enumerate(ranking_registry().names) if not name.startswith("content")]
    np.testing.assert_allclose(got[:, exact], want[:, exact], rtol=1e-12, atol=1e-15)


def test_taste_is_the_weighted_direction_of_the_newest_rows() -> None:
    c, visit = shop(1), Visit(np.array([3, 9, 4]), np.array([0.2, 0.5, 1.0]), NOW, 3.0, 0.0)
    for last in (1, 2, 50):
        got = taste(c.vectors, visit.recent, visit.weights, last)
        np.testing.assert_allclose(got, plain_taste(c, visit, last), atol=1e-6)
    assert not taste(c.vectors, visit.recent[:0], visit.weights[:0], 10).any()


@pytest.mark.parametrize("loop", [candidates.gather, candidates.look_up, ranking.describe, ranking.taste])
def test_warm_up_leaves_nothing_to_compile(loop: Any) -> None:
    warm_up()
    compiled = len(loop.signatures)
    c, trends = shop(0), Trends([60.0])
    trends.add(1, NOW, 1.0)
    visit = Visit(np.array([3]), np.array([0.2]), NOW, 3.0, 0.0)
    wanted = Wanted(np.array([1]), np.sort(c.hashes[:3]), np.array([2]), 9)
    rows = gather(c, empty_marks(ROWS), np.arange(9), np.array([4, 9]), wanted).rows
    knn = look_up(np.arange(3), np.ones(3), rows)
    describe(c, trends.counts(), visit, rows, Votes(knn, knn), KINDS)
    taste(c.vectors, visit.recent, visit.weights, 10)
    assert len(loop.signatures) == compiled
