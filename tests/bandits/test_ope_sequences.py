"""Sequences that may be looked at at any time, and what propensities tell."""

import numpy as np
import pytest

from bandits.arrays import FloatArray
from bandits.ope import Estimate
from bandits.ope.calibration import Calibration
from bandits.ope.sequences import BernsteinSequence, delayed, mixture_p_value, robbins

LOOKS = 200


def z_scores(
    rates: tuple[float, float], runs: int, seed: int, per_arm: int = 20_000
) -> tuple[FloatArray, FloatArray]:
    """Differences of two arms' click rates in standard errors, and those errors: (runs, LOOKS) each."""
    rng, step = np.random.default_rng(seed), per_arm // LOOKS
    n = step * np.arange(1, LOOKS + 1)
    one, other = (rng.binomial(step, rate, (runs, LOOKS)).cumsum(axis=1) / n for rate in rates)
    error = np.sqrt((one * (1 - one) + other * (1 - other)) / n)
    return (other - one) / np.maximum(error, 1e-12), error


def test_looking_two_hundred_times_raises_no_more_false_alarms_than_promised() -> None:
    z, error = z_scores((0.05, 0.05), 3000, 1)
    n = range(100, 20_001, 100)
    alarms = {
        "robbins": np.abs(z) > [robbins(k, 0.95, 15_000) for k in n],
        "delayed": np.abs(z) > [delayed(k, 0.95, 8000) for k in n],
        "msprt": np.vectorize(mixture_p_value)((z * error)[:500, ::4], error[:500, ::4], 0.01) < 0.05,
    }
    for name, alarm in alarms.items():
        assert alarm.any(axis=1).mean() <= 0.05, name
    assert (np.abs(z) > 1.96).any(axis=1).mean() > 0.25  # what a test for one look does


def test_a_click_rate_of_six_instead_of_five_percent_is_found_in_nineteen_of_twenty_runs() -> None:
    z, _ = z_scores((0.05, 0.06), 3000, 2)
    n = range(100, 20_001, 100)
    found = (np.abs(z) > [delayed(k, 0.95, 8000) for k in n]).any(axis=1).mean()
    assert found >= 0.945


def test_nobody_can_look_before_the_first_look() -> None:
    estimate = Estimate("ips", 0.1, 0.01, 500, np.empty(0))
    assert estimate.delayed_sequence(501) == (-np.inf, np.inf)
    low, high = estimate.delayed_sequence(500)
    assert 0.1 - low == pytest.approx(high - 0.1)
    assert (
        high - low
        < estimate.confidence_sequence(tuned_at=500)[1] - estimate.confidence_sequence(tuned_at=500)[0]
    )


def test_p_values_of_estimates_fall_with_evidence_and_say_nothing_without() -> None:
    assert Estimate("dr", 0.5, float("inf"), 1, np.empty(0)).p_value(0.1) == 1.0
    weak, strong = (Estimate("dr", value, 0.02, 100, np.empty(0)).p_value(0.1) for value in (0.02, 0.12))
    assert strong < 0.001 < weak <= 1.0
    assert mixture_p_value(0.0, 0.0, 1.0) == 1.0
    assert mixture_p_value(0.1, 0.0, 1.0) == 0.0
    with pytest.raises(ValueError, match="effect is 0"):
        mixture_p_value(0.1, 0.1, 0.0)


@pytest.mark.parametrize("mean", [0.02, 0.5])
def test_bernstein_sequences_cover_at_every_look_and_close_in(mean: float) -> None:
    missed, width = 0, 0.0
    for seed in range(200):
        sequence = BernsteinSequence()
        values = (np.random.default_rng(seed).random(4000) < mean).astype(np.float64)
        outside = False
        for start in range(0, 4000, 100):
            sequence.add(values[start : start + 100])
            low, high = sequence.interval()
            outside |= not low <= mean <= high
        missed, width = missed + outside, high - low
    assert missed / 200 <= 0.05
    assert width < (0.03 if mean == 0.02 else 0.1)


def test_bernstein_sequences_are_the_published_formula_value_by_value() -> None:
    """Bet and centre of each value are made of those before it: else the sequence would not cover."""
    values = np.random.default_rng(7).random(200)
    log = np.log(2 / 0.05)
    bets = weighted = spent = 0.0
    mean, variance, total, squares = 0.5, 0.25, 0.0, 0.0
    for t, x in enumerate(values.tolist(), start=1):
        bet = min(0.5, np.sqrt(2 * log / (variance * t * np.log(1 + t))))
        bets, weighted = bets + bet, weighted + bet * x
        spent += (x - mean) ** 2 * (-np.log(1 - bet) - bet)
        total += x
        mean = (0.5 + total) / (t + 1)
        squares += (x - mean) ** 2
        variance = (0.25 + squares) / (t + 1)
    sequence = BernsteinSequence()
    sequence.add(values)
    wished = weighted / bets + np.array([-1, 1]) * (log + spent) / bets
    np.testing.assert_allclose(sequence.interval(), wished, rtol=1e-12)


def test_bernstein_sequences_do_not_depend_on_how_the_stream_is_cut() -> None:
    values = np.random.default_rng(4).random(300)
    whole, pieces = BernsteinSequence(), BernsteinSequence()
    assert whole.interval() == (0.0, 1.0)
    whole.add(values)
    for piece in np.array_split(values, 7):
        pieces.add(piece)
    pieces.add(np.empty(0))
    assert pieces.n == 300
    np.testing.assert_allclose(pieces.interval(), whole.interval(), rtol=1e-12)
    with pytest.raises(ValueError, match=r"values\[1\] is 1.5"):
        whole.add(np.array([0.5, 1.5]))
    with pytest.raises(ValueError, match="level is 1"):
        BernsteinSequence(1.0)


def shown(n: int, seed: int, true: FloatArray) -> list[str]:
    drawn = np.random.default_rng(seed).choice(len(true), n, p=true)
    return [f"arm-{one}" for one in drawn.tolist()]


def test_right_propensities_are_calibrated_and_wrong_ones_are_named() -> None:
    true = np.array([0.6, 0.3, 0.1])
    for claimed, wrong in ((true, set()), (np.array([0.6, 0.25, 0.15]), {"arm-1", "arm-2"})):
        calibration = Calibration()
        for seed in range(5):
            arms = shown(4000, seed, true)
            calibration.add(arms, claimed[[int(arm[4:]) for arm in arms]])
        assert {arm.arm for arm in calibration.wrong(20_000)} == wrong
    ratios = {arm.arm: arm.ratio for arm in calibration.arms(20_000)}
    assert ratios["arm-2"] == pytest.approx(0.1 / 0.15, rel=0.1)


def test_calibration_keeps_a_bounded_number_of_arms() -> None:
    calibration = Calibration(most_arms=2)
    calibration.add(["a", "b", "c", "a"], np.array([0.5, 0.5, 0.5, 0.25]))
    assert [(arm.arm, arm.shown) for arm in calibration.arms(4)] == [("a", 2), ("b", 1)]
    assert calibration.arms(4)[0].ratio == pytest.approx(6.0 / 4)
    assert calibration.wrong(4) == []
