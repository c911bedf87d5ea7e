"""Forecasts of another exploration rate against truths found by going through all patterns of coins."""

from itertools import product

import numpy as np
import pytest

from bandits.arrays import FloatArray, IntArray
from bandits.exploration import Exploration
from bandits.ope.strata import CoinCell, StrataGates, coin_chances, forecast, joined, unchanged
from bandits.slates import SlateProblem, draw_slate

SLOTS = 4
PATTERNS = np.array(list(product((0, 1), repeat=SLOTS)))


def worth(patterns: IntArray) -> FloatArray:
    """Chance that a slate is clicked: exploring above spoils what stands below, more than once over."""
    good = np.where(patterns == 1, 0.05, 0.25)
    patience = np.cumprod(np.where(patterns == 1, 0.6, 0.95), axis=1)
    seen = np.concatenate([np.ones((len(patterns), 1)), patience[:, :-1]], axis=1)
    out: FloatArray = 1.0 - np.prod(1.0 - good * seen, axis=1)
    return out


def truth(rate: float) -> float:
    chances = np.prod(np.where(PATTERNS == 1, rate, 1.0 - rate), axis=1)
    return float(chances @ worth(PATTERNS))


def cell(n: int, rate: float, seed: int, lift: float = 0.0) -> CoinCell:
    rng = np.random.default_rng((seed, 31))
    coins = (rng.random((n, SLOTS)) < rate).astype(np.int64)
    rewards = (rng.random(n) < worth(coins) + lift).astype(np.float64)
    return cell_of(coins.sum(axis=1), rewards, rate, SLOTS + 1)


def cell_of(
    m: IntArray, rewards: FloatArray, rate: float, width: int, *, is_single: bool = False
) -> CoinCell:
    counts, sums, squares = (
        np.bincount(m, values, minlength=width).astype(np.float64)
        for values in (np.ones(len(m)), rewards, rewards**2)
    )
    return CoinCell(rate, is_single, counts, sums, squares)


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.1, 0.2])
def test_intervals_of_a_forecast_cover_value_and_change_as_often_as_they_say(rate: float) -> None:
    value, change, runs = 0, 0, 300
    for seed in range(runs):
        told = forecast([cell(5000, 0.05, seed)], rate, 0.05)
        assert not told.reasons
        low, high = told.interval()
        value += low <= truth(rate) <= high
        low, high = told.change_interval()
        change += low <= truth(rate) - truth(0.05) <= high
        assert told.change_error < 2.5 * told.value_error
    assert 0.92 <= value / runs <= 0.99
    assert change / runs >= 0.92


def test_one_coin_a_slate_makes_the_value_a_line_through_two_means() -> None:
    rng = np.random.default_rng(1)
    m = (rng.random(20_000) < 0.1).astype(np.int64)
    rewards = (rng.random(20_000) < np.where(m == 1, 0.02, 0.2)).astype(np.float64)
    told = forecast([cell_of(m, rewards, 0.1, 2, is_single=True)], 0.3, 0.1)
    exploit, explore = rewards[m == 0].mean(), rewards[m == 1].mean()
    assert told.value == pytest.approx(0.7 * exploit + 0.3 * explore, rel=1e-4)
    assert told.change == pytest.approx(0.2 * (explore - exploit), rel=1e-4)
    assert told.change_error < 0.6 * told.value_error
    assert (told.slates, told.explored, told.reach) == (20_000, int(m.sum()), 0.0)


def test_much_data_overrules_the_belief_that_neighbours_are_alike() -> None:
    m = np.repeat(np.arange(4), 200_000)
    rewards = np.repeat([1.0, 0.0, 1.0, 0.0], 200_000)
    noisy = rewards + np.random.default_rng(2).normal(0, 0.1, len(rewards))
    told = forecast([cell_of(m, noisy, 0.5, 4)], 0.2, 0.5)
    assert told.value == pytest.approx(float(coin_chances(3, 0.2) @ [1.0, 0.0, 1.0, 0.0]), abs=0.005)


def test_hours_that_explored_more_do_not_pass_for_slates_that_explored_more() -> None:
    """Rewards rise by .3 in hours whose rate is ten times as high: pooling makes exploring look good."""
    cells = [cell(20_000, 0.02, 1), cell(20_000, 0.2, 2, lift=0.3)]
    told = forecast(cells, 0.2, 0.02)
    wished = truth(0.2) - truth(0.02)
    assert wished < -0.04
    assert abs(told.change - wished) < 3 * told.change_error + 0.003
    pooled = forecast([sum_of(cells, 0.11)], 0.2, 0.02)
    assert pooled.change - wished > 10 * pooled.change_error


