import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import facto, linear_model, optim

from online_models import click
from online_models.click import ClickModel, ClickModelSettings
from online_models.correction import Correction, CorrectionSettings
from online_models.features import Feature, FeatureRegistry
from online_models.hashing import buckets
from online_models.learners import ArrayMachine, ArrayRegression
from online_models.prequential import log_losses
from online_models.scorer import mean_logits, sigmoid

REGISTRY = FeatureRegistry([Feature(f"x{n}") for n in range(6)], [("x0", "x1"), ("x2", "x2")])
RICH = FeatureRegistry(
    [*(Feature(f"x{n}") for n in range(4)), Feature("kind", "code"), Feature("new", "flag")],
    [("x0", "x1")],
    [("kind",), ("kind", "new")],
)
LEANT = FeatureRegistry([*RICH.features[:3], Feature("x3", "offset"), *RICH.features[4:]], RICH.crosses)
MODELS = {
    "products": (REGISTRY, ClickModelSettings()),
    "hashed": (RICH, ClickModelSettings()),
    "fm": (RICH, ClickModelSettings(kind="fm", factors=5)),
}
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


def rich_slots(rng: Any, rows: Any) -> Any:
    """Return rows of either registry: what is a code or a flag in the one is a number in the other."""
    inputs = rng.normal(size=(rows, 6))
    inputs[:, 4], inputs[:, 5] = rng.integers(0, 9, rows), rng.integers(0, 2, rows)
    effect = rng.permutation(9)[inputs[:, 4].astype(int)] / 4.0 - 1.0
    p = sigmoid(inputs[:, 0] * inputs[:, 1] - 0.5 * inputs[:, 2] + effect * inputs[:, 5] - 1.0)
    return inputs, (rng.random(rows) < p).astype(float)


