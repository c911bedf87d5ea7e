from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bandits import policies
from bandits.exploration import Exploration
from bandits.model import HybridConfig, SlotBatch
from bandits.policies import (
    BetaThompson,
    HybridPolicy,
    LinearConfig,
    LinTS,
    LinUCB,
    Policy,
    Popularity,
    sampled_propensities,
)
from bandits.slates import SlateProblem, draw_slate
from tests.bandits.simulator import ChurningWorld

MAKERS: dict[str, Callable[[], Policy]] = {
    "Popularity": Popularity,
    "BetaThompson": BetaThompson,
    "LinUCB": lambda: LinUCB(LinearConfig(6, 6)),
    "LinTS": lambda: LinTS(LinearConfig(6, 6)),
    "HybridPolicy": lambda: HybridPolicy(HybridConfig(6, 6), Exploration(scheme="optimistic")),
}
every_policy = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def asked(k: int = 8, seed: int = 0) -> tuple[Any, Any, list[str]]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=6), rng.normal(size=(k, 6)), [f"item-{i}" for i in range(k)]


def batch_of(n: int, seed: int = 0) -> SlotBatch:
    rng = np.random.default_rng(seed)
    ids = [f"item-{i}" for i in rng.integers(0, 5, n)]
    return SlotBatch(rng.normal(size=(n, 6)), rng.normal(size=(n, 6)), ids, [""] * n, rng.random(n))


def test_every_policy_of_the_package_is_under_contract() -> None:
    classes = {name for name in policies.__all__ if hasattr(getattr(policies, name), "scores")}
    assert classes - {"Policy"} == set(MAKERS)


@every_policy
def test_scores_are_finite_for_items_never_seen_and_for_none(make: Callable[[], Policy]) -> None:
    policy = make()
    for batch in (None, batch_of(50)):
        if batch is not None:
            policy.learn(batch)
        for k in (0, 8):
            scores = policy.scores(*asked(k), 3)
            assert scores.shape == (k,)
            assert np.isfinite(scores).all()


