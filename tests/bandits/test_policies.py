"""What each policy's scores are, beside the formulas and in worlds whose truth is known."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import expit

from bandits.exploration import Exploration
from bandits.model import HybridConfig, SlotBatch
from bandits.policies import (
    CATALOGUE,
    BetaThompson,
    Candidates,
    HybridPolicy,
    HybridThompson,
    LinearConfig,
    LinTS,
    LinUCB,
    Policy,
    Popularity,
    sampled_propensities,
)
from bandits.policies.best import of_betas, of_normals
from bandits.policies.catalogue import Entry
from tests.bandits.simulator import ChurningWorld

GREEDY = Exploration(scheme="greedy")


def asked(k: int = 8, seed: int = 0) -> Candidates:
    rng = np.random.default_rng(seed)
    return Candidates(rng.normal(size=6), rng.normal(size=(k, 6)), [f"item-{i}" for i in range(k)])


def batch_of(n: int, seed: int = 0) -> SlotBatch:
    rng = np.random.default_rng(seed)
    ids = [f"item-{i}" for i in rng.integers(0, 5, n)]
    return SlotBatch(rng.normal(size=(n, 6)), rng.normal(size=(n, 6)), ids, [""] * n, rng.random(n))


def of_ids(*ids: str) -> Candidates:
    return Candidates(np.ones(1), np.ones((len(ids), 1)), ids)


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE.keys())
def test_every_policy_beats_chance_in_a_known_world(entry: Entry) -> None:
    world, rng = ChurningWorld(3, mean_life=20_000.0), np.random.default_rng(0)
    policy: Policy = entry.make(6, 6)
    gained, rows = 0.0, list[tuple[Any, Any, str, float]]()
    for t in range(2400):
        context, p, _ = world.step()
        candidates = Candidates(context, world.features, world.ids)
        place = int(policy.slate(candidates, 1, entry.exploration, 1_000_003 * t).indices[0])
        gained += float(p[place] - p.mean()) if t >= 1200 else 0.0
        rows.append((context, world.features[place].copy(), world.ids[place], float(rng.random() < p[place])))
        if len(rows) == 100:
            contexts, items, ids, rewards = zip(*rows, strict=True)
            policy.learn(SlotBatch(np.array(contexts), np.array(items), ids, [""] * 100, np.array(rewards)))
            rows.clear()
    assert gained / 1200 > 0.01


def test_popularity_is_the_smoothed_share_of_rewards() -> None:
    policy = Popularity(prior_gain=1.0, prior_loss=3.0)
    policy.learn(
        SlotBatch(np.ones((3, 1)), np.ones((3, 1)), ["a", "a", "b"], [""] * 3, np.array([1.0, 0.5, 0.0]))
    )
    got = policy.scores(of_ids("a", "b", "c"), GREEDY, 0)
    np.testing.assert_allclose(got, [2.5 / 6.0, 1.0 / 5.0, 1.0 / 4.0])


@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
def test_probabilities_of_the_largest_normal_are_those_counted(spread: float) -> None:
    rng = np.random.default_rng(2)
    mean, deviation = rng.normal(size=6), rng.uniform(0.3, 1.0, 6) * np.geomspace(1.0, spread, 6)
    drawn = (mean + deviation * rng.normal(size=(400_000, 6))).argmax(axis=1)
    share = np.bincount(drawn, minlength=6) / 400_000
    np.testing.assert_allclose(np.exp(of_normals(mean, deviation)), share, atol=0.004)


def test_probabilities_of_the_largest_of_two_normals_are_known() -> None:
    logs = of_normals(np.array([0.3, -0.5]), np.array([0.6, 0.8]))
    np.testing.assert_allclose(np.exp(logs[0]), stats.norm.cdf(0.8), atol=1e-9)


def test_probabilities_of_the_largest_beta_are_those_of_numerical_integration() -> None:
    gain, loss = np.array([1.0, 4.0, 0.5]), np.array([20.0, 30.0, 3.0])
    best = np.exp(of_betas(gain, loss))
    for k in range(3):
        others = [stats.beta(gain[j], loss[j]).cdf for j in range(3) if j != k]
        density = stats.beta(gain[k], loss[k]).pdf
        wished, _ = integrate.quad(
            lambda x, f=density, o=others: f(x) * o[0](x) * o[1](x), 0.0, 1.0, limit=200
        )
        assert best[k] == pytest.approx(wished, abs=1e-5)
    assert best.sum() == pytest.approx(1.0, abs=1e-12)


def test_thompson_scores_are_logarithms_of_being_the_best_under_the_policys_own_beliefs() -> None:
    policy = HybridThompson(HybridConfig(6, 6))
    policy.learn(batch_of(80))
    mean, variance = policy.moments(asked(), with_variance=True)
    assert variance is not None
    np.testing.assert_array_equal(policy.scores(asked(), GREEDY, 1), of_normals(mean, np.sqrt(variance)))
    popular = BetaThompson(2.0, 5.0)
    popular.learn(batch_of(80))
    np.testing.assert_array_equal(popular.scores(asked(), GREEDY, 1), of_betas(*popular.beta(asked())))


def test_users_variances_stay_as_configured_where_they_are_not_fitted() -> None:
    policies = [HybridPolicy(HybridConfig(2, 3), fits_users=fits) for fits in (True, False)]
    rng = np.random.default_rng(0)
    for _ in range(8):
        ids, users = ([f"{kind}{n}" for n in rng.integers(0, 9, 100)] for kind in "iu")
        batch = SlotBatch(rng.normal(size=(100, 2)), rng.normal(size=(100, 3)), ids, users, rng.random(100))
        for policy in policies:
            policy.learn(batch)
    fitted, served = (policy.config for policy in policies)
    assert fitted.user_variance != 0.25
    assert served.user_variance == 0.25
    assert served.item_variance != 0.25


def test_a_users_taste_is_learnt_for_that_user_alone() -> None:
    """Two users want opposite things of the same items: shared and items' blocks cannot tell them apart."""
    rng, policy = np.random.default_rng(0), HybridPolicy(HybridConfig(2, 3))
    items = np.c_[np.ones(40), rng.normal(size=(40, 2))]
    for _ in range(30):
        chosen, users = rng.integers(0, 40, 50), rng.integers(0, 2, 50)
        wanted = expit(2.0 * items[chosen, 1] * np.where(users, 1.0, -1.0))
        rewards = (rng.random(50) < wanted).astype(np.float64)
        names, ids = [f"u{user}" for user in users.tolist()], [f"i{item}" for item in chosen.tolist()]
        policy.learn(SlotBatch(np.ones((50, 2)), items[chosen], ids, names, rewards))
    ids = [f"i{item}" for item in range(40)]
    for user, sign in (("u1", 1.0), ("u0", -1.0), ("nobody", 0.0)):
        scores = policy.scores(Candidates(np.ones(2), items, ids, user), GREEDY, 0)
        correlation = np.corrcoef(scores, items[:, 1])[0, 1]
        assert sign * correlation > 0.9 if sign else abs(correlation) < 0.75


