"""Measures against their definitions written out, and intervals against what they promise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.evaluation.diversity import Unlikeness
from headwater.evaluation.measures import (
    CUTS,
    NAMES,
    coverage,
    difference,
    half_widths,
    judge,
    popularity_bias,
    table,
)  # fmt: skip
from tests.headwater.evaluation.logs import array, clicks_of

LISTS = st.lists(st.integers(0, 40), unique=True, max_size=25)
RESTS = st.lists(st.integers(0, 40), min_size=1, max_size=12)


def measured(rows: list[int], rest: list[int]) -> dict[str, float]:
    recall, precision = np.zeros(len(CUTS)), np.zeros(len(CUTS))
    rank = judge(array(*rows), array(*rest), recall, precision)
    values = table(np.array([rank]), recall[None], precision[None])
    return dict(zip(NAMES, values[0].tolist(), strict=True))


def by_definition(rows: list[int], rest: list[int], cut: int) -> dict[str, float]:
    top, wanted = rows[:cut], set(rest)
    rank = top.index(rest[0]) + 1 if rest[0] in top else None
    relevant = [item in wanted for item in top]
    gains = [sum(relevant[: n + 1]) / (n + 1) for n, hit in enumerate(relevant) if hit]
    return {
        "hr": float(rank is not None),
        "mrr": 1 / rank if rank else 0.0,
        "ndcg": 1 / math.log2(rank + 1) if rank else 0.0,
        "recall": len(wanted & set(top)) / len(wanted),
        "map": sum(gains) / min(cut, len(wanted)),
    }


@given(LISTS, RESTS)
def test_every_measure_is_its_definition(rows: list[int], rest: list[int]) -> None:
    found = measured(rows, rest)
    for cut in CUTS:
        for name, value in by_definition(rows, rest, cut).items():
            assert found[f"{name}{cut}"] == pytest.approx(value), (name, cut)


@given(LISTS, RESTS)
def test_measures_lie_between_0_and_1_and_never_fall_with_longer_lists(
    rows: list[int], rest: list[int]
) -> None:
    found = measured(rows, rest)
    assert all(0.0 <= value <= 1.0 for value in found.values())
    for name in ("hr", "mrr", "ndcg", "recall"):
        assert found[f"{name}5"] <= found[f"{name}10"] <= found[f"{name}20"]


def test_an_interval_holds_the_truth_as_often_as_it_says_though_rows_of_a_session_agree() -> None:
    rng, held, naive = np.random.default_rng(1), 0, 0
    for _ in range(400):
        sizes = rng.integers(1, 9, 120)
        clusters = np.repeat(np.arange(120), sizes)
        values = np.repeat((rng.random(120) < 0.4).astype(float), sizes)[:, None]
        off = abs(values.mean() - 0.4)
        held += off <= half_widths(values, clusters)[0]
        naive += off <= half_widths(values, np.arange(len(values)))[0]
    assert 0.92 <= held / 400 <= 0.98
    assert naive / 400 < 0.85


def test_one_session_alone_has_no_interval() -> None:
    assert math.isnan(half_widths(np.ones((3, 1)), np.zeros(3, np.int64))[0])


def test_a_difference_is_judged_list_by_list() -> None:
    rng = np.random.default_rng(2)
    first = rng.random((500, 1))
    gap, width = difference(first, first + 0.01, np.arange(500))
    assert gap[0] == pytest.approx(0.01)
    assert width[0] == pytest.approx(0.0, abs=1e-12)


def test_random_items_are_as_popular_as_the_catalogue_and_the_most_clicked_ones_are_not() -> None:
    popularity = np.arange(1, 1001)
    anything = np.random.default_rng(3).integers(0, 1000, (2000, 20)).astype(np.int32)
    assert popularity_bias(anything, popularity) == pytest.approx(0.5, abs=0.01)
    best = np.full((3, 20), 999, np.int32)
    assert popularity_bias(best, popularity) > 0.99
    assert coverage(best, popularity) == 1 / 1000
    assert coverage(np.array([[0, 1, -1]], np.int32), np.array([1, 1, 1, 1, 0])) == 0.5


def test_diversity_goes_by_category_where_there_is_one() -> None:
    told = Unlikeness(clicks_of([]), array(0, 0, 1, -1, -1))
    assert told.by == "category"
    assert told.mean(np.array([[0, 1, 2]], np.int32)) == pytest.approx(2 / 3)
    assert told.mean(np.array([[3, 4, -1]], np.int32)) == 1.0
    assert math.isnan(told.mean(np.array([[3, -1, -1]], np.int32)))


def test_diversity_goes_by_the_sessions_items_share_else() -> None:
    told = Unlikeness(clicks_of([(0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 3), (1, 1, 4), (2, 2, 5)]), array())
    assert told.by == "co-occurrence"
    assert told.mean(np.array([[0, 1]], np.int32)) == pytest.approx(0.0, abs=1e-6)
    assert told.mean(np.array([[0, 2]], np.int32)) == 1.0
