import tracemalloc

import numpy as np
import pytest

from bandits.arrays import FloatArray
from bandits.hybrid import HybridConfig, Posterior, ShardLearner, packed_size
from bandits.natural import moments
from tests.bandits.test_learner import CONFIG, batch_of


def asked(k: int, seed: int = 0) -> tuple[FloatArray, FloatArray, list[str]]:
    rng = np.random.default_rng(seed)
    context, items = rng.normal(size=2), rng.normal(size=(k, 3))
    context[0] = items[:, 0] = 1.0
    return context, items, [f"item-{i}" for i in range(k)]


def test_scores_are_the_formula_in_double_precision() -> None:
    learner, posterior = ShardLearner(CONFIG), Posterior(CONFIG)
    learnt = learner.learn(batch_of(300), {})
    posterior.put_shared(0, learnt.shared)
    posterior.put_items(0, learnt.items)
    context, items, ids = asked(8)
    block = learnt.users["user-1"]
    mean, variance = posterior.score(context, items, ids, block, with_variance=True)
    assert variance is not None
    theta, sigma = moments(learnt.shared, 6, 0.7)
    user, user_covariance = moments(block, 3, 0.3)
    for k, item_id in enumerate(ids):
        z = np.outer(context, items[k]).ravel()
        own, covariance = moments(learnt.items.get(item_id, np.zeros(packed_size(2))), 2, 0.4)
        assert mean[k] == pytest.approx(z @ theta + context @ own + items[k] @ user, rel=1e-4, abs=1e-5)
        wished = z @ sigma @ z + context @ covariance @ context + items[k] @ user_covariance @ items[k]
        assert variance[k] == pytest.approx(wished, rel=1e-4)
    np.testing.assert_allclose(
        posterior.score(context, items, ids, block, with_variance=False)[0], mean, rtol=1e-6
    )


def test_without_anything_learnt_scores_are_the_prior() -> None:
    context, items, ids = asked(4)
    mean, variance = Posterior(CONFIG).score(context, items, ids, None, with_variance=True)
    assert variance is not None
    x, f = context @ context, (items * items).sum(axis=1)
    np.testing.assert_array_equal(mean, 0.0)
    np.testing.assert_allclose(variance, 0.7 * x * f + 0.4 * x + 0.3 * f, rtol=1e-6)


def test_shards_add_up_whatever_the_order_they_come_in_and_however_often() -> None:
    learnt = [ShardLearner(CONFIG).learn(batch_of(100, seed), {}) for seed in range(4)]
    forward, backward, summed = Posterior(CONFIG), Posterior(CONFIG), Posterior(CONFIG)
    for shard in (0, 1, 2, 3, 1, 1):
        forward.put_shared(shard, learnt[shard].shared)
        forward.put_items(shard, learnt[shard].items)
    for shard in (3, 2, 1, 0):
        backward.put_items(shard, learnt[shard].items)
        backward.put_shared(shard, learnt[shard].shared)
    ids = sorted({key for one in learnt for key in one.items})
    summed.put_shared(0, np.sum([one.shared for one in learnt], axis=0))
    nothing = np.zeros(packed_size(2))
    summed.put_items(9, {key: np.sum([one.items.get(key, nothing) for one in learnt], axis=0) for key in ids})
    context, items, wanted = asked(7)
    first = forward.score(context, items, wanted, None, with_variance=True)
    second = backward.score(context, items, wanted, None, with_variance=True)
    third = summed.score(context, items, wanted, None, with_variance=True)
    for one, two, three in zip(first, second, third, strict=True):
        assert one is not None
        assert three is not None
        np.testing.assert_array_equal(one, two)
        np.testing.assert_allclose(one, three, rtol=1e-5)


