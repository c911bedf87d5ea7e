import json
from typing import Any

import numpy as np
import pytest

from online_models.click import ClickModel, ClickModelSettings
from online_models.correction import Correction, CorrectionSettings
from online_models.features import Feature, FeatureRegistry
from online_models.heads import HeadModels, HeadsScorer, Labels, Ranker
from online_models.scorer import sigmoid
from online_models.segments import MOST_NAMED, Judged, Segments

REGISTRY = FeatureRegistry(
    [Feature("position", "count"), Feature("x"), Feature("new_user", "flag"), Feature("item_age", "seconds"),
     Feature("category", "code")],
    [],
    [("category",)],
)  # fmt: skip


def slots(rng: Any, rows: Any) -> Any:
    """Return slots where x makes clicks, and 1 - x makes what follows them."""
    inputs = np.zeros((rows, 5))
    inputs[:, 1], inputs[:, 2] = rng.normal(size=rows), rng.integers(0, 2, rows)
    inputs[:, 4] = rng.integers(0, 5, rows)
    clicks = (rng.random(rows) < sigmoid(inputs[:, 1] - 1.0)).astype(float)
    bought = clicks * (rng.random(rows) < sigmoid(-2.0 * inputs[:, 1]))
    return inputs, Labels(clicks, {"purchase": bought, "dwell": np.full(rows, np.nan)})


def taught(batches: Any = 60, seed: Any = 0) -> Any:
    click, rng = ClickModel.begin(REGISTRY, ClickModelSettings(), {}, -2.0), np.random.default_rng(seed)
    click.correction = Correction(CorrectionSettings(after=1000))
    heads = HeadModels(click)
    for _ in range(batches):
        heads.learn(*slots(rng, 400))
    return heads


def test_what_follows_a_click_is_learnt_from_clicked_slots_alone() -> None:
    heads = taught()
    clicked = heads.click.report().rows * heads.click.click_rate
    assert heads.models["purchase"].rows == pytest.approx(clicked, rel=0.05)
    inputs = np.zeros((3, 5))
    inputs[:, 1] = [-1.0, 0.0, 1.0]
    p = heads.models["purchase"].scorer().probabilities(inputs)
    assert p == pytest.approx(sigmoid(-2.0 * inputs[:, 1]), abs=0.06)


def test_labels_nobody_knows_teach_nothing() -> None:
    assert set(taught().models) == {"click", "purchase"}


def test_weights_of_heads_turn_the_ranking() -> None:
    heads, inputs = taught(), np.zeros((2, 5))
    inputs[:, 1] = [1.5, -0.5]  # the first is clicked, the second is bought
    clicks, sales = heads.ranker({}), heads.ranker({"click": 0.05, "purchase": 10.0})
    assert np.argmax(clicks.logits(inputs)) == 0
    assert np.argmax(sales.logits(inputs)) == 1


def test_weight_on_clicks_alone_ranks_by_the_click_model_to_the_last_bit() -> None:
    heads, (inputs, _) = taught(5), slots(np.random.default_rng(1), 30)
    assert heads.click.correction.values.tolist() != [1.0, 0.0]
    for weights in ({}, {"click": 3.0}, {"click": 1.0, "dwell": 2.0}):  # nothing is known of dwell
        np.testing.assert_array_equal(
            heads.ranker(weights).logits(inputs), heads.click.scorer().logits(inputs)
        )


def test_a_head_that_never_came_leaves_logits_where_they_are() -> None:
    heads, rng = taught(0), np.random.default_rng(6)
    for _ in range(10):
        inputs, labels = slots(rng, 400)
        heads.learn(inputs, labels._replace(following={"purchase": 0.0 * labels.clicks}))
    shift = heads.ranker({"click": 0.0, "purchase": 1.0}).logits(inputs) - heads.ranker({}).logits(inputs)
    assert np.abs(shift).max() < 8.0, "it was 20 and more: the logarithm of a rate of 0"


def test_usual_worth_leaves_the_logit_where_it_is() -> None:
    heads, (inputs, _) = taught(), slots(np.random.default_rng(2), 4000)
    inputs = inputs[
        np.random.default_rng(3).random(4000) < sigmoid(inputs[:, 1] - 1.0)
    ]  # as clicked ones are
    shift = heads.ranker({"purchase": 4.0}).logits(inputs) - heads.ranker({}).logits(inputs)
    assert np.exp(shift).mean() == pytest.approx(1.0, abs=0.1)


