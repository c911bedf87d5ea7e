from typing import Any

import numpy as np
import pytest

from online_models.evidence import FEWEST, Comparison, by_outcome, pooled


def decisions(rng: Any, effect: Any, looks: Any = 60, step: Any = 200) -> Any:
    """Return what an interval looked at after every batch says: the first look that left out zero, if any."""
    one = Comparison()
    for look in range(looks):
        one.update(effect + rng.standard_exponential(step) * 0.05 - 0.05)  # skewed, as losses are
        if one.interval().is_decided:
            return look, np.sign(one.interval().mean)
    return None


def test_looked_at_all_the_time_it_still_errs_no_more_often_than_said() -> None:
    wrong = [decisions(np.random.default_rng(seed), 0.0) for seed in range(300)]
    assert sum(found is not None for found in wrong) <= 0.05 * 300 + 8


@pytest.mark.parametrize("effect", [-0.004, 0.004])
def test_a_true_difference_is_found_with_its_sign(effect: Any) -> None:
    found = [decisions(np.random.default_rng(seed), effect, looks=100) for seed in range(40)]
    assert all(one is not None and one[1] == np.sign(effect) for one in found)


def test_it_covers_the_truth_at_every_look() -> None:
    missed = 0
    for seed in range(200):
        one, rng = Comparison(), np.random.default_rng(seed)
        for _ in range(40):
            one.update(rng.normal(0.01, 0.3, 150))
            missed += not one.interval().low <= 0.01 <= one.interval().high
            if not one.interval().low <= 0.01 <= one.interval().high:
                break
    assert missed <= 0.05 * 200 + 7


def test_few_outcomes_decide_nothing() -> None:
    one = Comparison()
    one.update(np.full(FEWEST - 1, -5.0))
    assert not one.interval().is_decided
    one.update(np.full(1, -5.0))
    assert one.interval().high < 0


def test_lanes_together_are_one_long_lane() -> None:
    rng = np.random.default_rng(1)
    parts, whole = [Comparison() for _ in range(3)], Comparison()
    for n in range(30):
        differences = rng.normal(size=50)
        parts[n % 3].update(differences)
        whole.update(differences)
    one, other = pooled(parts), whole.interval()
    assert (one.outcomes, one.mean, one.low) == pytest.approx((other.outcomes, other.mean, other.low))
    assert Comparison.restore(whole.totals()).interval() == other


def test_slots_of_one_outcome_are_one_observation() -> None:
    means = by_outcome(np.array([1.0, 3.0, 5.0]), np.array([0, 0, 2]), 3)
    np.testing.assert_array_equal(means, [2.0, 0.0, 5.0])
