from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.arrays import FloatArray
from bandits.fading import aged, joined, stored
from bandits.hybrid import HybridConfig, Posterior, ShardLearner, SlotBatch
from bandits.item_table import ItemTable
from bandits.natural import moments, packed_size
from tests.bandits.test_learner import batch_of

LIVES = HybridConfig(2, 3, 0.7, 0.4, 0.3, shared_life_ms=1000.0, item_life_ms=300.0, user_life_ms=500.0)


def shown(config: HybridConfig) -> tuple[FloatArray, FloatArray, list[str]]:
    rng = np.random.default_rng(3)
    return (
        rng.normal(size=config.context_dim),
        rng.normal(size=(5, config.item_dim)),
        [f"item-{i}" for i in range(5)],
    )


def test_a_block_is_scaled_by_its_age_and_its_time_moves_on() -> None:
    block = np.r_[10.0, 1.0, 2.0, 100.0]
    np.testing.assert_allclose(aged(block, 1, 400.0, 300.0), np.r_[block[:3] * np.exp(-1.0), 400.0])
    np.testing.assert_array_equal(aged(block, 1, 400.0, None), np.r_[block[:3], 400.0])


def test_a_time_that_goes_back_and_a_block_without_time_change_nothing() -> None:
    late, new = np.r_[10.0, 1.0, 2.0, 900.0], np.r_[10.0, 1.0, 2.0, 0.0]
    np.testing.assert_array_equal(aged(late, 1, 400.0, 300.0), late)
    np.testing.assert_array_equal(aged(new, 1, 400.0, 300.0), np.r_[new[:3], 400.0])


def test_fading_in_two_steps_is_fading_in_one() -> None:
    block = np.r_[10.0, 1.0, 2.0, 100.0]
    two = aged(aged(block, 1, 250.0, 300.0), 1, 777.0, 300.0)
    np.testing.assert_allclose(two, aged(block, 1, 777.0, 300.0), rtol=1e-13)


def test_two_blocks_become_one_as_of_the_later_of_their_times() -> None:
    early, late = np.r_[10.0, 1.0, 2.0, 100.0], np.r_[3.0, 5.0, 1.0, 400.0]
    wished = np.r_[early[:3] * np.exp(-1.0) + late[:3], 400.0]
    np.testing.assert_allclose(joined(early, late, 1, 300.0), wished)
    np.testing.assert_allclose(joined(late, early, 1, 300.0), wished)


def test_the_setting_may_be_switched_over_blocks_that_are_stored() -> None:
    plain, timed = np.r_[10.0, 1.0, 2.0], np.r_[10.0, 1.0, 2.0, 5.0]
    np.testing.assert_array_equal(stored("b", plain, 1, fades=True), np.r_[plain, 0.0])
    np.testing.assert_array_equal(stored("b", timed, 1, fades=False), plain)
    with pytest.raises(ValueError, match=r"b has shape \(5,\)"):
        stored("b", np.zeros(5), 1, fades=True)


def test_each_kind_of_block_fades_by_its_own_life_before_it_learns() -> None:
    learner = ShardLearner(LIVES)
    first = learner.learn(replace(batch_of(20), at_ms=1000.0), {})
    nothing = SlotBatch(np.ones((1, 2)), np.ones((1, 3)), ["item-1"], ["user-1"], np.zeros(1), at_ms=1300.0)
    second = learner.learn(nothing, first.users)
    assert second.shared[0] == pytest.approx(20 * np.exp(-0.3) + 1)
    assert second.items["item-1"][0] == pytest.approx(first.items["item-1"][0] * np.exp(-1.0) + 1)
    assert second.users["user-1"][0] == pytest.approx(first.users["user-1"][0] * np.exp(-0.6) + 1)
    assert second.shared[-1] == second.items["item-1"][-1] == second.users["user-1"][-1] == 1300.0


