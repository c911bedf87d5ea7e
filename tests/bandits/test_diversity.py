import numpy as np
import pytest

from bandits.arrays import FloatArray
from bandits.diversity import Diversity, Signatures, signature_of
from bandits.exploration import Exploration
from bandits.slates import SlateProblem, draw_slate


def signatures_of(vectors: FloatArray, ids: Signatures) -> Signatures:
    return np.array([signature_of(v, int(own)) for v, own in zip(vectors, ids, strict=True)], np.uint64)


GREEDY = Exploration(scheme="greedy")


def test_signatures_estimate_the_cosine_of_vectors() -> None:
    rng = np.random.default_rng(3)
    errors = []
    for _ in range(200):
        a, b = rng.standard_normal(32), rng.standard_normal(32)
        b = rng.uniform(0, 1) * a + rng.uniform(0, 1) * b
        signatures = signatures_of(np.array([a, b]), np.array([1, 2], np.uint64))
        cosine = max(0.0, float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
        errors.append(Diversity(signatures, 1.0).penalties(np.array([0]))[1] - cosine)
    assert abs(np.mean(errors)) < 0.03
    assert np.std(errors) < 0.2


def test_an_item_is_fully_like_one_of_the_same_direction() -> None:
    vectors = np.array([[1.0, 2.0], [2.0, 4.0]])
    penalties = Diversity(signatures_of(vectors, np.zeros(2, np.uint64)), 2.0).penalties(np.array([0]))
    assert penalties.tolist() == [2.0, 2.0]


def test_items_without_a_vector_are_hardly_like_each_other_or_anybody() -> None:
    rng = np.random.default_rng(4)
    vectors = np.concatenate([np.zeros((40, 8)), rng.normal(size=(40, 8))])
    signatures = signatures_of(vectors, rng.integers(0, 2**64, 80, dtype=np.uint64))
    diversity = Diversity(signatures, 1.0)
    likeness = np.array([diversity.penalties(np.array([one])) for one in range(40)])
    others = likeness[~np.eye(40, 80, dtype=np.bool_)]
    assert others.mean() < 0.1
    assert others.max() < 0.7


def test_the_likest_of_those_placed_counts() -> None:
    diversity = Diversity(np.array([0, 1, 2**64 - 1], np.uint64), 1.0)
    alone, both = diversity.penalties(np.array([2])), diversity.penalties(np.array([2, 0]))
    assert alone.tolist() == [0.0, 0.0, 1.0]
    assert both[0] == both[2] == 1.0
    assert 0.99 < both[1] < 1.0


def test_likeness_does_not_depend_on_what_was_asked_before() -> None:
    rng = np.random.default_rng(0)
    signatures = rng.integers(0, 2**64, 8, dtype=np.uint64)
    asked = Diversity(signatures, 0.7)
    for prefix in ([], [3], [3, 1], [3, 1, 6], [3, 2], [5], [5, 3, 1], []):
        fresh = Diversity(signatures, 0.7).penalties(np.array(prefix, np.int64))
        np.testing.assert_array_equal(asked.penalties(np.array(prefix, np.int64)), fresh)


def test_a_slate_takes_the_unlike_before_a_slightly_better_twin() -> None:
    signatures = np.array([0, 0, 2**64 - 1], np.uint64)
    problem = SlateProblem(np.array([1.0, 0.9, 0.5]), 3, diversity=Diversity(signatures, 0.6))
    assert draw_slate(problem, GREEDY, 1).indices.tolist() == [0, 2, 1]
    weak = SlateProblem(np.array([1.0, 0.9, 0.5]), 3, diversity=Diversity(signatures, 0.3))
    assert draw_slate(weak, GREEDY, 1).indices.tolist() == [0, 1, 2]


@pytest.mark.parametrize("weight", [-0.1, np.inf, np.nan])
def test_a_wrong_weight_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="weight is"):
        Diversity(np.zeros(2, np.uint64), weight)
