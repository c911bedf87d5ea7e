import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.exploration import Exploration
from bandits.slates import SlateProblem, draw_slate, slate_propensities

SCORES = np.array([0.3, 0.0, 0.9, -0.4, 0.2, 0.1])


def single(rate: float, floor: float = 0.0, scheme: str = "softmax") -> Exploration:
    return Exploration(scheme=scheme, rate=rate, temperature=0.5, floor=floor, mode="single_slot")  # type: ignore[arg-type]


@given(
    seed=st.integers(0, 2**63 - 1),
    rate=st.floats(0.01, 0.99),
    other=st.floats(0.0, 1.0),
    size=st.integers(1, 6),
    scheme=st.sampled_from(["epsilon", "softmax", "squarecb"]),
)
@settings(max_examples=60)
def test_the_weight_of_a_slate_under_another_rate_is_bounded_by_the_odds_of_the_coin(
    seed: int, rate: float, other: float, size: int, scheme: str
) -> None:
    problem = SlateProblem(SCORES, size)
    slate = draw_slate(problem, single(rate, scheme=scheme), seed)
    wished = slate_propensities(problem, slate.indices, single(other, scheme=scheme))
    weight = float(np.prod(wished / slate.propensities))
    assert weight <= max(other / rate, (1.0 - other) / (1.0 - rate)) * (1 + 1e-9)


@given(rate=st.floats(0.05, 0.95), other=st.floats(0.0, 1.0), seed=st.integers(0, 2**32))
@settings(max_examples=60)
def test_the_probability_of_a_slate_is_linear_in_the_rate(rate: float, other: float, seed: int) -> None:
    """What a preview of another rate rests on."""
    problem = SlateProblem(SCORES, 4)
    slate = draw_slate(problem, single(0.5), seed).indices
    probability = [float(np.prod(slate_propensities(problem, slate, single(r)))) for r in (0.0, 1.0, rate)]
    assert probability[2] == pytest.approx((1 - rate) * probability[0] + rate * probability[1], rel=1e-9)


@pytest.mark.parametrize("size", [1, 3, 6])
def test_at_most_one_slot_explores_and_each_is_as_likely(size: int) -> None:
    problem, n = SlateProblem(SCORES, size), 4000
    explored = np.array([draw_slate(problem, single(0.6), 31 * seed).explored for seed in range(n)])
    assert (explored.sum(axis=1) <= 1).all()
    wished = 0.6 / size
    assert (abs(explored.mean(axis=0) - wished) < 4.5 * np.sqrt(wished * (1 - wished) / n)).all()


def test_the_floor_is_what_exploration_gives_every_candidate_at_every_slot() -> None:
    problem, law = SlateProblem(SCORES, 3, explore_weights=np.eye(6)[0]), single(0.0, 0.01, "epsilon")
    never = SlateProblem(SCORES, 1)
    assert slate_propensities(problem, np.array([3]), law)[0] >= 0.01
    assert slate_propensities(problem, np.array([2, 3]), law).prod() >= 0.01
    assert slate_propensities(never, np.array([3]), single(0.0, 0.0, "epsilon"))[0] == 0.0


def test_after_a_slot_that_only_exploration_could_fill_the_rest_follows_the_scheme() -> None:
    """Greedy but for the coin: once the worst has come first, no coin is left."""
    found = slate_propensities(SlateProblem(SCORES, 3), np.array([3, 2, 0]), single(0.3, scheme="epsilon"))
    np.testing.assert_allclose(found, [0.3 / 3 / 6, 1.0, 1.0], rtol=1e-12)


def test_what_cannot_be_has_propensity_zero_and_what_follows_it_is_the_scheme_s() -> None:
    found = slate_propensities(SlateProblem(SCORES, 3), np.array([3, 2, 0]), single(0.0, scheme="epsilon"))
    np.testing.assert_allclose(found, [0.0, 1.0, 1.0])


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="mode is 'sometimes', wanted one of every_slot, single_slot"):
        Exploration(mode="sometimes")  # type: ignore[arg-type]
