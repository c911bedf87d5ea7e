from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.arrays import FloatArray
from bandits.ope import Diagnostics, Estimate, Evaluation, Gates, Rounds, Tuning
from bandits.ope.estimators import FORMULAS
from bandits.ope.moments import Formula, Moments

UNBIASED = ("ips", "snips", "dr", "sndr")


class Logged:
    """Ten kinds of requests, five candidates, known rewards; a model that is wrong by a known bias."""

    def __init__(self, seed: int, sharpness: float = 1.0, model_bias: float = 0.1) -> None:
        rng = np.random.default_rng(seed)
        self.rewards = rng.uniform(0.05, 0.6, (10, 5))
        self.model = np.clip(self.rewards + model_bias + rng.normal(0, 0.05, (10, 5)), 0, 1)
        self.logging = _softmax(rng.normal(0, sharpness, (10, 5)))
        self.target = _softmax(rng.normal(0, sharpness, (10, 5)))
        self.truth = float((self.target * self.rewards).sum(axis=1).mean())
        self.on_policy = float((self.logging * self.rewards).sum(axis=1).mean())

    def rounds(self, n: int, seed: int) -> Rounds:
        rng = np.random.default_rng(seed)
        x = rng.integers(0, 10, n)
        a = (rng.random((n, 1)) > self.logging[x].cumsum(axis=1)).sum(axis=1).clip(max=4)
        rewards = (rng.random(n) < self.rewards[x, a]).astype(np.float64)
        dm = (self.target * self.model).sum(axis=1)[x]
        return Rounds(rewards, self.logging[x, a], self.target[x, a], self.model[x, a], dm)


def _softmax(logits: FloatArray) -> FloatArray:
    weights = np.exp(logits)
    out: FloatArray = weights / weights.sum(axis=1, keepdims=True)
    return out


def evaluated(rounds: Rounds, **settings: Any) -> Evaluation:
    evaluation = Evaluation(**settings)
    evaluation.add(rounds)
    return evaluation


def test_estimators_find_the_truth_where_the_logged_average_and_the_model_do_not() -> None:
    logged = Logged(1)
    estimates = evaluated(logged.rounds(40_000, 2)).estimates()
    for name in UNBIASED:
        assert abs(estimates[name].value - logged.truth) < 4 * estimates[name].standard_error
        assert estimates[name].standard_error < 0.01
    assert abs(logged.on_policy - logged.truth) > 0.02
    assert abs(estimates["dm"].value - logged.truth) > 0.08


def test_a_model_makes_doubly_robust_estimates_narrower_than_weights_alone() -> None:
    estimates = evaluated(Logged(1, model_bias=0.0).rounds(20_000, 3)).estimates()
    assert estimates["dr"].standard_error < 0.9 * estimates["ips"].standard_error


@pytest.mark.parametrize("name", [*UNBIASED, "switch", "dros", "cips", "dm"])
def test_standard_errors_are_the_spread_over_repeated_logs(name: str) -> None:
    logged = Logged(4)
    runs = [evaluated(logged.rounds(2000, seed)).estimates()[name] for seed in range(150)]
    spread = float(np.std([run.value for run in runs]))
    assert float(np.mean([run.standard_error for run in runs])) == pytest.approx(spread, rel=0.2)


def test_intervals_cover_as_often_as_they_say() -> None:
    logged, n, runs = Logged(5), 2000, 200
    covered = dict.fromkeys(("normal", "bootstrap", "bernstein", "sequence"), 0)
    largest = float((1.0 / logged.logging).max())
    span = Tuning().span("dr", largest)
    for seed in range(runs):
        one = evaluated(logged.rounds(n, seed), replicates=100, seed=seed).estimates()["dr"]
        for name, (low, high) in {
            "normal": one.normal(),
            "bootstrap": one.bootstrap(),
            "bernstein": one.empirical_bernstein(span),
            "sequence": one.confidence_sequence(tuned_at=n),
        }.items():
            covered[name] += low <= logged.truth <= high
    assert 0.90 <= covered["normal"] / runs <= 0.99
    assert 0.88 <= covered["bootstrap"] / runs <= 0.99
    assert covered["bernstein"] / runs >= 0.99
    assert covered["sequence"] / runs >= 0.97