def test_linucb_is_ridge_regression_plus_its_confidence_width() -> None:
    batch, candidates = batch_of(30), asked()
    policy = LinUCB(LinearConfig(6, 6, prior_variance=0.5, width=0.7))
    policy.learn(batch)
    z = np.stack([np.outer(c, i).ravel() for c, i in zip(batch.contexts, batch.items, strict=True)])
    gram = z.T @ z + 2.0 * np.eye(36)
    asked_z = np.stack([np.outer(candidates.context, item).ravel() for item in candidates.items])
    mean = asked_z @ np.linalg.solve(gram, z.T @ batch.rewards)
    width = np.sqrt(np.einsum("ki,ij,kj->k", asked_z, np.linalg.inv(gram), asked_z))
    np.testing.assert_allclose(policy.scores(candidates, GREEDY, 0), mean + 0.7 * width, rtol=1e-8)


@pytest.mark.parametrize("kind", [LinUCB, LinTS])
def test_linear_shards_sum_to_the_single_fit_in_any_order(kind: type[LinUCB | LinTS]) -> None:
    """Their increments do not depend on what was learnt before: blocks of shards just add up."""
    whole, batch = kind(LinearConfig(6, 6)), batch_of(300)
    whole.learn(batch)
    blocks = []
    for shard in np.array_split(np.random.default_rng(0).permutation(300), 7):
        part = kind(LinearConfig(6, 6))
        ids = [batch.item_ids[place] for place in shard.tolist()]
        part.learn(
            SlotBatch(batch.contexts[shard], batch.items[shard], ids, [""] * len(ids), batch.rewards[shard])
        )
        blocks.append(part.snapshot().arrays["block"])
    np.testing.assert_allclose(np.sum(blocks, axis=0), whole.snapshot().arrays["block"], rtol=1e-9, atol=1e-9)


def test_lints_draws_have_the_posteriors_mean_and_spread() -> None:
    batch, candidates = batch_of(30), asked()
    sampler, bounds = LinTS(LinearConfig(6, 6, width=1.0)), LinUCB(LinearConfig(6, 6, width=1.0))
    mean = LinUCB(LinearConfig(6, 6, width=0.0))
    for policy in (sampler, bounds, mean):
        policy.learn(batch)
    draws = np.array([sampler.scores(candidates, GREEDY, 7919 * seed) for seed in range(4000)])
    centre = mean.scores(candidates, GREEDY, 0)
    width = bounds.scores(candidates, GREEDY, 0) - centre
    assert (np.abs(draws.mean(axis=0) - centre) < 4.5 * width / np.sqrt(4000)).all()
    np.testing.assert_allclose(draws.std(axis=0), width, rtol=0.06)


def test_sampled_propensities_are_those_of_a_known_race() -> None:
    """Two candidates that mirror each other are equally likely to come up; who does not sample takes one."""
    items = np.array([[0.5, 1.0], [0.5, -1.0]])
    candidates = Candidates(np.ones(2), items, ["a", "b"])
    sampler = LinTS(LinearConfig(2, 2))
    p = sampled_propensities(sampler, candidates, [7919 * s for s in range(1000)])
    assert abs(p[0] - 0.5) < 0.07
    assert p.sum() == 1.0
    assert sampled_propensities(Popularity(), candidates, [1, 2]).tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="seeds is empty"):
        sampled_propensities(sampler, candidates, [])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Popularity(prior_gain=0.0), "prior_gain is 0.0"),
        (lambda: LinearConfig(0, 1), "context_dim is 0"),
        (lambda: LinearConfig(1, 1, prior_variance=0.0), "prior_variance is 0.0"),
        (lambda: LinearConfig(1, 1, width=-1.0), "width is -1.0"),
        (lambda: HybridConfig(1, 1, link=cast("Any", "probit")), "link is 'probit'"),
        (lambda: HybridConfig(1, 1, item_life_ms=0.0), "item_life_ms is 0.0"),
    ],
)
def test_wrong_settings_are_refused_by_field(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
