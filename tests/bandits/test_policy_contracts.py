"""What every policy promises, checked on all there are: they are found, not listed."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from typing import Any, get_args

import numpy as np
import pytest
from scipy import stats

from bandits.arrays import FloatArray
from bandits.exploration import Mode, Scheme
from bandits.many import draw_many
from bandits.model import SlotBatch
from bandits.policies import CATALOGUE, Candidates, Policy, Snapshot
from bandits.policies.catalogue import Entry
from bandits.slates import SlateProblem, is_race, slate_propensities

CONTEXT_DIM, ITEM_DIM = 4, 5
SLATES = 150_000
"""For each policy: a million over all of them."""

each = pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE.keys())
stochastic = pytest.mark.parametrize(
    "name", [name for name, entry in CATALOGUE.items() if entry.exploration.is_stochastic]
)


def batch_of(n: int, seed: int = 0, first: int = 0) -> SlotBatch:
    """Slots learnt at a time of their own: half a day passes from seed to seed."""
    rng = np.random.default_rng(seed)
    contexts, items = rng.normal(size=(n, CONTEXT_DIM)), rng.normal(size=(n, ITEM_DIM))
    contexts[:, 0] = items[:, 0] = 1.0
    ids = [f"item-{first + i}" for i in rng.integers(0, 6, n)]
    users = [f"user-{i}" if i else "" for i in rng.integers(0, 4, n)]
    rewards = (rng.random(n) < 0.3).astype(np.float64)
    return SlotBatch(contexts, items, ids, users, rewards, at_ms=1.7e12 + 43_200_000.0 * seed)


def asked(k: int = 7, seed: int = 1, user: str = "user-1") -> Candidates:
    rng = np.random.default_rng(seed)
    context, items = rng.normal(size=CONTEXT_DIM), rng.normal(size=(k, ITEM_DIM))
    context[0] = items[:, 0] = 1.0
    return Candidates(context, items, [f"item-{i}" for i in range(k)], user)


def taught(entry: Entry, batches: int = 3) -> Policy:
    policy = entry.make(CONTEXT_DIM, ITEM_DIM)
    for seed in range(batches):
        policy.learn(batch_of(60, seed))
    return policy


def concrete(base: Any) -> Iterator[type[Policy]]:
    for kind in base.__subclasses__():
        if not getattr(kind, "__abstractmethods__", None):
            yield kind
        yield from concrete(kind)


def floats_of(snapshot: Snapshot) -> int:
    return sum(array.size for array in snapshot.arrays.values()) + len(json.dumps(snapshot.document))


def test_every_policy_and_every_scheme_is_in_the_catalogue() -> None:
    made = {type(entry.make(CONTEXT_DIM, ITEM_DIM)) for entry in CATALOGUE.values()}
    ours = {kind for kind in concrete(Policy) if kind.__module__.startswith("bandits.")}
    assert ours == made
    assert {entry.exploration.scheme for entry in CATALOGUE.values()} == set(get_args(Scheme))
    assert {entry.exploration.mode for entry in CATALOGUE.values()} == set(get_args(Mode))


@each
def test_propensities_sum_to_one_at_every_slot_and_are_those_drawn_with(entry: Entry) -> None:
    policy = taught(entry)
    for seed in range(20):
        slate = policy.slate(asked(seed=seed), 5, entry.exploration, seed)
        for slot, index in enumerate(slate.indices.tolist()):
            prefix = slate.indices[:slot].tolist()
            law = policy.distribution(asked(seed=seed), 5, entry.exploration, seed, prefix)
            assert abs(law.sum() - 1.0) < 1e-12
            assert (law >= 0.0).all()
            assert not law[prefix].any()
            assert abs(law[index] - slate.propensities[slot]) < 1e-12


@each
def test_no_candidate_falls_below_the_floor(entry: Entry) -> None:
    policy = taught(entry)
    floored = replace(entry.exploration, floor=0.02, rate=0.05)
    if not floored.is_stochastic:
        floored = replace(floored, scheme="epsilon")
    # A slate that has explored its one slot explores no other: the floor holds over whole slates then.
    is_single = floored.mode == "single_slot"
    for prefix in ([],) if is_single else ([], [3], [3, 0, 6]):
        law = policy.distribution(asked(), 5, floored, 5, prefix)
        left = np.delete(law, prefix)
        assert (left >= 0.02 * (1 - 1e-12)).all()


@stochastic
def test_a_million_slates_come_up_as_often_as_their_propensities_say(name: str) -> None:
    """Ordered slates of two out of four, all twelve enumerated; slot by slot where no race draws them."""
    entry = CATALOGUE[name]
    scores = taught(entry).scores(asked(4), entry.exploration, 5)
    problem = SlateProblem(scores, 2)
    n = SLATES if is_race(problem, entry.exploration, 2) else SLATES // 30
    drawn = Counter(map(tuple, draw_many(problem, entry.exploration, range(n)).tolist()))
    wished: dict[tuple[int, ...], float] = {
        pair: n * float(np.prod(slate_propensities(problem, np.array(pair), entry.exploration)))
        for pair in permutations(range(4), 2)
    }
    assert abs(sum(wished.values()) - n) < 1e-9 * n
    assert _p_value(drawn, wished) > 1e-3


def _p_value(drawn: Counter[tuple[int, ...]], wished: dict[tuple[int, ...], float]) -> float:
    common = [pair for pair, expected in wished.items() if expected >= 5]
    seen, expected = [drawn[pair] for pair in common], [wished[pair] for pair in common]
    rare = sum(wished.values()) - sum(expected)
    if rare >= 1:
        seen, expected = [*seen, sum(drawn.values()) - sum(seen)], [*expected, rare]
    return float(stats.chisquare(seen, np.array(expected) * (sum(seen) / sum(expected))).pvalue)


@each
def test_a_seed_repeats_scores_and_slates(entry: Entry) -> None:
    policy = taught(entry)
    first, again, other = (policy.scores(asked(), entry.exploration, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.array_equal(first, other) is not policy.is_sampled
    one, two = (policy.slate(asked(), 4, entry.exploration, 11) for _ in range(2))
    np.testing.assert_array_equal(one.indices, two.indices)
    np.testing.assert_array_equal(one.propensities, two.propensities)


@each
def test_learning_is_deterministic(entry: Entry) -> None:
    one, two = (taught(entry).scores(asked(), entry.exploration, 1) for _ in range(2))
    np.testing.assert_array_equal(one, two)


@each
def test_a_policy_restored_from_arrays_and_json_goes_on_with_the_same_bits(entry: Entry) -> None:
    policy = taught(entry)
    snapshot = policy.snapshot()
    assert all(array.dtype == np.float64 for array in snapshot.arrays.values())
    document = json.loads(json.dumps(snapshot.document))
    arrays = {name: np.frombuffer(a.tobytes()).reshape(a.shape) for name, a in snapshot.arrays.items()}
    stood = _scores(policy, entry)
    policy.learn(batch_of(600, 8))
    restored = type(policy).restore(Snapshot(document, arrays))
    np.testing.assert_array_equal(stood, _scores(restored, entry))
    restored.learn(batch_of(600, 8))
    np.testing.assert_array_equal(_scores(policy, entry), _scores(restored, entry))
    for one in (policy, restored):
        one.learn(batch_of(70, 9))
    np.testing.assert_array_equal(_scores(policy, entry), _scores(restored, entry))


def _scores(policy: Policy, entry: Entry) -> FloatArray:
    return policy.scores(asked(), entry.exploration, 3)


@each
def test_unseen_items_unseen_users_and_no_candidates_have_finite_scores(entry: Entry) -> None:
    for policy in (entry.make(CONTEXT_DIM, ITEM_DIM), taught(entry)):
        for candidates in (asked(user="nobody"), asked(user=""), asked(0)):
            scores = policy.scores(candidates, entry.exploration, 3)
            assert scores.shape == (len(candidates.item_ids),)
            assert np.isfinite(scores).all()


@each
def test_what_is_dropped_scores_as_if_it_had_never_been_seen(entry: Entry) -> None:
    policy, fresh = taught(entry), asked(2)
    for name in ("item-0", "never seen"):
        policy.drop_item(name)
    for name in ("user-1", "never seen"):
        policy.drop_user(name)
    unseen = replace(fresh, item_ids=["nobody", "item-1"], user="stranger")
    np.testing.assert_array_equal(
        policy.scores(fresh, entry.exploration, 1), policy.scores(unseen, entry.exploration, 1)
    )


@each
def test_memory_follows_what_is_held_however_many_come_and_go(entry: Entry) -> None:
    policy = entry.make(CONTEXT_DIM, ITEM_DIM)
    sizes = []
    for n in range(40):
        batch = batch_of(12, n, first=100 * n)
        batch = replace(batch, users=[f"{user}-{n}" if user else "" for user in batch.users])
        policy.learn(batch)
        for item, user in {*zip(batch.item_ids, batch.users, strict=True)} if n else ():
            policy.drop_item(item)
            policy.drop_user(user)
        policy.scores(asked(20, seed=n), entry.exploration, n)
        sizes.append(floats_of(policy.snapshot()))
    assert max(sizes[20:]) <= sizes[0] * 1.1


@each
def test_rewards_move_scores_their_way(entry: Entry) -> None:
    """The candidate that always earned rises against the one that never did."""
    policy, candidates = entry.make(CONTEXT_DIM, ITEM_DIM), asked(2)
    law = replace(entry.exploration, scheme="softmax", temperature=1.0)
    before = policy.distribution(candidates, 1, law, 3)
    for _ in range(10):
        batch = SlotBatch(
            np.repeat(candidates.context[None], 40, axis=0),
            np.repeat(candidates.items, 20, axis=0),
            ["item-0"] * 20 + ["item-1"] * 20,
            ["user-1"] * 40,
            np.repeat([1.0, 0.0], 20),
        )
        policy.learn(batch)
    after = policy.distribution(candidates, 1, law, 3)
    assert after[0] > before[0]
    assert after[0] > 0.5
