import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import linear_model, optim

from online_models.click import ArrayRegression, ClickModel, ClickModelSettings
from online_models.features import Feature, FeatureRegistry
from online_models.prequential import log_losses
from online_models.scorer import CompiledScorer, sigmoid

REGISTRY = FeatureRegistry([Feature(f"x{n}") for n in range(6)], [("x0", "x1"), ("x2", "x2")])
TRUTH = np.array([1.0, -0.5, 0.0, 0.8, 0.0, 0.3])


def slots(rng: Any, rows: Any, truth: Any = TRUTH) -> Any:
    inputs = rng.normal(size=(rows, 6))
    p = sigmoid(inputs @ truth + 0.7 * inputs[:, 0] * inputs[:, 1] - 1.5)
    return inputs, (rng.random(rows) < p).astype(float), p


def taught(rows: Any = 8000, seed: Any = 0) -> Any:
    rng = np.random.default_rng(seed)
    model = ClickModel(REGISTRY)
    for _ in range(rows // 400):
        model.learn_many(*slots(rng, 400)[:2])
    return model


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_the_compiled_scorer_equals_river_to_1e_9(seed: Any, scale: Any) -> None:
    model = taught(rows=800, seed=seed)
    inputs = np.random.default_rng(seed).normal(size=(10, 6)) * scale
    got = model.scorer().probabilities(inputs)
    for row, p in zip(REGISTRY.expand(inputs), got, strict=True):
        river = model.river.predict_proba_one(dict(zip(REGISTRY.columns, row.tolist(), strict=True)))
        assert p == pytest.approx(river[True], abs=1e-9)


def test_it_learns_what_can_be_learnt() -> None:
    model, rng = taught(rows=40_000), np.random.default_rng(99)
    inputs, clicks, p = slots(rng, 20_000)
    excess = log_losses(model.scorer().probabilities(inputs), clicks) - log_losses(p, clicks)
    assert excess.mean() < 0.004


def test_validation_is_of_predictions_made_before_learning() -> None:
    model, rng = ClickModel(REGISTRY), np.random.default_rng(1)
    inputs, clicks, _ = slots(rng, 300)
    np.testing.assert_array_equal(model.learn_many(inputs, clicks), np.full(300, 0.5))
    assert model.report().log_loss == pytest.approx(np.log(2))


def test_random_clicks_are_not_learnt_from() -> None:
    model, rng = ClickModel(REGISTRY), np.random.default_rng(2)
    for _ in range(100):
        model.learn_many(rng.normal(size=(400, 6)), (rng.random(400) < 0.1).astype(float))
    report = model.report()
    assert 0.47 < report.window_auc < 0.53
    assert report.calibration == pytest.approx(1.0, abs=0.1)


def test_a_sub_batch_of_64_costs_little_against_one_row_at_a_time() -> None:
    losses = {}
    for size in (1, 64):
        model, rng = ClickModel(REGISTRY, ClickModelSettings(sub_batch=size)), np.random.default_rng(3)
        for _ in range(25):
            model.learn_many(*slots(rng, 400)[:2])
        losses[size] = model.report().log_loss
    assert losses[64] < losses[1] + 0.02


def test_a_restored_model_goes_on_exactly_as_the_original() -> None:
    model = taught()
    arrays, meta = model.snapshot()
    twin = ClickModel.restore(REGISTRY, arrays, json.loads(json.dumps(meta)))
    batch = slots(np.random.default_rng(5), 400)[:2]
    np.testing.assert_array_equal(model.learn_many(*batch), twin.learn_many(*batch))
    for left, right in zip(model.snapshot()[0].values(), twin.snapshot()[0].values(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert twin.report().rows == model.report().rows == 8400


def test_a_model_that_has_learnt_for_long_still_follows() -> None:
    model = taught(rows=40_000)
    rng = np.random.default_rng(6)
    for _ in range(150):
        model.learn_many(*slots(rng, 400, -TRUTH)[:2])
    inputs, clicks, p = slots(rng, 20_000, -TRUTH)
    excess = log_losses(model.scorer().probabilities(inputs), clicks) - log_losses(p, clicks)
    assert excess.mean() < 0.01


def test_contributions_add_up_to_the_logit() -> None:
    scorer = taught(rows=800).scorer()
    inputs = np.random.default_rng(7).normal(size=(5, 6))
    total = scorer.contributions(inputs).sum(axis=1) + scorer.intercept
    np.testing.assert_allclose(total, scorer.logits(inputs), rtol=1e-12)


def test_lanes_are_averaged_and_strangers_refused() -> None:
    one, other = taught(rows=800).scorer(), taught(rows=800, seed=1).scorer()
    inputs = np.random.default_rng(8).normal(size=(5, 6))
    mean = CompiledScorer.mean([one, other])
    np.testing.assert_allclose(mean.logits(inputs), (one.logits(inputs) + other.logits(inputs)) / 2)
    stranger = ClickModel(FeatureRegistry([Feature("y")])).scorer()
    with pytest.raises(ValueError, match="wanted one"):
        CompiledScorer.mean([one, stranger])


def test_a_snapshot_of_other_features_or_another_layout_is_refused() -> None:
    arrays, meta = taught(rows=400).snapshot()
    with pytest.raises(ValueError, match="wanted 1 and"):
        ClickModel.restore(FeatureRegistry([Feature("y")]), arrays, meta)
    with pytest.raises(ValueError, match="version 7"):
        ClickModel.restore(REGISTRY, arrays, {**meta, "version": 7})


@pytest.mark.parametrize(
    ("inputs", "clicks", "words"),
    [
        (np.zeros((2, 5)), np.zeros(2), r"\(2, 5\)"),
        (np.zeros((2, 6)), np.zeros(3), r"\(3,\)"),
        (np.zeros((0, 6)), np.zeros(0), "batch of 0 rows"),
        (np.full((2, 6), np.nan), np.zeros(2), "not finite"),
        (np.zeros((2, 6)), np.array([0.0, 0.5]), "other than 0 and 1"),
    ],
)
def test_bad_batches_are_refused_and_change_nothing(inputs: Any, clicks: Any, words: Any) -> None:
    model = taught(rows=400)
    before = model.snapshot()[0]
    with pytest.raises(ValueError, match=words):
        model.learn_many(inputs, clicks)
    np.testing.assert_array_equal(model.snapshot()[0]["weights"], before["weights"])


def test_learning_from_arrays_is_what_river_learns_from_data_frames() -> None:
    rng, columns = np.random.default_rng(4), ["a", "b", "c"]
    ours, rivers = (kind(optim.AdaGrad(0.4), intercept_lr=0.5, l2=0.01) for kind in _BOTH)
    for _ in range(20):
        inputs, clicks = rng.normal(size=(30, 3)), (rng.random(30) < 0.2).astype(float)
        ours.learn_arrays(inputs, columns, clicks)
        rivers.learn_many(pd.DataFrame(inputs, columns=columns), pd.Series(clicks))
        assert ours.weights == pytest.approx(rivers.weights, rel=1e-12)
        assert ours.intercept == pytest.approx(rivers.intercept, rel=1e-12)


_BOTH: Any = (ArrayRegression, linear_model.LogisticRegression)
