from collections import Counter
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bandits.arrays import BoolArray, FloatArray, IntArray
from bandits.exploration import Exploration
from bandits.slates import (
    CategoryCap,
    Diversity,
    SlateProblem,
    SlotRule,
    draw_slate,
    slate_parts,
    slate_propensities,
    slot_distribution,
)
from tests.bandits.schemes import SCHEMES, name_of

each_scheme = pytest.mark.parametrize("exploration", SCHEMES, ids=name_of)
stochastic = pytest.mark.parametrize("exploration", [e for e in SCHEMES if e.is_stochastic], ids=name_of)

each_slot_explores = pytest.mark.parametrize(
    "exploration", [e for e in SCHEMES if e.is_stochastic and e.mode == "every_slot"], ids=name_of
)


class Alternating:
    """Odd slots take odd candidates: eligible ones leave and come back."""

    def eligible(self, prefix: IntArray) -> BoolArray:
        return np.array([index % 2 == len(prefix) % 2 for index in range(6)])


@st.composite
def problems(draw: st.DrawFn) -> SlateProblem:
    k = draw(st.integers(0, 12))
    numbers = st.one_of(st.floats(-5, 5), st.sampled_from([0.0, 1.0, 700.0, -1e308, 1e308]))
    scores = np.array(draw(st.lists(numbers, min_size=k, max_size=k)), np.float64)
    weights = draw(st.none() | st.lists(st.sampled_from([0.0, 0.5, 1.0, 9.0]), min_size=k, max_size=k))
    likeness = draw(st.none() | st.lists(st.integers(0, 2**64 - 1), min_size=k, max_size=k))
    codes = draw(st.none() | st.lists(st.integers(-1, 3), min_size=k, max_size=k))
    pinned = draw(st.none() | st.lists(st.sampled_from(range(k)), unique=True, max_size=3)) if k else None
    return SlateProblem(
        scores,
        draw(st.integers(0, 14)),
        pinned=None if pinned is None else np.array(pinned, np.int64),
        explore_weights=None if weights is None else np.array(weights),
        rule=None if codes is None else CategoryCap(np.array(codes, np.int64), draw(st.integers(1, 3))),
        diversity=None if likeness is None else Diversity(np.array(likeness, np.uint64), 0.7),
    )


@each_scheme
@given(problem=problems(), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=20, deadline=None)
def test_propensities_are_those_of_the_whole_distribution_and_it_sums_to_one(
    exploration: Exploration, problem: SlateProblem, seed: int
) -> None:
    slate = draw_slate(problem, exploration, seed)
    for slot, index in enumerate(slate.indices):
        law = slot_distribution(problem, slate.indices[:slot], exploration)
        assert (law >= 0).all()
        assert abs(law.sum() - 1.0) < 1e-12
        assert abs(law[index] - slate.propensities[slot]) < 1e-12
        assert 0 < slate.propensities[slot] <= 1 + 1e-15
        assert (law[slate.indices[:slot]] == 0).all()


@each_scheme
@given(problem=problems(), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=20, deadline=None)
def test_a_logged_slate_replays_bit_for_bit_and_its_propensities_recompute(
    exploration: Exploration, problem: SlateProblem, seed: int
) -> None:
    slate, again = draw_slate(problem, exploration, seed), draw_slate(problem, exploration, seed)
    for name in ("indices", "propensities", "explored", "eligible"):
        np.testing.assert_array_equal(getattr(slate, name), getattr(again, name))
    recomputed = slate_propensities(problem, slate.indices, exploration)
    np.testing.assert_allclose(recomputed, slate.propensities, rtol=1e-12, atol=0)


@each_scheme
@given(problem=problems(), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=20, deadline=None)
def test_slates_hold_distinct_eligible_candidates_and_end_only_where_nobody_is_left(
    exploration: Exploration, problem: SlateProblem, seed: int
) -> None:
    slate = draw_slate(problem, exploration, seed)
    assert len(set(slate.indices.tolist())) == len(slate.indices)
    for slot, index in enumerate(slate.indices):
        left = _left(problem, slate.indices[:slot])
        assert left[index]
        assert slate.eligible[slot] == left.sum()
    if len(slate.indices) < problem.size:
        assert not _left(problem, slate.indices).any()


@each_slot_explores
@given(problem=problems(), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=20, deadline=None)
def test_no_eligible_candidate_falls_below_the_floor(
    exploration: Exploration, problem: SlateProblem, seed: int
) -> None:
    slate = draw_slate(problem, exploration, seed)
    for slot in range(len(slate.indices)):
        left = _left(problem, slate.indices[:slot])
        law = slot_distribution(problem, slate.indices[:slot], exploration)
        assert (law[left] >= min(exploration.floor, 1.0 / left.sum()) * (1 - 1e-12)).all()


