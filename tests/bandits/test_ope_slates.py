"""Slate estimators against truths found by going through all slates, on logs that `draw_slate` made."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from bandits.arrays import FloatArray, IntArray
from bandits.exploration import Exploration
from bandits.ope import Gates, SlateEvaluation, SlateRounds
from bandits.slates import SlateProblem, draw_slate, slate_propensities

SCORES = np.array([0.9, 0.4, 0.0, -0.5])
APPEAL = np.array([0.2, 0.5, 0.3, 0.7])
PROBLEM = SlateProblem(SCORES, 3)
LOGGING = Exploration(scheme="softmax", rate=0.1, temperature=1.0)
TARGET = Exploration(scheme="softmax", rate=0.0, temperature=0.5)
SLATES = [np.array(slate) for slate in permutations(range(4), 3)]
CHANCES = {
    name: np.array([slate_propensities(PROBLEM, s, e).prod() for s in SLATES])
    for name, e in (("logging", LOGGING), ("target", TARGET))
}


def clicks(slate: IntArray, *, cascade: bool) -> FloatArray:
    """Expected rewards by position: seen less far down, and with a cascade less after attractive items."""
    seen, out = 1.0, np.zeros(len(slate))
    for j, index in enumerate(slate):
        out[j] = seen * APPEAL[index]
        seen *= 0.9 * (1.0 - 0.8 * APPEAL[index]) if cascade else 0.7
    return out


def truth(*, cascade: bool, under: str = "target") -> float:
    return float(
        sum(p * clicks(s, cascade=cascade).sum() for p, s in zip(CHANCES[under], SLATES, strict=True))
    )


def marginals(name: str) -> FloatArray:
    """Chance of each item at each position, (4, 3)."""
    out = np.zeros((4, 3))
    for p, slate in zip(CHANCES[name], SLATES, strict=True):
        out[slate, np.arange(3)] += p
    return out


def to_go(prefix: tuple[int, ...], *, cascade: bool) -> float:
    """Expected rewards after a prefix when the target draws the rest."""
    weights, total = 0.0, 0.0
    for p, slate in zip(CHANCES["target"], SLATES, strict=True):
        if tuple(slate[: len(prefix)].tolist()) == prefix:
            weights += p
            total += p * clicks(slate, cascade=cascade)[len(prefix) :].sum()
    return total / weights


def log(n: int, seed: int, *, cascade: bool) -> SlateRounds:
    rng = np.random.default_rng(seed)
    drawn = [draw_slate(PROBLEM, LOGGING, int(s)) for s in rng.integers(0, 2**62, n)]
    indices = np.array([slate.indices for slate in drawn])
    expected = {tuple(s.tolist()): clicks(s, cascade=cascade) for s in SLATES}
    targets = {tuple(s.tolist()): slate_propensities(PROBLEM, s, TARGET) for s in SLATES}
    keys = [tuple(row.tolist()) for row in indices]
    ratios = marginals("target") / marginals("logging")
    model = {
        key: (
            [expected[key][j] + (to_go(key[: j + 1], cascade=cascade) if j < 2 else 0.0) for j in range(3)],
            [to_go(key[:j], cascade=cascade) for j in range(3)],
        )
        for key in expected
    }
    return SlateRounds(
        rewards=(rng.random((n, 3)) < np.array([expected[key] for key in keys])).astype(np.float64),
        logged=np.array([slate.propensities for slate in drawn]),
        target=np.array([targets[key] for key in keys]),
        marginal_ratios=ratios[indices, np.arange(3)],
        predicted=np.array([model[key][0] for key in keys]),
        baseline=np.array([model[key][1] for key in keys]),
    )


def evaluated(rounds: SlateRounds) -> SlateEvaluation:
    evaluation = SlateEvaluation(3)
    evaluation.add(rounds)
    return evaluation


@pytest.mark.parametrize("cascade", [False, True])
def test_every_estimator_finds_the_truth_where_its_assumption_holds(cascade: bool) -> None:
    estimates = evaluated(log(12_000, 1, cascade=cascade)).estimates()
    wished = truth(cascade=cascade)
    names = ["sips", "snsips", "rips", "snrips", "cascade_dr", *([] if cascade else ["iips", "sniips"])]
    for name in names:
        assert abs(estimates[name].value - wished) < 4 * estimates[name].standard_error, name
        assert estimates[name].standard_error < 0.03
    low, high = estimates["cascade_dr"].normal()
    assert not low <= truth(cascade=cascade, under="logging") <= high


def test_assuming_less_dependence_than_there_is_costs_bias_and_more_costs_spread() -> None:
    estimates = evaluated(log(12_000, 2, cascade=True)).estimates()
    ratios = marginals("target") / marginals("logging")
    settles_at = sum(
        p * (ratios[slate, np.arange(3)] * clicks(slate, cascade=True)).sum()
        for p, slate in zip(CHANCES["logging"], SLATES, strict=True)
    )
    assert abs(settles_at - truth(cascade=True)) > 0.015
    assert abs(estimates["iips"].value - settles_at) < 4 * estimates["iips"].standard_error
    assert estimates["rips"].standard_error < estimates["sips"].standard_error
    assert estimates["cascade_dr"].standard_error < estimates["rips"].standard_error


def test_standard_errors_are_the_spread_over_repeated_logs() -> None:
    whole = log(16_000, 3, cascade=True)
    fields = ("rewards", "logged", "target", "marginal_ratios", "predicted", "baseline")
    runs = []
    for start in range(0, 16_000, 200):
        part = SlateRounds(**{name: getattr(whole, name)[start : start + 200] for name in fields})
        runs.append(evaluated(part).estimates())
    for name in runs[0]:
        spread = float(np.std([run[name].value for run in runs]))
        assert float(np.mean([run[name].standard_error for run in runs])) == pytest.approx(spread, rel=0.35)


def test_without_model_the_cascade_is_rips_and_without_marginals_there_is_no_iips() -> None:
    rounds = replace(log(500, 4, cascade=True), marginal_ratios=None, predicted=None, baseline=None)
    estimates = evaluated(rounds).estimates()
    assert estimates["cascade_dr"].value == pytest.approx(estimates["rips"].value, rel=1e-12)
    assert "iips" not in estimates


def test_a_slate_of_one_slot_is_a_single_choice() -> None:
    whole = log(800, 5, cascade=False)
    rounds = SlateRounds(whole.rewards[:, :1], whole.logged[:, :1], whole.target[:, :1])
    evaluation = SlateEvaluation(1)
    evaluation.add(rounds)
    estimates = evaluation.estimates()
    w = rounds.target[:, 0] / rounds.logged[:, 0]
    assert estimates["sips"].value == pytest.approx(float((w * rounds.rewards[:, 0]).mean()), rel=1e-12)
    assert estimates["snrips"].value == pytest.approx(
        float(np.average(rounds.rewards[:, 0], weights=w)), rel=1e-12
    )
    assert estimates["sips"].value == pytest.approx(estimates["rips"].value, rel=1e-12)


def test_logs_that_cannot_tell_are_refused_whole() -> None:
    few = evaluated(log(40, 6, cascade=True)).report()
    assert not few.is_decidable
    assert not few.estimates
    enough = evaluated(log(4000, 6, cascade=True)).report()
    assert enough.is_decidable, enough.reasons
    assert "snrips" in enough.estimates
    strict = SlateEvaluation(3, Gates(least_effective=1e9))
    strict.add(log(100, 6, cascade=True))
    assert not strict.report().is_decidable


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": np.ones(2)}, r"rewards has shape \(2,\), wanted \(n, k\)"),
        ({"logged": np.array([[0.5, 0.0, 1.0]] * 2)}, r"logged\[0, 1\] is 0.0"),
        ({"target": np.full((2, 3), 1.5)}, r"target\[0, 0\] is 1.5"),
        ({"marginal_ratios": np.full((2, 3), -1.0)}, r"marginal_ratios\[0, 0\] is -1.0"),
        ({"predicted": np.ones((2, 3))}, "one of predicted and baseline is None"),
    ],
)
def test_wrong_slates_are_refused_by_field_and_place(change: dict[str, Any], message: str) -> None:
    half = np.full((2, 3), 0.5)
    with pytest.raises(ValueError, match=message):
        replace(SlateRounds(half, half, half), **change)


def test_slates_of_another_size_are_refused() -> None:
    half = np.full((2, 3), 0.5)
    with pytest.raises(ValueError, match="rewards has 3 positions, wanted 2"):
        SlateEvaluation(2).add(SlateRounds(half, half, half))
