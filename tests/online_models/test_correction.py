import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.correction import Correction, CorrectionSettings
from online_models.prequential import Prequential
from online_models.scorer import sigmoid

AT_ONCE = CorrectionSettings(after=0)


def stream(rng: Any, rows: Any, slope: Any, shift: Any) -> Any:
    """Return logits of a model whose truth is slope * logit + shift, and clicks."""
    logits = rng.normal(-2.5, 1.2, rows)
    return logits, (rng.random(rows) < sigmoid(slope * logits + shift)).astype(float)


@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (0.5, -1.0), (1.6, 0.8), (1.0, -1.5)])
def test_a_known_miscalibration_is_found_and_mended(slope: Any, shift: Any) -> None:
    correction, rng = Correction(AT_ONCE), np.random.default_rng(1)
    before, after = Prequential(), Prequential()
    for _ in range(150):
        logits, clicks = stream(rng, 400, slope, shift)
        before.update(sigmoid(logits), clicks)
        after.update(sigmoid(correction.apply(logits)), clicks)
        correction.learn(logits, clicks)
    assert correction.values == pytest.approx([slope, shift], abs=0.15)
    assert after.report().calibration_error < 0.006
    assert (
        after.report().calibration_error < before.report().calibration_error / 5 or slope == 1.0 > shift > -1
    )


def test_it_follows_a_world_that_moves() -> None:
    correction, rng = Correction(CorrectionSettings(after=0, memory=10_000)), np.random.default_rng(2)
    for slope, shift in ((1.0, 1.0), (1.0, -1.0)):
        for _ in range(100):
            correction.learn(*stream(rng, 400, slope, shift))
        assert correction.values == pytest.approx([slope, shift], abs=0.15)


def test_a_few_rows_move_nothing_much() -> None:
    correction = Correction(AT_ONCE)
    correction.learn(np.full(10, -3.0), np.zeros(10))
    assert correction.apply(np.array([-3.0])) == pytest.approx([-3.0], abs=0.1)


@given(st.lists(st.tuples(st.floats(-40, 40), st.integers(0, 1)), min_size=1, max_size=50))
def test_the_order_of_candidates_stays_whatever_comes(rows: Any) -> None:
    correction = Correction(AT_ONCE)
    logits, clicks = np.array([z for z, _ in rows]), np.array([float(y) for _, y in rows])
    for _ in range(30):
        correction.learn(logits, clicks)
    assert correction.values[0] > 0
    assert np.isfinite(correction.values).all()


def test_a_restored_correction_goes_on_to_the_last_bit() -> None:
    one, rng = Correction(AT_ONCE), np.random.default_rng(3)
    one.learn(*stream(rng, 400, 0.5, 0.5))
    arrays, meta = one.snapshot()
    other = Correction.restore(arrays, json.loads(json.dumps(meta)))
    batch = stream(rng, 400, 0.5, 0.5)
    for correction in (one, other):
        correction.learn(*batch)
    np.testing.assert_array_equal(one.values, other.values)


def test_a_model_that_has_only_begun_is_left_to_itself() -> None:
    correction = Correction(CorrectionSettings(after=400))
    correction.learn(np.full(400, -3.0), np.ones(400))
    assert correction.values.tolist() == [1.0, 0.0]
    correction.learn(np.full(1, -3.0), np.ones(1))
    assert correction.values.tolist() != [1.0, 0.0]


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="memory is 0"):
        CorrectionSettings(memory=0)