def test_peeking_fools_the_normal_interval_and_not_the_confidence_sequence() -> None:
    logged, fooled = Logged(6), {"normal": 0, "sequence": 0}
    for seed in range(80):
        evaluation, missed = Evaluation(), {"normal": False, "sequence": False}
        rounds = logged.rounds(4000, seed)
        for start in range(0, 4000, 100):
            part = slice(start, start + 100)
            evaluation.add(Rounds(*(getattr(rounds, name)[part] for name in FIELDS)))
            one = evaluation.estimates()["snips"]
            for name, (low, high) in {
                "normal": one.normal(),
                "sequence": one.confidence_sequence(tuned_at=2000),
            }.items():
                missed[name] |= not low <= logged.truth <= high
        for name, was in missed.items():
            fooled[name] += was
    assert fooled["normal"] / 80 > 0.15
    assert fooled["sequence"] / 80 <= 0.06


@pytest.mark.parametrize("n", [10, 1000, 100_000])
def test_the_confidence_sequence_ends_where_its_martingale_reaches_one_over_alpha(n: int) -> None:
    """For standard normal noise: exp(rho^2 S^2 / (2 (n rho^2 + 1))) / sqrt(n rho^2 + 1) = 1 / alpha."""
    low, high = Estimate("dr", 0.0, 1.0 / np.sqrt(n), n, np.empty(0)).confidence_sequence(0.9, tuned_at=500)
    rho2 = (-2.0 * np.log(0.1) + np.log(1.0 - 2.0 * np.log(0.1))) / 500
    grown = n * rho2 + 1.0
    assert np.exp(rho2 * (high * n) ** 2 / (2.0 * grown)) / np.sqrt(grown) == pytest.approx(10.0, rel=1e-6)
    assert low == -high


FIELDS = ("rewards", "logged", "target", "predicted", "baseline")