def test_shards_that_fade_alike_sum_to_what_one_learner_would_have_kept() -> None:
    """Two shards learn at different times; whoever reads brings all to one time, and adds the prior once."""
    learners = [ShardLearner(LIVES), ShardLearner(LIVES)]
    parts = [
        learner.learn(replace(batch_of(40, seed), at_ms=at), {})
        for seed, (learner, at) in enumerate(zip(learners, (1000.0, 1450.0), strict=True))
    ]
    posterior = Posterior(LIVES)
    posterior.advance(2000.0)
    for shard, part in enumerate(parts):
        posterior.put_shared(shard, part.shared)
        posterior.put_items(shard, part.items)
    context, items, ids = shown(LIVES)
    mean, variance = posterior.score(context, items, ids, None, with_variance=True)
    assert variance is not None
    shared = np.sum([aged(part.shared, 6, 2000.0, 1000.0) for part in parts], axis=0)
    theta, _ = moments(shared[:-1], 6, LIVES.shared_prior)
    for place, item in enumerate(ids):
        blocks = [part.items.get(item, np.zeros(packed_size(2) + 1)) for part in parts]
        own = np.sum([aged(block, 2, 2000.0, 300.0) for block in blocks], axis=0)
        wished = np.outer(context, items[place]).ravel() @ theta
        wished += context @ moments(own[:-1], 2, LIVES.item_prior)[0]
        assert mean[place] == pytest.approx(wished, rel=1e-4, abs=1e-5)


def test_what_nobody_touches_fades_to_the_prior_a_few_items_at_a_time() -> None:
    posterior, learner = Posterior(LIVES), ShardLearner(LIVES)
    learnt = learner.learn(replace(batch_of(200), at_ms=1000.0), {})
    posterior.advance(1000.0)
    posterior.put_shared(0, learnt.shared)
    posterior.put_items(0, learnt.items)
    context, items, ids = shown(LIVES)
    before = posterior.score(context, items, ids, None, with_variance=True)
    unseen = Posterior(LIVES).score(context, items, ids, None, with_variance=True)
    for _ in range(200):
        posterior.advance(1_000_000.0, most=2)
    after = posterior.score(context, items, ids, None, with_variance=True)
    for first, last, prior in zip(before, after, unseen, strict=True):
        assert first is not None
        assert last is not None
        assert prior is not None
        assert not np.allclose(first, prior, rtol=1e-3)
        np.testing.assert_allclose(last, prior, rtol=1e-5, atol=1e-6)


class Watched(np.ndarray):
    """Counts how often whole columns are compared."""

    looks = 0

    def __lt__(self, other: Any) -> Any:
        Watched.looks += 1
        return super().__lt__(other)


@pytest.mark.parametrize("life", [None, 128_000.0])
def test_a_commit_looks_at_all_items_only_when_enough_time_has_passed_for_one_to_fade(
    life: float | None,
) -> None:
    config = replace(LIVES, shared_life_ms=None, item_life_ms=life, user_life_ms=None)
    table = ItemTable(config.item_kind)
    block = np.ones(config.item_kind.width)
    table.put(0, {f"item-{n}": block for n in range(500)})
    table._made_at = table._made_at.view(Watched)
    Watched.looks = 0
    for now in range(100_000, 110_000, 10):
        table.catch_up(now, 256)
    assert Watched.looks == (0 if life is None else 10)


@given(steps=st.lists(st.tuples(st.floats(0.0, 3000.0), st.integers(0, 9)), min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_no_row_is_older_than_a_64th_of_its_life(steps: list[tuple[float, int]]) -> None:
    life = 64_000.0
    config = replace(LIVES, item_life_ms=life)
    table, now = ItemTable(config.item_kind), 1000.0
    block: FloatArray = np.append(np.ones(config.item_kind.width - 1), 1000.0)
    ids = [f"item-{n}" for n in range(10)]
    table.catch_up(now)
    table.put(0, dict.fromkeys(ids, block))
    for passed, touched in steps:
        now += passed
        table.catch_up(now)
        table.put(0, {ids[touched]: block})
        assert (now - table.made_at(ids) <= life / 64.0).all()


def test_a_users_block_is_read_as_of_now() -> None:
    learnt = ShardLearner(LIVES).learn(replace(batch_of(100), at_ms=1000.0), {})
    context, items, ids = shown(LIVES)
    posterior = Posterior(LIVES)
    posterior.advance(1000.0)
    fresh, _ = posterior.score(context, items, ids, learnt.users["user-1"], with_variance=False)
    posterior.advance(100_000.0)
    faded, _ = posterior.score(context, items, ids, learnt.users["user-1"], with_variance=False)
    assert np.abs(fresh).max() > 0.05
    np.testing.assert_allclose(faded, 0.0, atol=1e-6)
