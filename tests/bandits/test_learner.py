from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from scipy.special import expit

from bandits.arrays import FloatArray
from bandits.hybrid import HybridConfig, Learnt, Posterior, ShardLearner, SlotBatch, empty_block, packed_size
from bandits.learner import CHUNK, Sites
from bandits.model import Link
from bandits.natural import moments

CONFIG = HybridConfig(context_dim=2, item_dim=3, shared_variance=0.7, item_variance=0.4, user_variance=0.3)


def batch_of(n: int, seed: int = 0, config: HybridConfig = CONFIG) -> SlotBatch:
    rng = np.random.default_rng(seed)
    contexts, items = rng.normal(size=(n, config.context_dim)), rng.normal(size=(n, config.item_dim))
    contexts[:, 0] = items[:, 0] = 1.0
    return SlotBatch(
        contexts,
        items,
        [f"item-{i}" for i in rng.integers(0, 5, n)],
        [f"user-{i}" if i else "" for i in rng.integers(0, 4, n)],
        rng.random(n),
    )


def part_of(batch: SlotBatch, part: slice) -> SlotBatch:
    return SlotBatch(
        batch.contexts[part], batch.items[part], batch.item_ids[part], batch.users[part], batch.rewards[part]
    )


def test_one_slot_is_learnt_as_the_formulas_say() -> None:
    """Written out for one slot: each block sees an observation weakened by what the others do not know."""
    batch = batch_of(1, seed=2)
    batch = replace(batch, users=["user-1"])
    learnt = ShardLearner(CONFIG).learn(batch, {})
    x, f, y = batch.contexts[0], batch.items[0], batch.rewards[0]
    z = np.outer(x, f).ravel()
    own = {"shared": 0.7 * z @ z, "item": 0.4 * x @ x, "user": 0.3 * f @ f}
    kappa = 1.0 / np.sqrt(1.0 + np.pi * sum(own.values()) / 8.0)
    curvature = kappa**2 * 0.25
    for name, features, block in (
        ("shared", z, learnt.shared),
        ("item", x, learnt.items[batch.item_ids[0]]),
        ("user", f, learnt.users["user-1"]),
    ):
        weight = 1.0 / (1.0 / curvature - own[name])
        assert block[0] == 1.0
        np.testing.assert_allclose(
            block[1 : 1 + len(features)], weight * kappa * (y - 0.5) / curvature * features
        )
        upper = np.outer(features, features)[np.triu_indices(len(features))]
        np.testing.assert_allclose(block[1 + len(features) :], weight * upper)


