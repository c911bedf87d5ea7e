from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bandits.arrays import FloatArray
from bandits.exploration import Exploration
from tests.bandits.schemes import SCHEMES, name_of

scores = arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e300, 1e300))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scheme", "thompson"),
        ("rate", -0.01),
        ("rate", 1.01),
        ("rate", float("nan")),
        ("temperature", 0.0),
        ("temperature", float("inf")),
        ("optimism", -1.0),
        ("optimism", 11.0),
        ("floor", -1e-9),
        ("floor", 2.0),
        ("gamma", 0.0),
    ],
)
def test_a_wrong_value_is_refused_with_its_field_the_value_and_the_wish(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{field} is '?{value}'?, wanted"):
        Exploration(**{field: value})


@pytest.mark.parametrize("exploration", SCHEMES, ids=name_of)
@given(scores)
@settings(max_examples=15, deadline=None)
def test_every_law_is_a_distribution_whatever_the_scores(
    exploration: Exploration, scores: FloatArray
) -> None:
    law = exploration.law(scores)
    assert (law >= 0).all()
    assert abs(law.sum() - 1.0) < 1e-12


@pytest.mark.parametrize("exploration", SCHEMES, ids=name_of)
@given(scores)
@settings(max_examples=15, deadline=None)
def test_no_law_gives_a_worse_candidate_more(exploration: Exploration, scores: FloatArray) -> None:
    law = exploration.law(scores)[np.argsort(-scores, kind="stable")]
    assert (np.diff(law) <= 1e-12).all()


def test_softmax_is_that_of_scores_over_temperature() -> None:
    law = Exploration(scheme="softmax", temperature=2.0).law(np.array([0.0, 2.0, 4.0]))
    np.testing.assert_allclose(law, np.exp([0.0, 1.0, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum(), rtol=1e-14)


def test_squarecb_is_the_published_formula() -> None:
    scores = np.array([0.0, 1.0, -1.0])
    rewards = 1.0 / (1.0 + np.exp(-scores))
    law = Exploration(scheme="squarecb", gamma=10.0).law(scores)
    others = 1.0 / (3.0 + 10.0 * (rewards[1] - rewards[[0, 2]]))
    np.testing.assert_allclose(law, [others[0], 1.0 - others.sum(), others[1]], rtol=1e-14)


def test_optimism_adds_standard_deviations_for_its_own_scheme_only() -> None:
    mean, variance = np.array([1.0, 2.0]), np.array([4.0, 0.25])
    optimistic = Exploration(scheme="optimistic", optimism=0.5)
    np.testing.assert_allclose(optimistic.utilities(mean, variance), [2.0, 2.25])
    np.testing.assert_array_equal(Exploration(scheme="softmax").utilities(mean, variance), mean)
    np.testing.assert_array_equal(Exploration(scheme="greedy").utilities(mean, None), mean)


def test_optimism_without_a_variance_is_refused() -> None:
    with pytest.raises(ValueError, match="variance is None"):
        Exploration(scheme="optimistic").utilities(np.zeros(2), None)


def test_the_floor_is_paid_out_of_the_rate_first() -> None:
    n = np.array([10.0, 100.0, 1000.0])
    explored, floor = Exploration(scheme="epsilon", rate=0.05, floor=0.002).shares(n)
    np.testing.assert_allclose(explored, [0.05, 0.2, 1.0])
    np.testing.assert_allclose(floor, [0.02, 0.2, 1.0])
