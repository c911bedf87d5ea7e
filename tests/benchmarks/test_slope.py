"""Slopes of series: what grows is told from what only wavers."""

import numpy as np
import pytest

from benchmarks._slope import slope

TIMES = np.arange(0.0, 3_600.0, 5.0)


def test_a_straight_line_is_found_exactly() -> None:
    found = slope(TIMES, 100.0 + 12.0 * TIMES / 3_600.0)
    assert found.per_hour == pytest.approx(12.0)
    assert not found.is_flat


def test_noise_alone_is_flat_and_its_interval_holds_zero() -> None:
    covered = 0
    for seed in range(100):
        found = slope(TIMES, 100.0 + np.random.default_rng(seed).normal(0.0, 5.0, len(TIMES)))
        covered += found.low <= 0.0 <= found.high
    assert 88 <= covered <= 100


def test_growth_is_seen_through_noise() -> None:
    noise = np.random.default_rng(1).normal(0.0, 5.0, len(TIMES))
    found = slope(TIMES, 100.0 + 10.0 * TIMES / 3_600.0 + noise)
    assert found.low > 0.0
    assert found.low < 10.0 < found.high
    assert found.share_per_hour == pytest.approx(0.095, abs=0.03)


def test_the_warm_up_does_not_count() -> None:
    values = np.where(TIMES < 1_100.0, 50.0, 100.0)
    assert slope(TIMES, values).per_hour == pytest.approx(0.0, abs=1e-9)


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="2 samples"):
        slope([0.0, 1.0], [1.0, 1.0])
