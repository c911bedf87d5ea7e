from typing import Any

import numpy as np
import pytest

from online_models.drift import DriftWatch


def feed(watch: Any, rng: Any, rows: Any, believed: Any, true: Any) -> Any:
    p = rng.uniform(0.5, 1.5, rows) * believed
    clicks = (rng.random(rows) < p * true / believed).astype(float)
    return [watch.update(p[at : at + 100], clicks[at : at + 100]) for at in range(0, rows, 100)]


def test_a_changed_click_rate_is_found_soon_after_it_changed() -> None:
    watch, rng = DriftWatch(), np.random.default_rng(0)
    assert not any(feed(watch, rng, 50_000, 0.05, 0.05))
    alarms = feed(watch, rng, 50_000, 0.05, 0.10)
    assert any(alarms[:100])
    assert watch.calibration_alarms > 0
    assert watch.mean_error == pytest.approx(0.05, abs=0.01)


def test_a_model_that_gets_better_raises_no_alarm() -> None:
    watch, rng = DriftWatch(), np.random.default_rng(1)
    feed(watch, rng, 20_000, 0.20, 0.10)
    before = watch.calibration_alarms + watch.loss_alarms
    assert not any(feed(watch, rng, 30_000, 0.10, 0.10))
    assert watch.calibration_alarms + watch.loss_alarms == before


def test_turned_taste_is_found_although_the_mean_stays() -> Any:
    watch, rng = DriftWatch(), np.random.default_rng(2)

    def taste(rows: Any, sign: Any) -> Any:
        side = rng.choice([-1.0, 1.0], rows)
        return 0.3 + 0.25 * side, (rng.random(rows) < 0.3 + 0.25 * sign * side).astype(float)

    watch.update(*taste(20_000, 1))
    assert watch.loss_alarms == 0
    watch.update(*taste(20_000, -1))
    assert watch.loss_alarms > 0


def test_batching_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    p, y = rng.random(5000), (rng.random(5000) < 0.5).astype(float)
    one, other = DriftWatch(), DriftWatch()
    one.update(p, y)
    for at in range(0, 5000, 37):
        other.update(p[at : at + 37], y[at : at + 37])
    assert (one.mean_error, one.mean_loss) == pytest.approx((other.mean_error, other.mean_loss))


def test_bad_values_are_named() -> None:
    with pytest.raises(ValueError, match=r"2, 64"):
        DriftWatch(delta=2)
