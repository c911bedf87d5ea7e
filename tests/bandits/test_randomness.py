import numpy as np
import pytest
from scipy import stats

from bandits.randomness import decision_seed, uniforms


def test_numbers_are_those_published_for_splitmix64() -> None:
    """The first outputs of the reference generator from seed 1234567, top 52 bits."""
    published = np.array([6457827717110365317, 3203168211198807973, 9817491932198370423], np.uint64)
    expected = ((published >> np.uint64(12)).astype(np.float64) + 0.5) / 2.0**52
    np.testing.assert_array_equal(uniforms(1234567, 3), expected)


def test_numbers_are_uniform_and_neighbouring_seeds_are_unrelated() -> None:
    table = np.array([uniforms(seed, 50) for seed in range(4000)])
    assert stats.kstest(table.ravel(), "uniform").pvalue > 1e-3
    correlation = np.corrcoef(table[:-1, 0], table[1:, 0])[0, 1]
    assert abs(correlation) < 4 / np.sqrt(len(table))


@pytest.mark.parametrize("seed", [0, 2**63 - 1, 2**64 - 1])
def test_both_ends_are_left_out(seed: int) -> None:
    numbers = uniforms(seed, 10_000)
    assert numbers.min() > 0.0
    assert numbers.max() < 1.0


def test_a_seed_depends_on_id_and_salt_and_not_on_where_one_ends() -> None:
    seeds = {
        decision_seed("ab", "c"),
        decision_seed("a", "bc"),
        decision_seed("ab", ""),
        decision_seed("a|b", "c"),
    }
    assert len(seeds) == 4
    assert decision_seed("ab", "c") == decision_seed("ab", "c")
    assert all(0 <= seed < 2**63 for seed in seeds)
