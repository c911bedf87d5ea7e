"""Placement marginals and pseudo-inverse weights against enumeration of all slates."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandits.arrays import FloatArray, IntArray
from bandits.exploration import Exploration
from bandits.ope import SlateEvaluation, SlateRounds
from bandits.ope.marginals import placement_marginals
from bandits.ope.pseudo_inverse import SlateLaw, enumerate_slates, independent_weights
from bandits.slates import SlateProblem, draw_slate, slate_propensities, slot_distribution

SCORES = np.array([0.9, 0.4, 0.0, -0.5, 0.2])
PROBLEM = SlateProblem(SCORES, 3)
LOGGING = Exploration(scheme="softmax", rate=0.2, temperature=1.0)
TARGET = Exploration(scheme="softmax", rate=0.0, temperature=0.4)
WORTH = np.random.default_rng(3).uniform(0.0, 0.6, (3, 5))


def law_of(exploration: Exploration) -> SlateLaw:
    return enumerate_slates(lambda prefix: slot_distribution(PROBLEM, prefix, exploration), 5, 3)


def by_enumeration(log_weights: FloatArray, slots: int) -> FloatArray:
    out = np.zeros((len(log_weights), slots))
    for order in permutations(range(len(log_weights)), slots):
        left, chance = np.exp(log_weights - log_weights.max()), 1.0
        for index in order:
            chance *= left[index] / left.sum()
            left[index] = 0.0
        out[list(order), np.arange(slots)] += chance
    return out


@given(
    logs=st.lists(st.floats(-8.0, 8.0), min_size=1, max_size=6),
    slots=st.integers(1, 4),
)
def test_placement_marginals_are_those_of_all_orders(logs: list[float], slots: int) -> None:
    weights, slots = np.array(logs), min(slots, len(logs))
    np.testing.assert_allclose(
        placement_marginals(weights, slots), by_enumeration(weights, slots), atol=1e-12
    )


def test_the_first_place_is_the_softmax_and_every_place_is_taken_once_however_many_candidates() -> None:
    weights = np.random.default_rng(1).normal(0.0, 4.0, 200)
    marginals = placement_marginals(weights, 10)
    softmax = np.exp(weights - weights.max())
    np.testing.assert_allclose(marginals[:, 0], softmax / softmax.sum(), atol=1e-13)
    np.testing.assert_allclose(marginals.sum(axis=0), 1.0, atol=1e-12)
    assert (marginals >= 0).all()
    assert (marginals.sum(axis=1) <= 1 + 1e-12).all()


def test_marginals_of_wrong_input_are_refused() -> None:
    with pytest.raises(ValueError, match="slots is 3, wanted a number in"):
        placement_marginals(np.zeros(2), 3)
    with pytest.raises(ValueError, match=r"log_weights\[1\] is nan"):
        placement_marginals(np.array([0.0, np.nan]), 1)
    assert placement_marginals(np.zeros(3), 0).shape == (3, 0)


def test_an_enumerated_law_has_the_propensities_of_the_slates_it_draws() -> None:
    law = law_of(LOGGING)
    assert law.propensities.sum() == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(
        law.propensities, [slate_propensities(PROBLEM, one, LOGGING).prod() for one in law.slates], rtol=1e-12
    )
    pure = law_of(TARGET)
    np.testing.assert_allclose(pure.marginals().T, placement_marginals(SCORES / 0.4, 3), atol=1e-12)


@pytest.mark.parametrize(
    ("slates", "message"),
    [
        ([[0, 1, 2], [5, 1, 2]], r"slates\[1\]\[0\] is 5, wanted a candidate in \[0, 5\)"),
        ([[0, -1, 2]], r"slates\[0\]\[1\] is -1"),
        ([[0, 1]], r"slates has shape \(1, 2\), wanted \(n, 3\)"),
        ([0, 1, 2], r"slates has shape \(3,\), wanted \(n, 3\)"),
    ],
)
def test_slates_that_the_law_cannot_draw_are_refused_by_place(slates: list[Any], message: str) -> None:
    law = law_of(LOGGING)
    with pytest.raises(ValueError, match=message):
        law.weights(law.marginals(), np.array(slates))


def test_marginals_of_another_shape_are_refused() -> None:
    law = law_of(LOGGING)
    with pytest.raises(ValueError, match=r"target has shape \(5, 3\), wanted \(3, 5\)"):
        law.weights(law.marginals().T, law.slates)


def test_pseudo_inverse_weights_are_unbiased_for_every_sum_over_slots() -> None:
    law, target = law_of(LOGGING), law_of(TARGET).marginals()
    weights = law.weights(target, law.slates)
    worth = WORTH[np.arange(3), law.slates].sum(axis=1)
    assert float(law.propensities @ (weights * worth)) == pytest.approx(
        float((target * WORTH).sum()), abs=1e-9
    )
    assert float(law.propensities @ weights) == pytest.approx(1.0, abs=1e-9)


def logged(n: int, seed: int) -> tuple[IntArray, FloatArray]:
    rng = np.random.default_rng(seed)
    slates = np.array([draw_slate(PROBLEM, LOGGING, int(s)).indices for s in rng.integers(0, 2**62, n)])
    return slates, (rng.random((n, 3)) < WORTH[np.arange(3), slates]).astype(np.float64)


def test_the_pseudo_inverse_finds_the_truth_with_less_spread_than_ratios_of_whole_slates() -> None:
    law, target = law_of(LOGGING), law_of(TARGET)
    slates, rewards = logged(8000, 5)
    propensities = {
        name: {tuple(s.tolist()): slate_propensities(PROBLEM, s, e) for s in law.slates}
        for name, e in (("logged", LOGGING), ("target", TARGET))
    }
    keys = [tuple(slate.tolist()) for slate in slates]
    evaluation = SlateEvaluation(3)
    evaluation.add(
        SlateRounds(
            rewards,
            np.array([propensities["logged"][key] for key in keys]),
            np.array([propensities["target"][key] for key in keys]),
            pseudo_inverse=law.weights(target.marginals(), slates),
        )
    )
    truth = float((target.marginals() * WORTH).sum())
    estimates = evaluation.estimates()
    for name in ("pi", "snpi"):
        assert abs(estimates[name].value - truth) < 4 * estimates[name].standard_error
    assert estimates["pi"].standard_error < estimates["sips"].standard_error
    assert abs(rewards.sum(axis=1).mean() - truth) > 4 * estimates["snpi"].standard_error


def test_placements_never_logged_and_too_many_orders_are_refused() -> None:
    narrow = SlateLaw(np.array([[0, 1, 2]]), np.ones(1), 5)
    with pytest.raises(ValueError, match="placements that were never logged"):
        narrow.weights(law_of(TARGET).marginals(), narrow.slates)
    with pytest.raises(ValueError, match="100 candidates on 5 slots have"):
        enumerate_slates(lambda _: np.full(100, 0.01), 100, 5)


def test_independent_slots_need_no_matrix() -> None:
    ratios = np.array([[2.0, 0.5], [1.0, 1.0]])
    np.testing.assert_allclose(independent_weights(ratios), [1.5, 1.0])
    logging, target = np.array([[0.5, 0.5], [0.2, 0.8]]), np.array([[0.9, 0.1], [0.6, 0.4]])
    slates = np.array([[a, b] for a in range(2) for b in range(2)])
    law = SlateLaw(slates, logging[0, slates[:, 0]] * logging[1, slates[:, 1]], 2)
    ratio = target[np.arange(2), slates] / logging[np.arange(2), slates]
    np.testing.assert_allclose(law.weights(target, slates), independent_weights(ratio), atol=1e-9)
