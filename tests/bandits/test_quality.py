"""The default policy in a world whose truth is known, beside rivals that meet the same world."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bandits.arrays import FloatArray
from bandits.exploration import Exploration
from bandits.hybrid import HybridConfig, Posterior, ShardLearner, SlotBatch
from bandits.slates import SlateProblem, draw_slate
from tests.bandits.simulator import ChurningWorld

ROUNDS = 5000
Choose = Callable[[int, FloatArray, ChurningWorld], int]
Learn = Callable[[SlotBatch], None]

OPTIMISTIC = Exploration(scheme="optimistic", rate=0.01, temperature=0.1, optimism=0.5)


@dataclass(frozen=True)
class Rival:
    choose: Choose
    learn: Learn


def share_of_the_possible(rival: Rival, seed: int, every: int = 50) -> float:
    """Return (reward - random) / (oracle - random) of a policy that learns every so many rounds."""
    world, coins = ChurningWorld(seed), np.random.default_rng(10_000 + seed).random(ROUNDS)
    got, random, oracle = 0.0, 0.0, 0.0
    contexts, items, ids, rewards = [], [], [], []
    for t in range(ROUNDS):
        context, p, _ = world.step()
        place = rival.choose(t, context, world)
        got, random, oracle = got + p[place], random + p.mean(), oracle + p.max()
        contexts.append(context)
        items.append(world.features[place].copy())
        ids.append(world.ids[place])
        rewards.append(float(coins[t] < p[place]))
        if len(rewards) == every:
            rival.learn(SlotBatch(np.array(contexts), np.array(items), ids, [""] * every, np.array(rewards)))
            contexts, items, ids, rewards = [], [], [], []
    return float((got - random) / (oracle - random))


def hybrid(exploration: Exploration, shards: int = 1) -> Rival:
    config = HybridConfig(context_dim=6, item_dim=6)
    learners, posterior = [ShardLearner(config) for _ in range(shards)], Posterior(config)

    def choose(t: int, context: FloatArray, world: ChurningWorld) -> int:
        optimistic = exploration.scheme == "optimistic"
        mean, variance = posterior.score(context, world.features, world.ids, None, with_variance=optimistic)
        problem = SlateProblem(exploration.utilities(mean, variance), 1)
        return int(draw_slate(problem, exploration, 1_000_003 * t).indices[0])

    def learn(batch: SlotBatch) -> None:
        for shard, learner in enumerate(learners):
            part = slice(shard, None, shards)
            own = SlotBatch(
                batch.contexts[part],
                batch.items[part],
                batch.item_ids[part],
                batch.users[part],
                batch.rewards[part],
            )
            learnt = learner.learn(own, {})
            posterior.put_shared(shard, learnt.shared)
            posterior.put_items(shard, learnt.items)

    return Rival(choose, learn)


def popularity(rate: float) -> Rival:
    """Epsilon-greedy over smoothed click rates, blind to features."""
    rng, seen, clicks = np.random.default_rng(1), dict[str, float](), dict[str, float]()

    def choose(t: int, context: FloatArray, world: ChurningWorld) -> int:
        if rng.random() < rate:
            return int(rng.integers(world.live))
        ctr = [(clicks.get(key, 0.0) + 0.04) / (seen.get(key, 0.0) + 1.0) for key in world.ids]
        return int(np.argmax(ctr))

    def learn(batch: SlotBatch) -> None:
        for key, reward in zip(batch.item_ids, batch.rewards.tolist(), strict=True):
            seen[key] = seen.get(key, 0.0) + 1.0
            clicks[key] = clicks.get(key, 0.0) + reward

    return Rival(choose, learn)


def ridge(rate: float) -> Rival:
    """Epsilon-greedy over one linear regression on all crosses: what a shared LinUCB knows."""
    rng, gram, moment = np.random.default_rng(1), np.eye(36) * 5.0, np.zeros(36)

    def choose(t: int, context: FloatArray, world: ChurningWorld) -> int:
        if rng.random() < rate:
            return int(rng.integers(world.live))
        weights = np.linalg.solve(gram, moment).reshape(6, 6)
        return int(np.argmax(world.features @ (context @ weights)))

    def learn(batch: SlotBatch) -> None:
        z = (batch.contexts[:, :, None] * batch.items[:, None, :]).reshape(len(batch), -1)
        gram[:] += z.T @ z
        moment[:] += z.T @ batch.rewards

    return Rival(choose, learn)


def test_the_hybrid_beats_popularity_and_linear_regression_where_items_come_and_go() -> None:
    seeds = (0, 1)
    ours = np.mean([share_of_the_possible(hybrid(OPTIMISTIC), seed) for seed in seeds])
    blind = np.mean([share_of_the_possible(popularity(0.05), seed) for seed in seeds])
    linear = np.mean([share_of_the_possible(ridge(0.05), seed) for seed in seeds])
    assert ours > 0.5
    assert ours > 1.5 * blind
    assert ours > 1.15 * linear


def test_four_shards_learn_nearly_as_well_as_one() -> None:
    one = np.mean([share_of_the_possible(hybrid(OPTIMISTIC), seed) for seed in (2,)])
    four = np.mean([share_of_the_possible(hybrid(OPTIMISTIC, shards=4), seed) for seed in (2,)])
    assert four > 0.85 * one


def test_cold_items_are_scored_by_their_features_before_their_first_impression() -> None:
    """Learn from random slates, then rank items never shown: the order must follow the truth."""
    world, rng = ChurningWorld(5), np.random.default_rng(5)
    config = HybridConfig(context_dim=6, item_dim=6)
    learner, posterior = ShardLearner(config), Posterior(config)
    rows = []
    for _ in range(6000):
        context, p, _ = world.step()
        place = int(rng.integers(world.live))
        rows.append((context, world.features[place].copy(), world.ids[place], float(rng.random() < p[place])))
    contexts, items, ids, rewards = zip(*rows, strict=True)
    batch = SlotBatch(np.array(contexts), np.array(items), ids, [""] * len(rows), np.array(rewards))
    posterior.put_shared(0, learner.learn(batch, {}).shared)
    correlations = []
    for _ in range(200):
        context, p, _ = world.step()
        mean, _ = posterior.score(context, world.features, [""] * world.live, None, with_variance=False)
        correlations.append(np.corrcoef(mean, np.log(p / (1 - p)))[0, 1])
    assert np.mean(correlations) > 0.5