def taught_kind(kind: Any, seed: Any = 0, rows: Any = 1200) -> Any:
    model, rng = ClickModel(*MODELS[kind]), np.random.default_rng(seed)
    model.correction = Correction(CorrectionSettings(after=100))
    for _ in range(rows // 200):
        model.learn_many(*rich_slots(rng, 200))
    return model


def river_probability(model: Any, row: Any) -> Any:
    """Return what River itself says of a row, by name."""
    registry, fm = model.registry, model.settings.kind == "fm"
    wide = registry.expand(row[None])[0].tolist()
    named: Any = dict(zip(registry.names if fm else registry.columns, wide, strict=not fm))
    if not fm:
        for bucket in buckets(row[None], registry.hashing)[0].tolist():
            if bucket >= 0:
                named[bucket] = named.get(bucket, 0) + 1
    return model.river.predict_proba_one(named)[True]


@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_the_compiled_scorer_equals_river_to_1e_9(kind: Any, seed: Any, scale: Any) -> None:
    model = taught_kind(kind, seed, rows=400)
    inputs, _ = rich_slots(np.random.default_rng(seed), 12)
    inputs[:, :4] *= scale
    got = sigmoid(model.scorer().raw_logits(inputs))
    assert got == pytest.approx([river_probability(model, row) for row in inputs], abs=1e-9)
    slope, shift = model.correction.values
    assert (slope, shift) != (1.0, 0.0)
    np.testing.assert_allclose(
        model.scorer().logits(inputs), slope * model.scorer().raw_logits(inputs) + shift
    )


@pytest.mark.parametrize("kind", MODELS)
def test_a_restored_model_goes_on_exactly_as_the_original(kind: Any) -> None:
    model = taught_kind(kind)
    arrays, meta = model.snapshot()
    assert arrays["correction"].tolist() != [1.0, 0.0]
    twin = ClickModel.restore(RICH if kind != "products" else REGISTRY, arrays, json.loads(json.dumps(meta)))
    for seed in range(3):
        batch = rich_slots(np.random.default_rng(seed), 300)
        np.testing.assert_array_equal(model.learn_many(*batch), twin.learn_many(*batch))
    (left, one), (right, other) = model.snapshot(), twin.snapshot()
    assert one == other
    assert left.keys() == right.keys()
    for name, values in left.items():
        np.testing.assert_array_equal(values, right[name])
    assert (model.report(), model.raw_report()) == (twin.report(), twin.raw_report())


@pytest.mark.parametrize("kind", MODELS)
def test_contributions_add_up_to_the_logit(kind: Any) -> None:
    scorer = taught_kind(kind).scorer()
    assert (scorer.slope, scorer.shift) != (1.0, 0.0)
    inputs, _ = rich_slots(np.random.default_rng(7), 50)
    total = scorer.contributions(inputs).sum(axis=1) + scorer.base
    np.testing.assert_allclose(total, scorer.logits(inputs), rtol=1e-12)


@pytest.mark.parametrize("kind", ["linear", "fm"])
def test_an_offset_weighs_one_whatever_is_learnt_or_loaded(kind: Any) -> None:
    settings_, rng, other = ClickModelSettings(kind=kind), np.random.default_rng(12), RICH.names.index("x3")
    begun, named = ClickModel(LEANT, settings_), ClickModel.begin(LEANT, settings_, {"x0": 2.0}, -1.0)
    for model in (begun, named, ClickModel.warm(LEANT, settings_, *taught_kind("hashed").snapshot())):
        before = model.scorer().weights[[0, other]].tolist()
        for _ in range(3):
            model.learn_many(*rich_slots(rng, 200))
        after = model.scorer().weights[[0, other]].tolist()
        assert (before[1], after[1]) == (1.0, 1.0)
        assert before[0] != after[0]


def test_a_warm_start_scores_as_the_model_it_comes_from() -> None:
    model, (inputs, _) = taught_kind("hashed", rows=4000), rich_slots(np.random.default_rng(9), 40)
    assert model.correction.values.tolist() != [1.0, 0.0]
    warm = ClickModel.warm(RICH, ClickModelSettings(), *model.snapshot())
    np.testing.assert_allclose(warm.scorer().logits(inputs), model.scorer().logits(inputs), rtol=1e-12)
    fewer = ClickModel.warm(RICH.variant((), ()), ClickModelSettings(), *model.snapshot())
    assert fewer.correction.values.tolist() == model.correction.values.tolist()
    assert fewer.rows == 0


def category_slots(rng: Any, rows: Any) -> Any:
    kind, new = rng.integers(1, 40, rows), rng.integers(0, 2, rows)
    inputs = np.zeros((rows, 6))
    inputs[:, 4], inputs[:, 5] = kind * 1_000_003, new
    p = sigmoid(-2.0 + np.where((kind + new) % 2 == 0, 1.0, -1.0))
    return inputs, (rng.random(rows) < p).astype(float), p


def test_hashed_crosses_learn_what_only_the_joint_value_tells() -> None:
    losses = {}
    for hashed in (RICH.hashed, ()):
        model, rng = ClickModel(RICH.variant(hashed=hashed)), np.random.default_rng(3)
        for _ in range(60):
            model.learn_many(*category_slots(rng, 500)[:2])
        inputs, clicks, p = category_slots(rng, 20_000)
        excess = log_losses(model.scorer().probabilities(inputs), clicks) - log_losses(p, clicks)
        losses[len(hashed)] = excess.mean()
    assert losses[2] < 0.02
    assert losses[0] > 0.05


def test_a_factorisation_machine_finds_pairs_nobody_declared() -> None:
    losses = {}
    bare = FeatureRegistry([Feature(f"x{n}") for n in range(6)])
    for kind in ("linear", "fm"):
        model, rng = ClickModel(bare, ClickModelSettings(kind=kind)), np.random.default_rng(4)
        for _ in range(60):
            model.learn_many(*slots(rng, 500)[:2])
        inputs, clicks, p = slots(rng, 20_000)
        excess = log_losses(model.scorer().probabilities(inputs), clicks) - log_losses(p, clicks)
        losses[kind] = excess.mean()
    assert losses["fm"] < 0.015
    assert losses["linear"] > 0.02


def grown_old() -> Any:
    """Return a model with the steps of one that has learnt from a million rows."""
    model = taught(rows=40_000)
    model._learner.scale_memory(25.0)
    model._corrected._rows = 1_000_000
    return model


def test_a_drift_alarm_shortens_memory_for_a_while_and_forgets_no_weight() -> None:
    model, rng = grown_old(), np.random.default_rng(6)
    memories, weights = [model.memory_rows], [model.river.weights]
    for _ in range(200):
        model.learn_many(*slots(rng, 400, -TRUTH)[:2])
        memories.append(model.memory_rows)
        weights.append(model.river.weights)
    alarm = int(np.argmin(memories))
    assert (memories[0], memories[alarm]) == (1_000_000, 0.03 * 1_000_000)
    assert model.drift.alarms > 0
    assert memories[-1] > memories[alarm]
    assert max(abs(weights[alarm][name] - weights[alarm - 1][name]) for name in weights[0]) < 0.5


def test_a_shortened_memory_follows_a_turned_world_sooner(monkeypatch: Any) -> None:
    losses = {}
    for shortening in (click.SHORTENING, 1.0):
        monkeypatch.setattr(click, "SHORTENING", shortening)
        model, rng, losses[shortening] = grown_old(), np.random.default_rng(6), 0.0
        for _ in range(60):
            inputs, clicks, _ = slots(rng, 400, -TRUTH)
            losses[shortening] += log_losses(model.learn_many(inputs, clicks), clicks).mean() / 60
    assert losses[0.03] < 0.99 * losses[1.0]


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


def test_a_model_that_has_learnt_for_long_still_follows() -> None:
    model = taught(rows=40_000)
    rng = np.random.default_rng(6)
    for _ in range(150):
        model.learn_many(*slots(rng, 400, -TRUTH)[:2])
    inputs, clicks, p = slots(rng, 20_000, -TRUTH)
    excess = log_losses(model.scorer().probabilities(inputs), clicks) - log_losses(p, clicks)
    assert excess.mean() < 0.01


def test_the_logits_of_lanes_are_averaged_whatever_their_kinds() -> None:
    one, other = taught_kind("hashed").scorer(), taught_kind("fm").scorer()
    inputs, _ = rich_slots(np.random.default_rng(8), 5)
    np.testing.assert_allclose(
        mean_logits([one, other], inputs), (one.logits(inputs) + other.logits(inputs)) / 2
    )
    np.testing.assert_array_equal(mean_logits([one], inputs), one.logits(inputs))


def test_a_snapshot_of_other_features_or_another_layout_is_refused() -> None:
    arrays, meta = taught(rows=400).snapshot()
    with pytest.raises(ValueError, match="wanted 2 and"):
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


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1e6))
@settings(max_examples=20)
def test_no_row_however_large_leaves_anything_that_is_no_number(seed: Any, scale: Any) -> None:
    for kind in MODELS:
        model, rng = taught_kind(kind, rows=200), np.random.default_rng(seed)
        for _ in range(4):
            inputs, clicks = rich_slots(rng, 100)
            inputs[:, :4] = np.clip(inputs[:, :4] * scale, -1e6, 1e6)
            assert np.isfinite(model.learn_many(inputs, clicks)).all()
        arrays, meta = model.snapshot()
        assert all(np.isfinite(values).all() for values in arrays.values())
        assert np.isfinite([meta["judged"]["loss"], meta["judged"]["recent_loss"]]).all()


def test_a_machine_learns_a_row_as_river_does() -> None:
    rng, columns = np.random.default_rng(5), ["a", "b", "c"]

    def machine(kind: Any) -> Any:
        return kind(
            3, optim.AdaGrad(0.4), optim.SGD(0.1), l2_weight=0.01, l2_latent=0.02, intercept_lr=0.5, seed=1
        )

    ours, rivers = machine(ArrayMachine), machine(facto.FMClassifier)
    ours.factors = rng.normal(size=(3, 3))
    for name, row in zip(columns, ours.factors, strict=True):
        ours.latents[name], rivers.latents[name] = row, row.copy()
    for _ in range(60):
        inputs, click_ = rng.normal(size=(1, 3)), float(rng.random() < 0.3)
        ours.learn_arrays(inputs, columns, np.array([click_]))
        rivers.learn_one(dict(zip(columns, inputs[0].tolist(), strict=True)), bool(click_))
    assert ours.weights == pytest.approx(rivers.weights, rel=1e-12)
    assert ours.intercept == pytest.approx(rivers.intercept, rel=1e-12)
    for name in columns:
        np.testing.assert_allclose(ours.latents[name], rivers.latents[name], rtol=1e-9)
