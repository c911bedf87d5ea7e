from dataclasses import replace

import numpy as np
import pytest

from bandits.arrays import FloatArray
from bandits.hybrid import HybridConfig, SlotBatch
from bandits.learner import ShardLearner
from bandits.natural import increments, packed_size
from bandits.priors import SPAN, EmpiricalBayes

TRUE = HybridConfig(
    4, 5, 0.09, 0.04, 0.16, item_base_variance=0.5, user_base_variance=1.0, shared_cross_variance=0.01
)


def blocks_of(rng: np.random.Generator, n: int, variances: FloatArray, slots: int) -> dict[str, FloatArray]:
    """Blocks that have seen noisy values of coefficients drawn from their prior."""
    out = {}
    for place in range(n):
        truth = rng.normal(size=len(variances)) * np.sqrt(variances)
        features = rng.normal(size=(slots, len(variances)))
        seen = features @ truth + rng.normal(size=slots) * 2.0
        out[str(place)] = increments(features, np.full(slots, 0.25), seen).sum(axis=0)
    return out


@pytest.mark.parametrize("factor", [0.1, 1.0, 10.0])
def test_variances_are_found_that_coefficients_were_drawn_with(factor: float) -> None:
    """Whatever the guess: true ones within a third, from a few hundred blocks."""
    rng = np.random.default_rng(4)
    shared = blocks_of(rng, 1, TRUE.shared_prior, 4000)["0"]
    items, users = blocks_of(rng, 600, TRUE.item_prior, 80), blocks_of(rng, 600, TRUE.user_prior, 80)
    names = ("item_variance", "user_variance", "item_base_variance", "user_base_variance")
    guess = replace(TRUE, **{name: getattr(TRUE, name) * factor for name in names})
    bayes = EmpiricalBayes(guess)
    for _ in range(8):
        found = bayes.estimate(shared, items, users)
    for name in names:
        assert getattr(found, name) == pytest.approx(getattr(TRUE, name), rel=0.33), name
    assert found.shared_cross_variance is not None
    assert 0.003 < found.shared_cross_variance < 0.03
    assert 0.03 < found.shared_variance < 0.27


def test_a_learner_of_clicks_finds_how_much_items_differ() -> None:
    """Through the logistic link and all blocks at once: items' biases have variance 0.5, tastes none."""
    rng, config = np.random.default_rng(1), HybridConfig(3, 3, 0.05, 0.2, 0.05, item_base_variance=0.1)
    biases = rng.normal(size=150) * np.sqrt(0.5)
    learner, bayes = ShardLearner(config), EmpiricalBayes(config)
    for _ in range(8):
        chosen = rng.integers(0, 150, 2000)
        contexts, items = np.ones((2000, 3)), np.ones((2000, 3))
        contexts[:, 1:], items[:, 1:] = rng.normal(size=(2, 2000, 2))
        rewards = (rng.random(2000) < 1 / (1 + np.exp(1.0 - biases[chosen]))).astype(float)
        ids = [f"i{n}" for n in chosen.tolist()]
        learner.learn(SlotBatch(contexts, items, ids, [""] * 2000, rewards), {})
        learner.config = bayes.estimate(learner.shared, learner.items, {})
    assert learner.config.item_base_variance == pytest.approx(0.5, rel=0.35)
    assert learner.config.item_variance < 0.03


def test_without_data_the_guess_holds_and_little_data_moves_it_little() -> None:
    bayes = EmpiricalBayes(TRUE)
    assert bayes.estimate(np.zeros(packed_size(20)), {}, {}) == TRUE
    few = blocks_of(np.random.default_rng(0), 2, TRUE.item_prior * 100, 3)
    found = bayes.estimate(np.zeros(packed_size(20)), few, {})
    assert found.item_base_variance is not None
    assert found.item_base_variance < 2 * 0.5  # the likeliest one is 30 times the guess and more
    assert found.item_variance < 2 * TRUE.item_variance


def test_the_order_in_which_blocks_are_held_changes_no_bit() -> None:
    """A shard loads its blocks in any order and must go on as the one that learnt them."""
    items = blocks_of(np.random.default_rng(0), 300, TRUE.item_prior, 20)
    shuffled = {key: items[key] for key in np.random.default_rng(1).permutation(sorted(items)).tolist()}
    shared = np.zeros(packed_size(20))
    first, second = (EmpiricalBayes(TRUE).estimate(shared, held, {}) for held in (items, shuffled))
    assert first == second


def test_no_stream_takes_a_variance_further_than_its_span() -> None:
    bayes = EmpiricalBayes(TRUE)
    odd = blocks_of(np.random.default_rng(0), 50, TRUE.item_prior * 1e6, 50)
    for _ in range(5):
        found = bayes.estimate(np.zeros(packed_size(20)), odd, {})
    assert found.item_variance == SPAN * TRUE.item_variance


def test_estimates_are_due_often_at_first_and_then_with_every_tenth_part_more() -> None:
    bayes = EmpiricalBayes(TRUE)
    due = [5 * n for n in range(20_000) if bayes.is_due(5)]
    assert due[0] <= 200
    gaps = np.diff([at for at in due if at > 20_000]) / np.array([at for at in due if at > 20_000])[:-1]
    assert (gaps > 0.05).all()
    assert (gaps < 0.15).all()