@pytest.mark.parametrize("reward", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("mean", [-4.0, 0.0, 2.0])
def test_a_matched_site_gives_the_moments_of_the_true_posterior_nearly(mean: float, reward: float) -> None:
    """One logit N(mean, 1): against the posterior by quadrature, for likelihoods p^y (1 - p)^(1 - y)."""
    sites = Sites.match(np.array([mean]), np.array([1.0]), np.array([reward]))
    grid = np.linspace(mean - 8, mean + 8, 4001)
    density = np.exp(-((grid - mean) ** 2) / 2) * expit(grid) ** reward * expit(-grid) ** (1 - reward)
    density /= density.sum()
    gain = 1.0 / sites.spread[0]
    truth = float(density @ grid)
    assert mean + gain * sites.surprise[0] == pytest.approx(truth, abs=0.12)
    assert 1.0 - gain == pytest.approx(float(density @ (grid - truth) ** 2), abs=0.12)


def test_the_same_state_and_batch_learn_the_same_bits() -> None:
    first, second = ShardLearner(CONFIG), ShardLearner(CONFIG)
    for seed in range(3):
        one, two = first.learn(batch_of(70, seed), {}), second.learn(batch_of(70, seed), {})
        np.testing.assert_array_equal(one.shared, two.shared)
        for key in one.items:
            np.testing.assert_array_equal(one.items[key], two.items[key])
        for key in one.users:
            np.testing.assert_array_equal(one.users[key], two.users[key])


def test_a_learner_restored_from_what_it_returned_goes_on_with_the_same_bits() -> None:
    whole, items = ShardLearner(CONFIG), dict[str, FloatArray]()
    for seed in range(3):
        learnt = whole.learn(batch_of(40, seed), {})
        items.update(learnt.items)
    restored = ShardLearner(CONFIG, learnt.shared, items)
    one, two = whole.learn(batch_of(50, 9), learnt.users), restored.learn(batch_of(50, 9), learnt.users)
    np.testing.assert_array_equal(one.shared, two.shared)
    np.testing.assert_array_equal(one.items["item-1"], two.items["item-1"])
    np.testing.assert_array_equal(one.users["user-1"], two.users["user-1"])


def test_batches_cut_at_chunks_learn_what_one_batch_does() -> None:
    batch = batch_of(3 * CHUNK, seed=4)
    whole, parts = ShardLearner(CONFIG), ShardLearner(CONFIG)
    at_once = whole.learn(batch, {})
    users: dict[str, FloatArray] = {}
    for start in range(0, len(batch), CHUNK):
        learnt = parts.learn(part_of(batch, slice(start, start + CHUNK)), users)
        users.update(learnt.users)
    np.testing.assert_allclose(learnt.shared, at_once.shared, rtol=1e-9, atol=1e-12)
    for key, block in at_once.items.items():
        np.testing.assert_allclose(parts.items[key], block, rtol=1e-9, atol=1e-12)
    for key, block in at_once.users.items():
        np.testing.assert_allclose(users[key], block, rtol=1e-9, atol=1e-12)


def test_only_blocks_in_the_batch_are_returned_and_none_for_no_user() -> None:
    batch = batch_of(8, seed=1)
    learnt = ShardLearner(CONFIG, items={"other": empty_block(2)}).learn(batch, {"absent": empty_block(3)})
    assert set(learnt.items) == set(batch.item_ids)
    assert set(learnt.users) == set(batch.users) - {""}
    assert learnt.shared.shape == (packed_size(6),)


def test_a_slot_without_user_learns_as_if_users_had_no_block() -> None:
    batch = replace(batch_of(1, seed=3), users=[""])
    tiny = replace(CONFIG, user_variance=1e-12)
    without, with_none = ShardLearner(CONFIG).learn(batch, {}), ShardLearner(tiny).learn(batch, {})
    np.testing.assert_allclose(without.shared, with_none.shared, rtol=1e-9)


def test_an_offset_that_explains_the_rewards_leaves_nothing_to_learn() -> None:
    rng = np.random.default_rng(0)
    batch, offsets = batch_of(2000, seed=5), rng.normal(-2.0, 1.0, 2000)
    explained = replace(batch, rewards=(rng.random(2000) < expit(offsets)).astype(float), offsets=offsets)
    learnt = ShardLearner(CONFIG).learn(explained, {})
    theta, _ = moments(learnt.shared, 6, CONFIG.shared_variance)
    unexplained = ShardLearner(CONFIG).learn(replace(explained, offsets=None), {})
    other, _ = moments(unexplained.shared, 6, CONFIG.shared_variance)
    assert abs(theta[0]) < 0.35
    assert other[0] < -0.8


def test_rewards_that_are_certain_and_surprising_keep_everything_finite() -> None:
    learner = ShardLearner(HybridConfig(context_dim=2, item_dim=3, shared_variance=100.0))
    for reward in (1.0, 0.0):
        batch = replace(batch_of(3000, seed=6), rewards=np.full(3000, reward))
        learnt = learner.learn(replace(batch, contexts=batch.contexts * 30), {})
    assert np.isfinite(learnt.shared).all()
    assert all(np.isfinite(block).all() for block in learnt.items.values())
    assert (moments(learnt.shared, 6, 100.0)[1].diagonal() > 0).all()


def test_what_was_returned_cannot_be_changed_behind_the_learners_back() -> None:
    learnt = ShardLearner(CONFIG).learn(batch_of(3), {})
    with pytest.raises(ValueError, match="read-only"):
        next(iter(learnt.items.values()))[0] = 5.0


def test_an_empty_batch_changes_nothing() -> None:
    learnt = ShardLearner(CONFIG).learn(batch_of(0), {})
    assert not learnt.shared.any()
    assert not learnt.items
    assert not learnt.users


def test_memory_follows_the_items_held_under_churn() -> None:
    learner = ShardLearner(CONFIG)
    for n in range(200):
        learner.learn(replace(batch_of(5, n), item_ids=[f"item-{n}-{i}" for i in range(5)]), {})
        for i in range(5):
            learner.drop_item(f"item-{n - 2}-{i}")
    assert len(learner.items) == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": np.array([0.5, 1.5])}, r"rewards\[1\] is 1.5, wanted a number in \[0, 1\]"),
        ({"rewards": np.array([np.nan, 1.0])}, r"rewards\[0\] is nan"),
        ({"contexts": np.full((2, 2), np.inf)}, "contexts holds inf"),
        ({"items": np.ones((3, 3))}, "items has 3 rows, wanted 2"),
        ({"users": [""]}, "users has 1 rows, wanted 2"),
        ({"offsets": np.zeros(1)}, "offsets has 1 rows"),
    ],
)
def test_a_wrong_batch_is_refused_by_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(batch_of(2), **change)


def test_features_of_other_dimensions_are_refused() -> None:
    wrong = replace(batch_of(2), contexts=np.ones((2, 5)))
    with pytest.raises(ValueError, match=r"contexts has shape \(2, 5\), wanted \(2, 2\)"):
        ShardLearner(CONFIG).learn(wrong, {})


