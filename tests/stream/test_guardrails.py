"""Guardrails: what breaks one, what never does, and the event that ends a version."""

import numpy as np
import pytest

from bandits.guardrails import Sums, is_above, is_worse
from state.exploration import Explorations, Guardrail
from state.exploring import Tried
from stream.guardrails import CHANGED_BY, Evidence, broken, ending
from tests.stream.folding import AT


def tried(n: int, mean: float, *, fallback: int = 0) -> Tried:
    """Return a version whose decisions, and whose n explored slots, earned 1 with this chance."""
    total = n * mean
    return Tried(n, fallback, n, total, total, n, total, total, AT, AT)


def guard(metric: str, worse_by: float) -> Guardrail:
    return Guardrail(metric=metric, worse_by=worse_by)  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ["reward", "explored_reward"])
def test_a_version_that_earns_surely_less_than_the_one_before_breaks_its_guardrail(metric: str) -> None:
    before = tried(20_000, 0.10)
    assert broken(guard(metric, 0.1), Evidence(tried(20_000, 0.05), before, 0.0))
    assert not broken(guard(metric, 0.6), Evidence(tried(20_000, 0.05), before, 0.0))
    assert not broken(guard(metric, 0.1), Evidence(tried(20_000, 0.10), before, 0.0))
    assert not broken(guard(metric, 0.1), Evidence(tried(40, 0.0), before, 0.0))
    assert not broken(guard(metric, 0.1), Evidence(Tried(), Tried(), 0.0))


def test_fallbacks_and_cost_break_theirs_above_what_is_allowed() -> None:
    assert broken(guard("fallback", 0.1), Evidence(tried(1_000, 0.1, fallback=300), Tried(), 0.0))
    assert not broken(guard("fallback", 0.1), Evidence(tried(1_000, 0.1, fallback=101), Tried(), 0.0))
    assert not broken(guard("fallback", 0.1), Evidence(Tried(), Tried(), 0.0))
    assert broken(guard("cost", 5.0), Evidence(Tried(), Tried(), 5.1))
    assert not broken(guard("cost", 5.0), Evidence(Tried(), Tried(), 4.9))


def test_a_broken_guardrail_restores_the_version_before_and_says_why() -> None:
    document = Explorations(version=7, follows=4, guardrails=[guard("cost", 1.0)])
    event = ending("exploration/home", document, Evidence(Tried(), Tried(), 2.0), before=4, at_ms=AT)
    assert event is not None
    assert (event.expects, event.restores, event.changed_by) == (7, 4, CHANGED_BY)
    assert event.why == "cost: exploration cost 2 rewards in an hour"
    assert ending("exploration/home", document, Evidence(Tried(), Tried(), 1.0), before=4, at_ms=AT) is None


def test_a_version_that_is_no_worse_is_rarely_ended_however_often_one_looks() -> None:
    rng, ended, runs = np.random.default_rng(3), 0, 200
    before = Sums(5_000, 500, 500)
    for _ in range(runs):
        earned = np.cumsum(rng.random(5_000) < 0.1)
        looks = range(50, 5_001, 50)
        ended += any(is_worse(Sums(n, earned[n - 1], earned[n - 1]), before, 0.0, 0.05) for n in looks)
    assert ended <= 0.05 * runs


def test_a_version_that_loses_a_third_is_ended_within_some_thousand_decisions() -> None:
    rng, before = np.random.default_rng(4), Sums(20_000, 2_000, 2_000)
    earned = np.cumsum(rng.random(20_000) < 0.066)
    stops = [
        n for n in range(50, 20_001, 50) if is_worse(Sums(n, earned[n - 1], earned[n - 1]), before, 0.0, 0.05)
    ]
    assert stops
    assert stops[0] < 10_000


def test_a_share_is_told_to_be_above_only_when_it_surely_is() -> None:
    assert not is_above(10, 49, 0.1, 0.05)
    assert is_above(100, 200, 0.1, 0.05)