@every_policy
def test_the_same_seed_scores_the_same_and_others_differ_only_where_sampled(
    make: Callable[[], Policy],
) -> None:
    policy = make()
    policy.learn(batch_of(50))
    first, again, other = (policy.scores(*asked(), seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.array_equal(first, other) is not policy.is_sampled


@every_policy
def test_learning_is_deterministic(make: Callable[[], Policy]) -> None:
    one, two = make(), make()
    for policy in (one, two):
        for seed in range(3):
            policy.learn(batch_of(40, seed))
    np.testing.assert_array_equal(one.scores(*asked(), 1), two.scores(*asked(), 1))


@every_policy
def test_a_dropped_item_scores_as_if_it_had_never_been_seen(make: Callable[[], Policy]) -> None:
    policy = make()
    policy.learn(batch_of(60))
    context, items, _ = asked(2)
    policy.drop_item("item-1")
    policy.drop_item("never seen")
    dropped, unseen = (policy.scores(context, items, [name, "item-2"], 1) for name in ("item-1", "nobody"))
    np.testing.assert_array_equal(dropped, unseen)


@every_policy
def test_every_policy_beats_chance_in_a_known_world(make: Callable[[], Policy]) -> None:
    world, policy, rng = ChurningWorld(3, mean_life=20_000.0), make(), np.random.default_rng(0)
    exploration = Exploration(scheme="epsilon", rate=0.1)
    gained, rows = 0.0, list[tuple[Any, Any, str, float]]()
    for t in range(3000):
        context, p, _ = world.step()
        scores = policy.scores(context, world.features, world.ids, t)
        place = int(draw_slate(SlateProblem(scores, 1), exploration, 1_000_003 * t).indices[0])
        gained += float(p[place] - p.mean()) if t >= 1500 else 0.0
        rows.append((context, world.features[place].copy(), world.ids[place], float(rng.random() < p[place])))
        if len(rows) == 100:
            contexts, items, ids, rewards = zip(*rows, strict=True)
            policy.learn(SlotBatch(np.array(contexts), np.array(items), ids, [""] * 100, np.array(rewards)))
            rows.clear()
    assert gained / 1500 > 0.01


def test_popularity_is_the_smoothed_share_of_rewards() -> None:
    policy = Popularity(prior_gain=1.0, prior_loss=3.0)
    policy.learn(
        SlotBatch(np.ones((3, 1)), np.ones((3, 1)), ["a", "a", "b"], [""] * 3, np.array([1.0, 0.5, 0.0]))
    )
    got = policy.scores(np.ones(1), np.ones((3, 1)), ["a", "b", "c"], 0)
    np.testing.assert_allclose(got, [2.5 / 6.0, 1.0 / 5.0, 1.0 / 4.0])


def test_beta_thompson_draws_from_the_beta_posterior() -> None:
    policy = BetaThompson(prior_gain=2.0, prior_loss=5.0)
    draws = [float(policy.scores(np.ones(1), np.ones((1, 1)), ["a"], 7919 * seed)[0]) for seed in range(2000)]
    assert stats.kstest(draws, stats.beta(2.0, 5.0).cdf).pvalue > 1e-3


def test_linucb_is_ridge_regression_plus_its_confidence_width() -> None:
    batch, (context, items, ids) = batch_of(30), asked()
    policy = LinUCB(LinearConfig(6, 6, prior_variance=0.5, width=0.7))
    policy.learn(batch)
    z = np.stack([np.outer(c, i).ravel() for c, i in zip(batch.contexts, batch.items, strict=True)])
    gram = z.T @ z + 2.0 * np.eye(36)
    asked_z = np.stack([np.outer(context, item).ravel() for item in items])
    mean = asked_z @ np.linalg.solve(gram, z.T @ batch.rewards)
    width = np.sqrt(np.einsum("ki,ij,kj->k", asked_z, np.linalg.inv(gram), asked_z))
    np.testing.assert_allclose(policy.scores(context, items, ids, 0), mean + 0.7 * width, rtol=1e-8)


def test_lints_draws_have_the_posteriors_mean_and_spread() -> None:
    batch, (context, items, ids) = batch_of(30), asked()
    sampler, bounds = LinTS(LinearConfig(6, 6, width=1.0)), LinUCB(LinearConfig(6, 6, width=1.0))
    mean = LinUCB(LinearConfig(6, 6, width=0.0))
    for policy in (sampler, bounds, mean):
        policy.learn(batch)
    draws = np.array([sampler.scores(context, items, ids, 7919 * seed) for seed in range(4000)])
    centre = mean.scores(context, items, ids, 0)
    width = bounds.scores(context, items, ids, 0) - centre
    assert (np.abs(draws.mean(axis=0) - centre) < 4.5 * width / np.sqrt(4000)).all()
    np.testing.assert_allclose(draws.std(axis=0), width, rtol=0.06)


def test_sampled_propensities_are_those_of_a_known_race() -> None:
    """Two unseen items are equally likely to come up; a policy that does not sample always takes one."""
    context, items, _ = asked(2)
    p = sampled_propensities(BetaThompson(), context, items, ["a", "b"], [7919 * s for s in range(1000)])
    assert abs(p[0] - 0.5) < 0.07
    assert p.sum() == 1.0
    assert sampled_propensities(Popularity(), context, items, ["a", "b"], [1, 2]).tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="seeds is empty"):
        sampled_propensities(Popularity(), context, items, ["a", "b"], [])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Popularity(prior_gain=0.0), "prior_gain is 0.0"),
        (lambda: LinearConfig(0, 1), "context_dim is 0"),
        (lambda: LinearConfig(1, 1, prior_variance=0.0), "prior_variance is 0.0"),
        (lambda: LinearConfig(1, 1, width=-1.0), "width is -1.0"),
    ],
)
def test_wrong_settings_are_refused_by_field(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