def test_sums_over_shards_do_not_depend_on_arrival_even_where_rounding_would_show() -> None:
    blocks = {0: np.r_[1.0, 1e16, 0.0, 1.0, 0.0, 1.0], 1: np.r_[1.0, -1e16, 0.0, 1.0, 0.0, 1.0]}
    blocks[2] = np.r_[1.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    context, items, _ = asked(1)
    scores = []
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        posterior = Posterior(CONFIG)
        for shard in order:
            posterior.put_items(shard, {"a": blocks[shard]})
        scores.append(posterior.score(context, items, ["a"], None, with_variance=False)[0][0])
    assert scores[0] == scores[1] == scores[2] > 0


def test_a_dropped_shard_leaves_what_the_others_know() -> None:
    learnt = [ShardLearner(CONFIG).learn(batch_of(100, seed), {}) for seed in range(2)]
    both, one = Posterior(CONFIG), Posterior(CONFIG)
    for shard in (0, 1):
        both.put_shared(shard, learnt[shard].shared)
        both.put_items(shard, learnt[shard].items)
    one.put_shared(0, learnt[0].shared)
    one.put_items(0, learnt[0].items)
    both.drop_shard(1)
    both.drop_shard(77)
    context, items, ids = asked(6)
    np.testing.assert_array_equal(
        both.score(context, items, ids, None, with_variance=True),
        one.score(context, items, ids, None, with_variance=True),
    )


def test_a_dropped_item_scores_as_a_new_one_and_its_row_serves_the_next() -> None:
    posterior = Posterior(CONFIG)
    learnt = ShardLearner(CONFIG).learn(batch_of(200), {})
    posterior.put_items(0, learnt.items)
    posterior.put_items(1, learnt.items)
    context, items, _ = asked(2)
    before = posterior.score(context, items, ["item-1", "item-2"], None, with_variance=True)
    posterior.drop_item("item-1")
    posterior.drop_item("never seen")
    posterior.put_items(0, {"fresh": learnt.items["item-3"]})
    after = posterior.score(context, items, ["item-1", "item-2"], None, with_variance=True)
    unseen = posterior.score(context, items, ["nobody", "item-2"], None, with_variance=True)
    np.testing.assert_array_equal(after, unseen)
    alone = Posterior(CONFIG)
    alone.put_items(0, {"fresh": learnt.items["item-3"]})
    np.testing.assert_array_equal(
        posterior.score(context, items, ["fresh"] * 2, None, with_variance=True),
        alone.score(context, items, ["fresh"] * 2, None, with_variance=True),
    )
    assert before[0][0] != after[0][0]
    assert before[0][1] == after[0][1]
    posterior.put_items(0, {"item-1": learnt.items["item-1"]})
    posterior.put_items(1, {"item-1": learnt.items["item-1"]})
    np.testing.assert_array_equal(
        posterior.score(context, items, ["item-1", "item-2"], None, with_variance=True), before
    )


def test_more_items_and_shards_than_fit_at_first_keep_their_blocks() -> None:
    posterior, rng = Posterior(CONFIG), np.random.default_rng(1)
    blocks = {f"i{n}": np.r_[1.0, rng.normal(size=2), 1.0, 0.0, 1.0] for n in range(1500)}
    for shard in (0, 5):
        for start in range(0, 1500, 100):
            names = list(blocks)[start : start + 100]
            posterior.put_items(shard, {name: blocks[name] for name in names})
    context = np.array([1.0, 0.5])
    mean, _ = posterior.score(context, np.zeros((1500, 3)), list(blocks), None, with_variance=False)
    wished = [context @ moments(2 * block, 2, CONFIG.item_variance)[0] for block in blocks.values()]
    np.testing.assert_allclose(mean, wished, rtol=1e-5, atol=1e-6)


def test_memory_follows_the_items_held_under_churn() -> None:
    posterior, block = Posterior(CONFIG), np.r_[1.0, 0.1, 0.1, 1.0, 0.0, 1.0]
    tracemalloc.start()
    peaks = []
    for n in range(2400):
        posterior.put_items(n % 3, {f"i{n}": block})
        posterior.drop_item(f"i{n - 200}")
        if n in (700, 2399):
            peaks.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.1
    assert len(posterior.rows([f"i{n}" for n in range(2400)]).nonzero()[0]) == 200


def test_rows_found_once_score_as_ids_do() -> None:
    posterior = Posterior(CONFIG)
    posterior.put_items(0, ShardLearner(CONFIG).learn(batch_of(50), {}).items)
    context, items, ids = asked(5)
    rows = posterior.rows(ids)
    np.testing.assert_array_equal(
        posterior.score_rows(context, items, rows, None, with_variance=True),
        posterior.score(context, items, ids, None, with_variance=True),
    )


def test_no_candidates_are_no_scores() -> None:
    mean, variance = Posterior(CONFIG).score(np.ones(2), np.ones((0, 3)), [], None, with_variance=True)
    assert mean.shape == (0,)
    assert variance is not None
    assert variance.shape == (0,)


def test_wrong_shapes_are_refused_by_name_and_nothing_is_replaced() -> None:
    posterior = Posterior(HybridConfig(context_dim=2, item_dim=3))
    with pytest.raises(ValueError, match=r"block has shape \(4,\)"):
        posterior.put_shared(0, np.zeros(4))
    with pytest.raises(ValueError, match=r"blocks\['b'\] holds nan"):
        posterior.put_items(0, {"a": np.zeros(6), "b": np.full(6, np.nan)})
    assert posterior.rows(["a", "b"]).tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"context has shape \(3,\), wanted \(2,\)"):
        posterior.score(np.ones(3), np.ones((1, 3)), ["a"], None, with_variance=False)
    with pytest.raises(ValueError, match=r"items has shape \(2, 3\), wanted \(1, 3\)"):
        posterior.score(np.ones(2), np.ones((2, 3)), ["a"], None, with_variance=False)
    with pytest.raises(ValueError, match="user_block has shape"):
        posterior.score(np.ones(2), np.ones((1, 3)), ["a"], np.zeros(2), with_variance=False)
