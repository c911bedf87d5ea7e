import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import drift

from online_models.adwin import Adwin
from online_models.drift import DriftWatch

_UNTYPED: Any = drift


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


@given(st.lists(st.tuples(st.integers(20, 400), st.floats(-1, 1), st.floats(0.01, 1)), max_size=4))
def test_the_window_is_that_of_river_until_it_is_first_cut(parts: Any) -> None:
    rng, make = np.random.default_rng(len(parts)), _UNTYPED.ADWIN
    river, ours = make(), Adwin()
    for value in [value for size, mean, spread in parts for value in rng.normal(mean, spread, size)]:
        river.update(value)
        is_cut = ours.update(value)
        assert ours.width == river.width
        assert ours.mean == pytest.approx(river.estimation)
        assert is_cut == river.drift_detected
        if is_cut:
            return


def test_a_restored_watch_goes_on_to_the_last_bit() -> None:
    for rows in (0, 10, 500, 20_000, 20_033):
        one, rng = DriftWatch(), np.random.default_rng(rows)
        feed(one, rng, rows, 0.1, 0.1)
        arrays, meta = one.snapshot()
        other = DriftWatch.restore(arrays, json.loads(json.dumps(meta)))
        alarms = [feed(watch, np.random.default_rng(5), 9_000, 0.1, 0.2) for watch in (one, other)]
        assert alarms[0] == alarms[1]
        (left, one_meta), (right, other_meta) = one.snapshot(), other.snapshot()
        assert one_meta == other_meta
        for name, values in left.items():
            np.testing.assert_array_equal(values, right[name])


def test_memory_is_bounded_by_the_logarithm_of_the_window() -> None:
    window = Adwin()
    for value in np.random.default_rng(4).normal(size=100_000):
        window.update(value)
    assert window.width > 90_000
    assert len(window.snapshot()[0]) < 90


def test_bad_values_are_named() -> None:
    with pytest.raises(ValueError, match=r"2, 64"):
        DriftWatch(delta=2)