def _left(problem: SlateProblem, prefix: IntArray) -> BoolArray:
    pinned = np.zeros(0, np.int64) if problem.pinned is None else problem.pinned
    prefix = np.concatenate([pinned, prefix])
    left = np.ones(len(problem.scores), np.bool_)
    if problem.rule is not None:
        left = problem.rule.eligible(prefix).copy()
    left[prefix] = False
    return left


ENUMERABLE = {
    "all eligible": SlateProblem(np.array([0.3, 0.0, 0.9, -0.4, 0.2]), 3),
    "weighted exploration": SlateProblem(
        np.array([0.3, 0.0, 0.9, -0.4, 0.2]), 3, explore_weights=np.array([0.0, 5.0, 1.0, 2.0, 2.0])
    ),
    "at most one of a category": SlateProblem(
        np.array([0.3, 0.0, 0.9, -0.4, 0.2]), 3, rule=CategoryCap(np.array([0, 0, 1, 1, -1]), 1)
    ),
    "unlike those placed": SlateProblem(
        np.array([0.3, 0.0, 0.9, -0.4, 0.2]),
        3,
        diversity=Diversity(np.array([7, 7, 9, 9, 2**63], np.uint64), 0.8),
    ),
    "eligible again": SlateProblem(np.array([0.3, 0.0, 0.9, -0.4, 0.2, 0.6]), 3, rule=Alternating()),
}


@pytest.mark.parametrize("case", ENUMERABLE)
@stochastic
def test_slates_come_up_as_often_as_their_propensities_say(exploration: Exploration, case: str) -> None:
    problem, n = ENUMERABLE[case], 2500
    drawn = Counter(
        tuple(draw_slate(problem, exploration, 7919 * seed).indices.tolist()) for seed in range(n)
    )
    expected: dict[tuple[int, ...], float] = {}
    for slate in permutations(range(len(problem.scores)), 3):
        p = float(np.prod(slate_propensities(problem, np.array(slate), exploration)))
        if p > 0:
            expected[slate] = p * n
    assert abs(sum(expected.values()) - n) < 1e-9 * n
    assert drawn.keys() <= expected.keys()
    assert _p_value(drawn, expected) > 1e-4


@pytest.mark.parametrize("exploration", [SCHEMES[4], SCHEMES[5]], ids=name_of)
def test_a_temperature_off_by_a_twentieth_would_show_in_the_counts(exploration: Exploration) -> None:
    problem, n = SlateProblem(np.array([0.3, 0.0, 0.9, -0.4, 0.2]), 1), 30_000
    places = np.array([draw_slate(problem, exploration, 7919 * seed).indices[0] for seed in range(n)])
    counts, nobody = np.bincount(places, minlength=5), np.array([], np.int64)
    warmer = replace(exploration, temperature=1.05 * exploration.temperature)
    true, other = (slot_distribution(problem, nobody, law) * n for law in (exploration, warmer))
    assert stats.chisquare(counts, true).pvalue > 1e-3
    assert stats.chisquare(counts, other).pvalue < 1e-3


def _p_value(drawn: Counter[tuple[int, ...]], expected: dict[tuple[int, ...], float]) -> float:
    """Chi-square with the rare slates taken together."""
    common = [slate for slate in expected if expected[slate] >= 5]
    seen, wished = [drawn[slate] for slate in common], [expected[slate] for slate in common]
    rare = sum(expected.values()) - sum(wished)
    if rare >= 1:
        seen, wished = [*seen, sum(drawn.values()) - sum(seen)], [*wished, rare]
    if len(wished) == 1:
        return 1.0
    return float(stats.chisquare(seen, np.array(wished) * (sum(seen) / sum(wished))).pvalue)


@pytest.mark.parametrize("case", ["all eligible", "at most one of a category"])
def test_the_coin_says_explore_as_often_as_the_rate(case: str) -> None:
    exploration, n = Exploration(scheme="softmax", rate=0.3, temperature=1.0), 3000
    explored = sum(int(draw_slate(ENUMERABLE[case], exploration, seed).explored.sum()) for seed in range(n))
    assert abs(explored / (3 * n) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / (3 * n))


def test_greedy_takes_the_best_in_order_and_the_first_of_equals() -> None:
    slate = draw_slate(SlateProblem(np.array([1.0, 3.0, 3.0, 2.0]), 4), Exploration(scheme="greedy"), 5)
    assert slate.indices.tolist() == [1, 2, 3, 0]
    assert slate.propensities.tolist() == [1.0] * 4
    assert not slate.explored.any()


def test_weights_decide_where_exploration_goes() -> None:
    problem = SlateProblem(np.zeros(4), 2, explore_weights=np.array([0.0, 0.0, 1.0, 0.0]))
    for seed in range(50):
        assert draw_slate(problem, Exploration(scheme="epsilon", rate=1.0), seed).indices[0] == 2


