import numpy as np
import pytest

from bandits.arrays import FloatArray
from bandits.exploration import Exploration
from bandits.many import draw_many
from bandits.slates import CategoryCap, SlateProblem, draw_slate
from tests.bandits.schemes import SCHEMES, name_of

SCORES = np.array([0.3, 0.0, 0.9, -0.4, 0.2])


@pytest.mark.parametrize("exploration", SCHEMES, ids=name_of)
@pytest.mark.parametrize("size", [0, 1, 3, 9])
@pytest.mark.parametrize("weights", [None, np.array([0.0, 5.0, 1.0, 2.0, 2.0])], ids=["uniform", "weighted"])
def test_many_slates_are_those_drawn_one_after_the_other(
    exploration: Exploration, size: int, weights: FloatArray | None
) -> None:
    problem, seeds = SlateProblem(SCORES, size, weights), [7919 * n for n in range(60)]
    one_by_one = [draw_slate(problem, exploration, seed).indices for seed in seeds]
    np.testing.assert_array_equal(draw_many(problem, exploration, seeds), one_by_one)


def test_slates_with_rules_are_drawn_alike() -> None:
    problem = SlateProblem(SCORES, 2, rule=CategoryCap(np.array([0, 0, 1, 1, -1]), 1))
    drawn = draw_many(problem, Exploration(), range(20))
    np.testing.assert_array_equal(drawn, [draw_slate(problem, Exploration(), n).indices for n in range(20)])


def test_no_seeds_are_no_slates() -> None:
    assert draw_many(SlateProblem(SCORES, 3), Exploration(), []).shape == (0, 3)
