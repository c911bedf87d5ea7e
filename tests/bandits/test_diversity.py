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


def test_an_item_is_fully_like_itself_and_one_without_a_vector_like_nobody() -> None:
    vectors = np.array([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0], [0.0, 0.0]])
    ids = np.array([0, 0, 0x5555555555555555, 0xAAAAAAAAAAAAAAAA], np.uint64)
    penalties = Diversity(signatures_of(vectors, ids), 2.0).penalties(np.array([0]))
    assert penalties[:2].tolist() == [2.0, 2.0]
    assert Diversity(signatures_of(vectors, ids), 2.0).penalties(np.array([2]))[3] == 0.0


def test_the_likest_of_those_placed_counts() -> None:
    diversity = Diversity(np.array([0, 1, 2**64 - 1], np.uint64), 1.0)
    alone, both = diversity.penalties(np.array([2])), diversity.penalties(np.array([2, 0]))
    assert alone.tolist() == [0.0, 0.0, 1.0]
    assert both[0] == both[2] == 1.0
    assert 0.99 < both[1] < 1.0


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
