"""How many new items reach their quota, against simulated streams of impressions."""

import numpy as np
import pytest

from bandits.budgets import Quota, explore_weights
from bandits.ope.quota import forecast_quota

ITEMS, QUOTA = 60, 10


def simulated(exploited: int, explored: int, seed: int) -> float:
    """Return how many items reach the quota where exploration follows the product's law."""
    rng, had, quota = np.random.default_rng(seed), np.zeros(ITEMS), Quota(QUOTA, 1.0)
    for explores in rng.permutation(np.repeat([False, True], [exploited, explored])):
        weights = explore_weights(quota.deficits(had, np.zeros(ITEMS))) if explores else None
        had[rng.choice(ITEMS, p=weights)] += 1
    return float((had >= QUOTA).sum())


@pytest.mark.parametrize(
    ("exploited", "explored"), [(0, 720), (180, 500), (180, 700), (420, 400), (900, 100), (600, 0)]
)
def test_a_forecast_is_near_what_aimed_exploration_does(exploited: int, explored: int) -> None:
    truth = np.mean([simulated(exploited, explored, seed) for seed in range(4)])
    told = forecast_quota(ITEMS, (0.0, exploited), (0.0, explored), QUOTA)
    assert told.reaching == pytest.approx(truth, abs=0.15 * ITEMS)
    assert told.impressions == pytest.approx((exploited + explored) / ITEMS)
    assert told.reaching_now == 0.0


def test_enough_exploring_reaches_all_though_every_impression_were_a_tenth_short_by_chance() -> None:
    assert forecast_quota(219, (0, 0), (0, 219 * 10), 10).reaching == pytest.approx(219)
    assert forecast_quota(1, (0, 0), (0, 0.25), 1).reaching == pytest.approx(0.25)
    assert forecast_quota(0, (0, 0), (5, 5), 3).reaching == 0.0
