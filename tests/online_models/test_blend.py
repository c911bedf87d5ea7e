import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models.blend import FEATURES, Blend, BlendSettings

F = len(FEATURES)


def lessons(rng: np.random.Generator, truth: Any, count: int) -> Any:
    for _ in range(count):
        inputs = rng.normal(size=(12, F))
        logits = inputs @ truth
        shares = np.exp(logits - logits.max())
        yield inputs, int(rng.choice(12, p=shares / shares.sum()))


def test_one_pass_finds_the_weights_that_made_the_clicks() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=F) * 0.5
    blend = Blend(BlendSettings())
    losses = [blend.learn(inputs, target) for inputs, target in lessons(rng, truth, 4000)]
    assert np.abs(blend.weights - truth).max() < 0.25
    assert np.mean(losses[-500:]) < np.mean(losses[:200]) - 0.3


def test_it_follows_when_taste_turns() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=F) * 0.5
    blend = Blend(BlendSettings(memory=500))
    for part in (truth, -truth):
        for inputs, target in lessons(rng, part, 3000):
            blend.learn(inputs, target)
    assert np.corrcoef(blend.weights, -truth)[0, 1] > 0.9


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 100.0), st.integers(1, 40))
def test_any_inputs_leave_the_weights_finite(seed: Any, scale: Any, rows: Any) -> None:
    rng, blend = np.random.default_rng(seed), Blend(BlendSettings(memory=10))
    for _ in range(50):
        inputs = rng.normal(size=(rows, F)) * scale
        inputs[:, rng.integers(F)] = 0.0
        blend.learn(inputs, int(rng.integers(rows)))
    assert np.all(np.isfinite(blend.weights))


def test_an_input_that_never_varies_keeps_its_weight() -> None:
    blend, rng = Blend(BlendSettings(memory=20)), np.random.default_rng(2)
    first = blend.weights[0]
    for inputs, target in lessons(rng, np.ones(F), 500):
        inputs[:, 0] = 7.0
        blend.learn(inputs, target)
    assert blend.weights[0] == pytest.approx(first, abs=1e-6)


def test_a_restored_blend_goes_on_exactly() -> None:
    rng = np.random.default_rng(3)
    blend = Blend(BlendSettings())
    for inputs, target in lessons(rng, np.ones(F), 50):
        blend.learn(inputs, target)
    arrays, meta = blend.snapshot()
    twin = Blend.restore(arrays, json.loads(json.dumps(meta)))
    inputs, target = next(lessons(rng, np.ones(F), 1))
    assert blend.learn(inputs, target) == twin.learn(inputs, target)
    np.testing.assert_array_equal(blend.weights, twin.weights)
    with pytest.raises(ValueError, match="snapshot has features"):
        Blend.restore(arrays, {**meta, "features": ["other"]})


def test_bad_values_are_named() -> None:
    blend = Blend(BlendSettings())
    with pytest.raises(ValueError, match=r"\(3, 2\), 0"):
        blend.learn(np.zeros((3, 2)), 0)
    with pytest.raises(ValueError, match=r"3, wanted"):
        blend.learn(np.zeros((3, F)), 3)
    with pytest.raises(ValueError, match="memory is 0"):
        BlendSettings(memory=0)
