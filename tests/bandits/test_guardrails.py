"""How often harmless versions are ended and harmful ones found, against known truths."""

import numpy as np
import pytest

from bandits.guardrails import Sums, is_above, is_worse

RUNS = 120
LOOKS = range(50, 2001, 25)


def ended(rate: float, before: Sums, worth: float, seed: int = 3) -> float:
    """Return the share of versions ended that earn `worth` at this rate, looked at every 25 rounds."""
    rng, found = np.random.default_rng(seed), 0
    for _ in range(RUNS):
        earned = np.cumsum(rng.random(LOOKS[-1]) < rate)
        sums = (Sums(n, worth * earned[n - 1], worth**2 * earned[n - 1]) for n in LOOKS)
        found += any(is_worse(now, before, 0.0, 0.05) for now in sums)
    return found / RUNS


@pytest.mark.parametrize("worth", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("rate", [0.002, 0.01, 0.02, 0.03, 0.1])
def test_a_version_that_is_no_worse_is_rarely_ended_however_rare_its_rewards(
    rate: float, worth: float
) -> None:
    """The version before is known all but exactly, so that all of the chance lies with the new one."""
    n = 10_000_000
    assert ended(rate, Sums(n, worth * rate * n, worth**2 * rate * n), worth) <= 0.05


def test_a_version_that_loses_half_of_rare_rewards_is_ended() -> None:
    before = Sums(20_000, 2_000, 2_000)
    assert ended(0.04, before, 1.0) > 0.9


@pytest.mark.parametrize(("rewards", "exact"), [(0, 0.071), (1, 0.106), (2, 0.137)])
def test_few_rewards_in_fifty_rounds_leave_at_least_what_the_exact_bound_leaves(
    rewards: int, exact: float
) -> None:
    """Clopper-Pearson's upper bound at .975, of one look."""
    assert Sums(50, rewards, rewards).interval(0.025)[1] > exact


def test_a_share_is_not_above_because_nothing_else_was_seen() -> None:
    assert not is_above(50, 50, 0.95, 0.05)
    assert is_above(2_000, 2_000, 0.9, 0.05)