def test_lanes_are_averaged_head_by_head() -> None:
    lanes = [HeadsScorer.from_snapshot(*taught(10, seed).snapshot()) for seed in range(2)]
    inputs, _ = slots(np.random.default_rng(4), 20)
    alone = [Ranker([lane], {}).logits(inputs) for lane in lanes]
    np.testing.assert_allclose(Ranker(lanes, {}).logits(inputs), np.mean(alone, axis=0), rtol=1e-12)
    assert Ranker(lanes, {}).steps == sum(lane.steps for lane in lanes)


@pytest.mark.parametrize("rows", [7, 40, 300])
def test_restored_heads_go_on_to_the_last_bit(rows: Any) -> None:
    heads = taught(20)
    heads.learn(*slots(np.random.default_rng(8), rows))  # too few clicks for a step may wait
    arrays, meta = heads.snapshot()
    assert arrays["click.correction"].tolist() != [1.0, 0.0]
    twin = HeadModels.restore(REGISTRY, arrays, json.loads(json.dumps(meta)))
    for one in (heads, twin):
        for seed in range(3):
            one.learn(*slots(np.random.default_rng(seed), rows))
    (left, meta_left), (right, meta_right) = heads.snapshot(), twin.snapshot()
    assert meta_left == meta_right
    for name, values in left.items():
        np.testing.assert_array_equal(values, right[name])


def test_position_explains_clicks_and_is_fixed_when_serving() -> None:
    """A model that knows the position does not take a good place for a good item."""
    rng = np.random.default_rng(5)
    losses = {}
    for knows in (True, False):
        model = ClickModel.begin(REGISTRY, ClickModelSettings(), {}, -2.0)
        for _ in range(150):
            inputs = np.zeros((400, 5))
            worth = np.repeat(rng.choice([-1.0, 1.0], 40), 10)
            inputs[:, 4] = (worth > 0) + 1  # which of two kinds of item
            places = np.tile(np.arange(10.0), 40)
            places = np.where(worth > 0, 9 - places, places // 4)  # the worse kind got the better places
            clicks = (rng.random(400) < sigmoid(-1.0 + 0.5 * worth - 0.9 * np.log1p(places))).astype(float)
            inputs[:, 0] = np.log1p(places) * knows
            model.learn_many(inputs, clicks)
        served = np.zeros((2, 5))
        served[:, 4] = [1, 2]
        worse, better = model.scorer().logits(served)
        losses[knows] = better - worse
    assert losses[True] == pytest.approx(1.0, abs=0.2)
    assert losses[False] < 0.5


def judged(rows: Any) -> Any:
    clicks = (np.arange(rows) % 4 == 0).astype(float)
    return Judged(clicks, np.full(rows, 0.25), np.full(rows, 0.5))


def test_segments_tell_visitors_items_categories_and_facets_apart() -> None:
    segments, inputs = Segments(REGISTRY, 10**9), np.zeros((8, 5))
    inputs[:4, 2], inputs[:, 3], inputs[:, 4] = (
        1.0,
        np.log1p([1, 1, 30, 30, 30, 30, 30, 30]),
        [0, 7, 7, 7, 9, 9, 9, 9],
    )
    owners = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    segments.update(inputs, judged(8), ["device:tv,country:de", ""], owners)
    found = {one.name: one for one in segments.report()}
    rows = {name: one.rows for name, one in found.items()}
    assert rows == {
        "visitor:returning": 4, "visitor:new": 4, "item:old": 6, "item:new": 2,
        "category:7": 3, "category:9": 4, "device:tv": 4, "country:de": 4,
    }  # fmt: skip
    assert (found["visitor:new"].calibration, found["visitor:new"].log_loss) == (1.0, 0.5)


def test_segments_are_bounded_whatever_comes_and_the_forgotten_make_room() -> None:
    segments, inputs = Segments(REGISTRY, window=50), np.zeros((10, 5))
    for batch in range(400):
        segments.update(inputs, judged(10), [f"shop:{batch}"], np.zeros(10, np.int64))
    names = [one.name for one in segments.report()]
    assert "shop:399" in names
    assert len(segments.snapshot()[1]["named"]) <= MOST_NAMED
    arrays, meta = segments.snapshot()
    assert Segments.restore(REGISTRY, arrays, json.loads(json.dumps(meta))).report() == segments.report()
