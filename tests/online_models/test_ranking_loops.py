"""The compiled path from sources to features does what its plain formulas say."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models._ranking_loops import click_inputs
from online_models.blend import FEATURES
from online_models.candidates import Catalogue
from online_models.ranking import PROFILE, ClickInputs, Visit, describe, ranking_registry, taste, warm_up
from online_models.sources import HISTORY, LABELS
from online_models.trends import Trends

NAMES = (*FEATURES, *(f"{label}_rank" for label in LABELS[HISTORY:]), *PROFILE)
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


def plain_taste(c: Catalogue, visit: Visit, last: int) -> Any:
    total = visit.weights[-last:] @ c.vectors[visit.recent[-last:]]
    return total / max(float(np.linalg.norm(total)), 1e-30)


def affinities(c: Catalogue, visit: Visit, rows: Any) -> Any:
    weights = np.zeros(KINDS + 1)
    codes = c.codes[visit.recent]
    np.add.at(weights, codes, np.broadcast_to(visit.weights[:, None], codes.shape))
    weights[-1] = 0.0
    return weights[c.codes[rows]].max(axis=1) / max(float(visit.weights.sum()), 1e-9)


def plainly_described(c: Catalogue, trends: Trends, visit: Visit, rows: Any) -> Any:
    sums = trends.scores(rows, NOW)
    shares = sums / np.maximum(sums.max(axis=0, initial=0.0), 1e-9)
    values = {
        "content": c.vectors[rows] @ plain_taste(c, visit, 50),
        "content_last": c.vectors[rows] @ plain_taste(c, visit, 1),
        "trend_fast": shares[:, 0],
        "trend_mid": shares[:, shares.shape[1] // 2],
        "trend_slow": shares[:, -1],
        "trend_rising": np.log((shares[:, 0] + 0.05) / (shares[:, -1] + 0.05)),
        "affinity": affinities(c, visit, rows),
        "novelty": 1.0 / (1.0 + sums[:, -1]),
        "item_age": np.log1p(np.maximum(0.0, (NOW - c.published_at[rows]) / 86_400_000)),
    }
    for name in ("trend_fast", "trend_mid", "trend_slow", "affinity", "novelty"):
        values[name] = np.clip(values[name], 0.0, 1.0)
    return np.stack([values[name] for name in PROFILE], axis=1)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 5),
    ROW_LISTS,
    ROW_LISTS,
    st.sampled_from([(3_600.0,), (3_600.0, 86_400.0), (900.0, 3_600.0, 86_400.0, 604_800.0)]),
)
def test_features_equal_the_plain_formula(
    seed: int, rows: list[int], recent: list[int], halves: tuple[float, ...]
) -> None:
    c, rng, trends = shop(seed), np.random.default_rng(seed), Trends(halves)
    for row in rng.integers(0, ROWS, 80).tolist():
        trends.add(row, int(rng.integers(NOW - 86_400_000, NOW)), float(rng.random()) + 0.1)
    visit = Visit(np.array(recent, np.int64), rng.random(len(recent)), NOW)
    got = describe(c, trends.counts(), visit, np.array(rows, np.int64), KINDS)
    want = plainly_described(c, trends, visit, np.array(rows, np.int64))
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=5e-7)
    exact = [n for n, name in enumerate(PROFILE) if not name.startswith("content")]
    np.testing.assert_allclose(got[:, exact], want[:, exact], rtol=1e-12, atol=1e-15)


def test_taste_is_the_weighted_direction_of_the_newest_rows() -> None:
    c, visit = shop(1), Visit(np.array([3, 9, 4]), np.array([0.2, 0.5, 1.0]), NOW)
    for last in (1, 2, 50):
        got = taste(c.vectors, visit.recent, visit.weights, last)
        np.testing.assert_allclose(got, plain_taste(c, visit, last), atol=1e-6)
    assert not taste(c.vectors, visit.recent[:0], visit.weights[:0], 10).any()


@given(st.integers(0, 50), st.integers(0, 9), st.booleans())
def test_the_click_model_is_given_the_very_numbers_the_blend_was_made_of(
    seed: int, length: int, new: bool
) -> None:
    registry = ranking_registry()
    rng, inputs = np.random.default_rng(seed), ClickInputs(registry, NAMES)
    blended, scores = rng.normal(size=(7, len(NAMES))), rng.normal(size=7)
    got = inputs.of(blended, scores, float(length), is_new=new)
    columns = {name: got[:, registry.place(name)].tolist() for name in registry.names}
    for name, column in {"knn": "knn_share", "rising": "trend_rising", "embedding": "embedding"}.items():
        assert columns[name] == blended[:, NAMES.index(column)].tolist()
    shares = np.exp(columns["blend_share"])
    assert shares.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(shares / shares.max(), np.exp(scores - scores.max()))
    assert columns["session_length"] == [np.log1p(length)] * 7
    assert columns["new_user"] == [float(new)] * 7
    assert columns["position"] == [0.0] * 7


def test_a_feature_the_blend_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="knn_share"):
        ClickInputs(ranking_registry(), tuple(name for name in NAMES if name != "knn_share"))


@pytest.mark.parametrize("loop", [describe, taste, click_inputs])
def test_warm_up_leaves_nothing_to_compile(loop: Any) -> None:
    warm_up()
    compiled = len(loop.signatures)
    c, trends = shop(0), Trends([60.0])
    trends.add(1, NOW, 1.0)
    visit = Visit(np.array([3]), np.array([0.2]), NOW)
    described = describe(c, trends.counts(), visit, np.arange(9), KINDS)
    blended = np.zeros((9, len(NAMES)))
    blended[:, -described.shape[1] :] = described
    ClickInputs(ranking_registry(), NAMES).of(blended, np.zeros(9), 1.0, is_new=True)
    taste(c.vectors, visit.recent, visit.weights, 10)
    assert len(loop.signatures) == compiled
