"""Trends of groups: exact while they fit, bounded for ever, mixed with everybody by what they have."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models import segment_trends
from online_models.segment_trends import ENOUGH, RANKED_FOR_MS, SegmentTrends

HOUR = 3_600_000
NOW = 1_750_000_000_000


def told(taken: Any, trends: Any = None) -> Any:
    """Return trends that were told of (group, item, hours ago)."""
    trends = trends or SegmentTrends(3600.0)
    for group, item, ago in taken:
        trends.add([group], item, NOW - ago * HOUR)
    return trends


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 6)), min_size=1))
def test_each_group_ranks_by_its_own_decayed_counts(taken: Any) -> None:
    trends, counts = told(taken), defaultdict[tuple[str, int], float](float)
    for group, item, ago in taken:
        counts[group, item] += 2.0**-ago
    for group in "ab":
        own = {item: count for (name, item), count in counts.items() if name == group}
        assert trends.mass(group, NOW) == pytest.approx(sum(own.values()))
        assert trends.mass(group, NOW + HOUR) == pytest.approx(sum(own.values()) / 2)
        rows = trends.top_rows(group, NOW, 5).tolist()
        assert [own[row] for row in rows] == pytest.approx(sorted(own.values(), reverse=True)[:5])


def test_a_group_with_little_says_what_everybody_does_and_one_with_much_what_it_does() -> None:
    rows, overall = np.array([1, 2, 3]), np.array([1.0, 0.5, 0.0])
    trends = told([("tv", 3, 0)])
    np.testing.assert_allclose(trends.shares(["tv"], rows, NOW, overall), overall, atol=0.05)
    assert not trends.has_enough("tv", NOW)
    told([("tv", 3, 0)] * 999, trends)
    later = NOW + RANKED_FOR_MS
    np.testing.assert_allclose(trends.shares(["tv"], rows, later, overall), [0.0, 0.0, 1.0], atol=0.06)
    assert trends.has_enough("tv", NOW)
    assert not trends.has_enough("tv", NOW + 20 * HOUR)
    half = told([("pc", 3, 0)] * int(ENOUGH)).shares(["pc"], rows, NOW, overall)
    np.testing.assert_allclose(half, [0.5, 0.25, 0.5], rtol=1e-6)


def test_groups_are_averaged_and_unknown_ones_say_what_everybody_does() -> None:
    rows, overall = np.array([1, 2]), np.array([1.0, 0.0])
    trends = told([("tv", 2, 0)] * int(ENOUGH))
    alone = trends.shares(["tv"], rows, NOW, overall)
    np.testing.assert_allclose(trends.shares(["tv", "de"], rows, NOW, overall), (alone + overall) / 2)
    np.testing.assert_array_equal(trends.shares([], rows, NOW, overall), overall)
    assert trends.top_rows("de", NOW, 3).tolist() == []


def test_memory_is_bounded_and_the_most_popular_stay(monkeypatch: Any) -> None:
    monkeypatch.setattr(segment_trends, "MOST_ITEMS", 100)
    monkeypatch.setattr(segment_trends, "MOST_GROUPS", 3)
    trends, rng = SegmentTrends(3600.0), np.random.default_rng(1)
    for n in range(3000):
        trends.add(["tv"], int(rng.integers(5)) if n % 2 else 10 + n, NOW + n)
    assert set(trends.top_rows("tv", NOW, 5).tolist()) == set(range(5))
    assert len(trends._groups["tv"]._slots) == 100
    for name in ("de", "fr", "it", "es"):
        trends.add([name], 1, NOW)
    assert len(trends._groups) == 3
    assert "tv" in trends._groups


def test_what_lies_years_apart_stays_finite() -> None:
    trends = SegmentTrends(60.0)
    trends.add(["tv"], 1, 0)
    trends.add(["tv"], 2, NOW)
    assert trends.top_rows("tv", NOW, 2).tolist() == [2, 1]
    assert np.isfinite(trends.shares(["tv"], np.arange(4), NOW, np.zeros(4))).all()
    assert 0.0 <= trends.mass("tv", 0) < np.inf


def test_a_half_life_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="half_life_s is 0"):
        SegmentTrends(0)
