"""What new items are owed, the law that pays it, and token buckets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from bandits.budgets import Quota, Spending, allowance, bucket_level, explore_weights, owed_weights

NUMBERS = st.lists(st.floats(0, 50), min_size=1, max_size=40)


def test_a_deficit_is_what_is_missing_within_the_patience() -> None:
    quota = Quota(10, 100.0)
    impressions, ages = np.array([0.0, 4, 10, 30, 0, 0]), np.array([0.0, 50, 50, 50, 100, -1])
    assert quota.deficits(impressions, ages).tolist() == [10, 6, 0, 0, 0, 0]


@given(NUMBERS)
def test_the_law_of_exploration_sums_to_one_and_leaves_nobody_out(deficits: list[float]) -> None:
    owed = owed_weights(np.array(deficits), np.linspace(-3, 3, len(deficits)))
    weights = explore_weights(owed, 0.1)
    if weights is None:
        assert not any(deficits)
        return
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert weights.min() >= 0.1 / len(deficits) * (1 - 1e-12)


def test_among_those_owed_alike_the_better_is_explored_more() -> None:
    scores = np.array([-1.0, 2.0])
    weights = explore_weights(owed_weights(np.array([5.0, 5.0]), scores), 0.0)
    assert weights is not None
    np.testing.assert_allclose(weights, expit(scores) / expit(scores).sum())


def spending(explored: list[float], exploited: float, reward: float) -> Spending:
    """Return stretches with 1,000 exploited and 980 explored slots of these mean rewards."""
    n = len(explored)
    return Spending(
        np.array(explored),
        np.full(n, 1000.0),
        np.full(n, 1000 * exploited),
        np.full(n, 980.0),
        np.full(n, reward * 980),
    )


def test_what_an_explored_slot_costs_is_measured_against_exploited_ones() -> None:
    assert spending([1.0], 0.1, 0.04).cost_per_slot() == pytest.approx(0.1 - 0.04 * 0.98)
    assert spending([1.0], 0.1, 0.2).cost_per_slot() == 0.0
    nothing = np.zeros(1)
    assert Spending(np.ones(1), nothing, nothing, nothing, nothing).cost_per_slot() == 0.0
    assert spending([10.0, 20.0], 0.1, 0.0).costs().tolist() == pytest.approx([1.0, 2.0])


def test_a_bucket_begins_full_never_overflows_and_owes_at_most_its_capacity() -> None:
    assert bucket_level(np.zeros(3), 6.0, np.ones(3)) == 6.0
    assert bucket_level(np.array([4.0, 0.0, 0.0]), 6.0, np.ones(3)) == 4.0
    assert bucket_level(np.array([100.0]), 6.0, np.ones(1)) == -6.0


@given(st.floats(-10, 10), st.floats(0, 10, allow_subnormal=False))
def test_the_allowance_is_a_share_and_grows_with_the_level(level: float, capacity: float) -> None:
    share = allowance(level, capacity)
    assert 0.0 <= share <= 1.0
    assert share <= allowance(level + 1.0, capacity)
    assert allowance(capacity, capacity) == (1.0 if capacity > 0 else 0.0)