def test_far_apart_scores_at_low_temperature_leave_exact_propensities() -> None:
    """Once the best is placed, what is left far below it must not have drowned in rounding."""
    problem = SlateProblem(np.array([800.0, 0.0, 0.001]), 3)
    exploration = Exploration(scheme="softmax", rate=0.0, temperature=1e-3)
    propensities = slate_propensities(problem, np.array([0, 1, 2]), exploration)
    np.testing.assert_allclose(propensities, [1.0, 1.0 / (1.0 + np.e), 1.0], rtol=1e-9)


@pytest.mark.parametrize(("size", "k"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_wanted_or_nothing_there_is_an_empty_slate(size: int, k: int) -> None:
    slate = draw_slate(SlateProblem(np.zeros(k), size), Exploration(), 1)
    assert slate.indices.shape == slate.propensities.shape == slate.explored.shape == (0,)


@each_scheme
@pytest.mark.parametrize("k", [0, 3])
def test_the_law_of_a_slot_that_nobody_is_left_for_is_zero(exploration: Exploration, k: int) -> None:
    law = slot_distribution(SlateProblem(np.arange(float(k)), 5), np.arange(k), exploration)
    assert law.tolist() == [0.0] * k


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_refused_by_index(bad: float) -> None:
    with pytest.raises(ValueError, match=r"scores\[2\] is"):
        SlateProblem(np.array([0.0, 1.0, bad, np.nan]), 2)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.array([1.0]), r"explore_weights has shape \(1,\), wanted \(2,\)"),
        (np.array([1.0, -1.0]), r"explore_weights\[1\] is -1"),
        (np.array([np.nan, 1.0]), r"explore_weights\[0\] is nan"),
    ],
)
def test_wrong_weights_are_refused(weights: FloatArray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SlateProblem(np.zeros(2), 1, explore_weights=weights)


@pytest.mark.parametrize("indices", [[0, 0], [3], [-1]])
def test_a_slate_that_cannot_be_is_refused(indices: list[int]) -> None:
    with pytest.raises(ValueError, match="indices are"):
        slate_propensities(SlateProblem(np.zeros(3), 2), np.array(indices), Exploration())


def test_a_category_cap_counts_placed_candidates_and_lets_those_without_category_pass() -> None:
    rule: SlotRule = CategoryCap(np.array([0, 0, 0, 1, -1, -1]), 2)
    assert rule.eligible(np.array([], np.int64)).all()
    assert rule.eligible(np.array([0, 4, 5])).all()
    assert rule.eligible(np.array([0, 2])).tolist() == [False, False, False, True, True, True]


@pytest.mark.parametrize(
    ("codes", "cap", "message"), [([0, 1], 0, "cap is 0"), ([-2, 1], 1, "categories holds -2")]
)
def test_a_wrong_category_cap_is_refused(codes: list[int], cap: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CategoryCap(np.array(codes), cap)


@each_scheme
@given(problem=problems(), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=20, deadline=None)
def test_the_parts_of_a_propensity_make_it_up(
    exploration: Exploration, problem: SlateProblem, seed: int
) -> None:
    slate = draw_slate(problem, exploration, seed)
    parts = slate_parts(problem, slate.indices, exploration)
    np.testing.assert_allclose([one.propensity for one in parts], slate.propensities, rtol=0, atol=1e-12)
    assert [one.eligible for one in parts] == slate.eligible.tolist()


@each_scheme
@given(problem=problems(), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=20, deadline=None)
def test_what_is_pinned_is_never_drawn_and_counts_for_cap_and_likeness(
    exploration: Exploration, problem: SlateProblem, seed: int
) -> None:
    pinned = [] if problem.pinned is None else problem.pinned.tolist()
    drawn = draw_slate(problem, exploration, seed).indices.tolist()
    assert not set(drawn) & set(pinned)
    if isinstance(problem.rule, CategoryCap):
        codes = Counter(problem.rule.categories[[*pinned, *drawn]].tolist())
        by_rule = Counter(problem.rule.categories[pinned].tolist())
        assert all(n <= max(problem.rule.cap, by_rule[code]) for code, n in codes.items() if code >= 0)


def test_a_twin_of_a_pinned_candidate_loses_as_one_of_a_drawn_one_does() -> None:
    signatures = np.array([7, 7, 2**64 - 1 - 7], np.uint64)
    alike = SlateProblem(np.array([0.0, 1.0, 0.9]), 1, diversity=Diversity(signatures, 1.0))
    greedy = Exploration(scheme="greedy")
    assert draw_slate(alike, greedy, 1).indices.tolist() == [1]
    pinned = SlateProblem(alike.scores, 1, diversity=alike.diversity, pinned=np.array([0]))
    assert draw_slate(pinned, greedy, 1).indices.tolist() == [2]