def sum_of(cells: list[CoinCell], rate: float) -> CoinCell:
    parts = (sum(getattr(one, name) for one in cells) for name in ("counts", "sums", "squares"))
    return CoinCell(rate, False, *parts)


def test_slates_of_several_lengths_count_by_their_shares() -> None:
    long, short = cell(3000, 0.05, 1), cell_of(np.array([0] * 900 + [1] * 100), np.ones(1000), 0.05, 2)
    both = forecast([long, short], 0.1, 0.05)
    assert both.value == pytest.approx(0.75 * forecast([long], 0.1, 0.05).value + 0.25, abs=0.002)
    assert both.slates == 4000


def test_what_was_not_explored_is_not_told_and_says_why() -> None:
    never = CoinCell(0.0, False, np.array([900.0, 0.0]), np.array([90.0, 0.0]), np.array([90.0, 0.0]))
    for cells in ([], [never]):
        assert "nothing was explored" in forecast(cells, 0.1, 0.05).reasons[0]
    few = forecast([cell(100, 0.05, 1)], 0.1, 0.05)
    assert "slates explored, wanted 50 or more" in few.reasons[0]
    far = forecast([cell(3000, 0.02, 1)], 0.5, 0.02)
    assert "would explore more slots than any logged" in far.reasons[0]
    assert far.reach > 0.05
    assert not forecast([cell(3000, 0.02, 1)], 0.5, 0.02, StrataGates(largest_reach=1.0)).reasons


def test_rare_strata_without_a_click_are_not_certain_of_zero() -> None:
    m = np.array([0] * 2000 + [1] * 60)
    told = forecast([cell_of(m, np.where(m == 0, np.arange(2060) % 5 == 0, 0.0), 0.03, 2)], 0.3, 0.03)
    assert told.change_error > 0.005


def test_a_slate_depends_on_the_rate_only_through_its_coins() -> None:
    """On slates of the product: given how many slots explored, two rates draw from the same law."""
    problem, means = SlateProblem(np.array([0.5, 0.3, 0.2, 0.0, -0.2]), 2), []
    for rate in (0.2, 0.5):
        law = Exploration("softmax", rate=rate, temperature=0.5)
        drawn = [draw_slate(problem, law, seed) for seed in range(12_000)]
        one = np.array([slate.explored.sum() == 1 for slate in drawn])
        tops = np.array([slate.indices[0] for slate in drawn])[one]
        means.append(np.bincount(tops, minlength=5) / len(tops))
        assert one.mean() == pytest.approx(coin_chances(2, rate)[1], abs=0.02)
    np.testing.assert_allclose(means[0], means[1], atol=0.03)


def test_parts_that_cannot_be_told_are_left_out_and_refuse_the_whole_above_their_limit() -> None:
    large, other, never = (
        forecast([cell(5000, 0.05, 1)], 0.1, 0.05),
        unchanged([cell(5000, 0.05, 2)]),
        forecast([], 0.1, 0.05),
    )
    whole = joined([large, never, other], [0.6, 0.01, 0.39], 0.01)
    assert whole.reasons == ()
    assert whole.value == pytest.approx((0.6 * large.value + 0.39 * other.value) / 0.99)
    assert whole.change == pytest.approx(0.6 * large.change / 0.99)
    assert whole.change_error == pytest.approx(0.6 * large.change_error / 0.99)
    assert joined([large, never], [0.98, 0.02], 0.01).reasons == never.reasons
    assert joined([never], [1.0], 0.01).reasons == never.reasons
    assert joined([], [], 0.01).reasons


def test_a_log_without_a_reward_has_the_interval_of_one_that_chance_kept_back() -> None:
    n = 10_000
    m = np.random.default_rng(5).binomial(SLOTS, 0.05, n)
    silent = cell_of(m, np.zeros(n), 0.05, SLOTS + 1)
    for told in (forecast([silent], 0.1, 0.05), unchanged([silent])):
        assert not told.reasons
        assert 0.5 / n < told.now_error < 3.0 / n
    assert forecast([silent], 0.1, 0.05).change_error > 0.1 / n