@pytest.mark.parametrize(
    ("shared", "items", "message"),
    [
        (np.zeros(3), {}, "shared has shape"),
        (None, {"a": np.zeros(9)}, r"items\['a'\] has shape"),
        (None, {"a": np.full(6, np.nan)}, r"items\['a'\] holds nan"),
    ],
)
def test_stored_blocks_that_cannot_be_are_refused_by_name(shared: Any, items: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShardLearner(CONFIG, shared, items)


@pytest.mark.parametrize(
    "field", ["context_dim", "item_dim", "shared_variance", "item_variance", "user_variance"]
)
def test_a_wrong_configuration_is_refused_by_field(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} is 0, wanted"):
        replace(CONFIG, **cast("Any", {field: 0}))


def test_an_items_own_bias_may_have_a_wider_prior_than_its_other_coefficients() -> None:
    wide = replace(CONFIG, item_base_variance=5.0)
    np.testing.assert_array_equal(wide.item_prior, [5.0, 0.4])
    np.testing.assert_array_equal(CONFIG.item_prior, [0.4, 0.4])
    batch = batch_of(30)
    block = ShardLearner(wide).learn(batch, {}).items[batch.item_ids[0]]
    _, covariance = moments(np.zeros_like(block), 2, wide.item_prior)
    np.testing.assert_allclose(covariance, np.diag([5.0, 0.4]))
    posterior = Posterior(wide)
    context, items = np.array([1.0, 0.0]), np.ones((1, 3))
    _, variance = posterior.score(context, items, ["new"], None, with_variance=True)
    _, narrow = Posterior(CONFIG).score(context, items, ["new"], None, with_variance=True)
    assert variance is not None
    assert narrow is not None
    np.testing.assert_allclose(variance - narrow, 5.0 - 0.4, rtol=1e-5)
    with pytest.raises(ValueError, match="item_base_variance is 0"):
        replace(CONFIG, item_base_variance=0.0)


def added(parts: list[Learnt]) -> Learnt:
    """Add up what shards gained."""
    items = {key for part in parts for key in part.items}
    users = {key for part in parts for key in part.users}
    return Learnt(
        np.sum([part.shared for part in parts], axis=0),
        {key: np.sum([part.items[key] for part in parts if key in part.items], axis=0) for key in items},
        {key: np.sum([part.users[key] for part in parts if key in part.users], axis=0) for key in users},
    )


@pytest.mark.parametrize("link", ["logistic", "linear"])
def test_shards_sum_to_the_single_fit_at_logged_versions_in_any_order(link: Link) -> None:
    """Slots are dealt to five shards, out of order; copies arrive twice and are dropped by their place."""
    config = replace(CONFIG, link=link)
    at = ShardLearner(config)
    known = at.learn(batch_of(90, seed=3), {}).users
    batch, rng = batch_of(250, seed=7), np.random.default_rng(1)
    whole = at.increments(batch, known)
    order = rng.permutation(np.repeat(np.arange(250), 2))
    _, firsts = np.unique(order, return_index=True)
    shards = np.array_split(order[np.sort(firsts)], 5)
    summed = added([at.increments(rows_of(batch, shard.tolist()), known) for shard in shards])
    np.testing.assert_allclose(summed.shared, whole.shared, rtol=1e-9, atol=1e-9)
    assert summed.items.keys() == whole.items.keys()
    assert summed.users.keys() == whole.users.keys()
    for kind in ("items", "users"):
        for key, block in getattr(whole, kind).items():
            np.testing.assert_allclose(getattr(summed, kind)[key], block, rtol=1e-9, atol=1e-9)


def rows_of(batch: SlotBatch, places: list[int]) -> SlotBatch:
    return SlotBatch(
        batch.contexts[places],
        batch.items[places],
        [batch.item_ids[place] for place in places],
        [batch.users[place] for place in places],
        batch.rewards[places],
    )


def test_increments_teach_nothing_and_are_what_learning_a_chunk_adds() -> None:
    learner = ShardLearner(CONFIG)
    learner.learn(batch_of(50, seed=1), {})
    before, batch = learner.shared.copy(), batch_of(CHUNK, seed=2)
    gained = learner.increments(batch, {})
    np.testing.assert_array_equal(learner.shared, before)
    learner.learn(batch, {})
    np.testing.assert_allclose(learner.shared, before + gained.shared, rtol=1e-12, atol=1e-12)


def test_the_linear_link_is_bayesian_regression_of_the_reward() -> None:
    """With items' and users' blocks all but fixed at zero, whatever the order of the slots."""
    config = HybridConfig(2, 3, 0.7, 1e-12, 1e-12, link="linear", noise_variance=0.3)
    batch = batch_of(300, seed=5)
    mixed = rows_of(batch, np.random.default_rng(0).permutation(300).tolist())
    z = np.stack([np.outer(x, f).ravel() for x, f in zip(batch.contexts, batch.items, strict=True)])
    wished = np.linalg.solve(z.T @ z / 0.3 + np.eye(6) / 0.7, z.T @ batch.rewards / 0.3)
    for some in (batch, mixed):
        learnt = ShardLearner(config).learn(some, {})
        np.testing.assert_allclose(moments(learnt.shared, 6, 0.7)[0], wished, rtol=1e-9)