@given(cuts=st.lists(st.integers(0, 500), max_size=6), seed=st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_a_log_in_pieces_is_evaluated_as_the_whole(cuts: list[int], seed: int) -> None:
    rounds, pieces = Logged(seed).rounds(500, seed), Evaluation()
    edges = [0, *sorted(cuts), 500]
    for low, high in pairwise(edges):
        pieces.add(Rounds(*(getattr(rounds, name)[low:high] for name in FIELDS)))
    whole = evaluated(rounds)
    for name, one in whole.estimates().items():
        assert pieces.estimates()[name].value == pytest.approx(one.value, rel=1e-12)
        assert pieces.estimates()[name].standard_error == pytest.approx(one.standard_error, rel=1e-9)
    assert pieces.diagnostics().effective == pytest.approx(whole.diagnostics().effective, rel=1e-9)


@given(
    n=st.integers(0, 40),
    m=st.integers(0, 40),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_moments_of_merged_streams_are_those_of_all_vectors(n: int, m: int, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(scale, scale, (n + m, 3))
    one, other = Moments(3), Moments(3)
    one.add(vectors[:n])
    other.add(vectors[n:])
    one.merge(other)
    assert one.n == n + m
    if n + m > 1:
        np.testing.assert_allclose(one.mean, vectors.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(one.covariance, np.cov(vectors.T), rtol=1e-9, atol=1e-12 * scale**2)


def test_a_ratio_over_nothing_is_zero_and_certain_of_nothing() -> None:
    moments = Moments(2)
    moments.add(np.zeros((5, 2)))
    formula = Formula((), ((0, 1),))
    assert float(formula.value(moments.mean)) == 0.0
    assert formula.standard_error(moments) == np.inf


def test_an_empty_or_single_round_log_tells_nothing_and_does_not_fail() -> None:
    for n in (0, 1):
        report = evaluated(Logged(1).rounds(n, 1), replicates=5).report()
        assert not report.is_decidable
        assert report.estimates["dros"].normal() == (-np.inf, np.inf)
        assert report.estimates["dros"].empirical_bernstein(1.0) == (-np.inf, np.inf)
        assert report.estimates["dros"].confidence_sequence() == (-np.inf, np.inf)


def healthy() -> Diagnostics:
    return Diagnostics(10_000, 5000.0, 8.0, 0.001, 1.0, 0.01, 0.0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"effective": 199.0}, "effective sample size is 199.0, wanted 200"),
        ({"n": 10**6, "effective": 5000.0}, "wanted 10000"),
        ({"largest_share": 0.06}, "one round has 6.0%"),
        ({"mean_weight": 1.1}, "mean weight is 1.1"),
        ({"mean_weight": float("nan")}, "mean weight is nan"),
        ({"unsupported": 0.02}, "2.0% of the target is unsupported"),
    ],
)
def test_each_gate_refuses_with_its_reason(change: dict[str, Any], reason: str) -> None:
    assert Gates().reasons(healthy()) == ()
    reasons = Gates().reasons(replace(healthy(), **change))
    assert len(reasons) == 1
    assert reason in reasons[0]


def test_wrong_propensities_are_noticed_by_the_mean_weight() -> None:
    rounds = Logged(7).rounds(20_000, 1)
    assert evaluated(rounds).report().is_decidable
    report = evaluated(replace(rounds, logged=np.minimum(1.0, rounds.logged * 1.2))).report()
    assert not report.is_decidable
    assert "propensities are wrong" in report.reasons[0]


def test_mass_without_support_is_counted_where_it_is_logged() -> None:
    rounds = Logged(7).rounds(5000, 1)
    report = evaluated(replace(rounds, unsupported=np.full(5000, 0.03))).report()
    assert report.diagnostics.unsupported == pytest.approx(0.03)
    assert set(report.estimates) == {"dros"}


def test_no_estimate_of_the_wrong_sign_is_shown_of_logs_with_little_overlap() -> None:
    """Over 1,000 logs; among what the gates withhold there are estimates below zero."""
    shown, withheld_below_zero = 0, 0
    for seed in range(1000):
        logged = Logged(seed, sharpness=2.5)
        evaluation = evaluated(logged.rounds(3000, seed))
        report = evaluation.report()
        for name, one in evaluation.estimates().items():
            if name in report.estimates:
                shown += name in UNBIASED
                assert one.value > 0
                assert abs(one.value - logged.truth) < 0.5 * logged.truth + 0.1
            else:
                withheld_below_zero += one.value < 0
    assert shown >= 100
    assert withheld_below_zero > 0


def test_replicates_repeat_with_their_seed() -> None:
    rounds = Logged(1).rounds(600, 1)
    one, two, other = (
        evaluated(rounds, replicates=20, seed=s).estimates()["dr"].replicates for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
    assert one.std() == pytest.approx(evaluated(rounds).estimates()["dr"].standard_error, rel=0.6)


@pytest.mark.parametrize("name", ["dm", "ips", "cips", "dr", "switch", "dros"])
def test_values_of_single_rounds_stay_in_the_span_that_bernstein_is_told(name: str) -> None:
    rounds, tuning = Logged(3).rounds(3000, 1), Tuning(clip=3.0, switch=2.0, shrinkage=4.0)
    statistics = tuning.statistics(rounds)
    values = FORMULAS[name].value(statistics)
    assert np.ptp(values) <= tuning.span(name, float((rounds.target / rounds.logged).max()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": np.array([0.0, 1.5])}, r"rewards\[1\] is 1.5, wanted a finite number in \[0, 1\]"),
        ({"logged": np.array([0.5, 0.0])}, r"logged\[1\] is 0.0, wanted a finite number in \(0, 1\]"),
        ({"target": np.array([-0.1, 0.5])}, r"target\[0\] is -0.1"),
        ({"predicted": np.array([np.nan, 0.5])}, r"predicted\[0\] is nan"),
        ({"baseline": np.zeros(3)}, r"baseline has shape \(3,\), wanted \(2,\)"),
        ({"unsupported": np.array([0.0, 2.0])}, r"unsupported\[1\] is 2.0"),
    ],
)
def test_wrong_rounds_are_refused_by_field_and_place(change: dict[str, Any], message: str) -> None:
    half = np.full(2, 0.5)
    with pytest.raises(ValueError, match=message):
        replace(Rounds(half, half, half, half, half), **change)


def test_wrong_settings_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"clip is 0.0"):
        Tuning(clip=0.0)
    with pytest.raises(ValueError, match="name is 'snips'"):
        Tuning().span("snips", 1.0)
    estimate = Estimate("dr", 0.0, 1.0, 10, np.empty(0))
    with pytest.raises(ValueError, match=r"level is 1.0"):
        estimate.normal(1.0)
    with pytest.raises(ValueError, match="replicates is empty"):
        estimate.bootstrap()
