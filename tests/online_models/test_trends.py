from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models.trends import MAX_ROWS, Trends

HOUR = 3_600_000
NOW = 1_790_000_000_000

events = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.integers(0, 200 * HOUR),
        st.floats(0.1, 5.0),
        st.sampled_from([(), 0, (1,), (0, 1)]),
    ),
    max_size=80,
)


def fed(stream: Any, half_lives: Any = (3600.0, 86_400.0)) -> Any:
    trends = Trends(half_lives)
    for item, at, weight, group in stream:
        trends.add(item, NOW + at, weight, group)
    return trends


def plain_count(stream: Any, item: Any, now_ms: Any, half_life_s: Any, group: Any = None) -> Any:
    total = 0.0
    for other, at, weight, groups in stream:
        held = (groups,) if isinstance(groups, int) else groups
        if other == item and (group is None or group in held):
            total += weight * 2.0 ** (-(now_ms - NOW - at) / (half_life_s * 1000))
    return total


@settings(max_examples=100, deadline=None)
@given(events, st.sampled_from([None, 0, 1]))
def test_counts_decay_as_the_formula_says_in_any_order_of_arrival(stream: Any, group: Any) -> None:
    now = NOW + 210 * HOUR
    got = fed(stream).scores(np.arange(14), now, group)
    wish = [[plain_count(stream, i, now, h, group) for h in (3600.0, 86_400.0)] for i in range(14)]
    np.testing.assert_allclose(got, np.array(wish), rtol=1e-8)


@settings(max_examples=100, deadline=None)
@given(events, events, st.integers(1, 6), st.sampled_from([None, 1]))
def test_top_is_the_sorted_counts_after_every_kind_of_change(
    first: Any, second: Any, limit: Any, group: Any
) -> None:
    trends = fed(first)
    trends.top(0, NOW, limit, group)
    for item, at, weight, groups in second:
        trends.add(item, NOW + at, weight, groups)
    rows, scores = trends.top(0, NOW + 300 * HOUR, limit, group)
    every = trends.scores(np.arange(14), NOW + 300 * HOUR, group)[:, 0]
    np.testing.assert_array_equal(scores, every[rows])
    np.testing.assert_array_equal(scores, np.sort(every[every > 0])[::-1][:limit])


@settings(max_examples=100, deadline=None)
@given(events, st.integers(1, 4))
def test_the_sum_over_shards_is_one_counter_fed_with_everything(stream: Any, shards: Any) -> None:
    parts = [fed(stream[n::shards]) for n in range(shards)]
    whole, reader = fed(stream), Trends((3600.0, 86_400.0))
    for shard, part in enumerate(parts):
        for item in range(13):
            reader.put_row(shard, item, part.row_state(item))
    now = NOW + 250 * HOUR
    for group in (None, 0, 1):
        np.testing.assert_allclose(
            reader.scores(np.arange(13), now, group), whole.scores(np.arange(13), now, group), rtol=1e-12
        )


@settings(max_examples=50, deadline=None)
@given(st.integers(-400, 400), st.floats(0.1, 10))
def test_moving_between_landmarks_loses_not_one_bit(half_lives: Any, weight: Any) -> None:
    one, other = Trends([3600.0]), Trends([3600.0])
    one.add(0, NOW, weight)
    other.add(0, NOW + half_lives * HOUR, 1.0)
    reader = Trends([3600.0])
    reader.put_row(0, 0, one.row_state(0))
    reader.put_row(1, 0, other.row_state(0))
    reader.put_row(1, 0, np.zeros((0, 3)))
    np.testing.assert_array_equal(reader.row_state(0), one.row_state(0))


def test_a_shard_that_says_something_new_replaces_what_it_said() -> None:
    reader, part = Trends([3600.0]), Trends([3600.0])
    for _ in range(3):
        part.add(4, NOW, group=7)
        reader.put_row(0, 4, part.row_state(4))
    assert reader.scores([4], NOW).item() == pytest.approx(3.0)
    assert reader.top(0, NOW, 5, group=7)[0].tolist() == [4]


def test_a_removed_item_is_gone_from_every_group_and_can_return() -> None:
    trends = fed([(3, 0, 1.0, (0, 1)), (4, 0, 1.0, 0)])
    trends.remove_item(3)
    assert trends.top(0, NOW, 5)[0].tolist() == [4]
    assert trends.top(0, NOW, 5, group=0)[0].tolist() == [4]
    assert trends.row_state(3)[:, 1:3].sum() == 0
    trends.add(3, NOW)
    assert trends.scores([3], NOW)[0, 0] == pytest.approx(1.0)


def test_the_last_hour_beats_all_time_under_a_short_half_life() -> None:
    stream = [(1, n * HOUR, 1.0, ()) for n in range(48)] + [(2, 48 * HOUR, 1.0, ())] * 3
    trends = fed(stream)
    assert trends.top(0, NOW + 48 * HOUR, 1)[0].tolist() == [2]
    assert trends.top(1, NOW + 48 * HOUR, 1)[0].tolist() == [1]


def test_memory_grows_with_the_highest_row_up_to_a_bound() -> None:
    trends = Trends([60.0])
    trends.add(1_000_000, NOW)
    assert 8_000_000 < trends.nbytes() < 20_000_000
    assert trends.top(0, NOW, 3)[0].tolist() == [1_000_000]
    with pytest.raises(ValueError, match=rf"item_row.* are {MAX_ROWS}, .*wanted 0 to {MAX_ROWS - 1}"):
        trends.add(MAX_ROWS, NOW)


def test_unknown_groups_and_items_count_nothing() -> None:
    trends = fed([(1, 0, 1.0, ())])
    assert trends.top(0, NOW, 3, group=99)[0].size == 0
    assert trends.scores([1, 5], NOW, group=99).tolist() == [[0, 0], [0, 0]]
    assert trends.scores([5, -1], NOW).tolist() == [[0, 0], [0, 0]]


def test_bad_values_are_named() -> None:
    with pytest.raises(ValueError, match=r"half_lives_s is \[0\.0\]"):
        Trends([0.0])
    with pytest.raises(ValueError, match=r"-1, 1\.0"):
        Trends([1.0]).add(-1, 0)
    with pytest.raises(ValueError, match=r"shape \(2, 2\), wanted \(groups, 3\)"):
        Trends([1.0]).put_row(0, 0, np.zeros((2, 2)))


@settings(max_examples=50, deadline=None)
@given(events, events)
def test_many_events_at_once_are_counted_as_one_by_one(first: Any, second: Any) -> None:
    plain = [[(item, at, 1.0, ()) for item, at, _, _ in part] for part in (first, second)]
    at_once, one_by_one = fed(plain[0]), fed(plain[0])
    for trends in (at_once, one_by_one):
        trends.top(0, NOW, 3)
    for item, at, _, _ in plain[1]:
        one_by_one.add(item, NOW + at)
    rows, times = (np.array([event[n] for event in plain[1]], np.int64) for n in (0, 1))
    at_once.add_many(rows, NOW + times)
    for got, wish in zip(at_once.top(0, NOW, 6), one_by_one.top(0, NOW, 6), strict=True):
        np.testing.assert_array_equal(got, wish)
    np.testing.assert_array_equal(at_once.scores(range(14), NOW), one_by_one.scores(range(14), NOW))


@pytest.mark.parametrize("row", [-1, MAX_ROWS])
def test_many_events_with_a_row_out_of_bounds_are_refused_whole(row: int) -> None:
    trends = fed([])
    with pytest.raises(ValueError, match=r"item_rows are .*wanted 0 to"):
        trends.add_many(np.array([3, row]), np.array([NOW, NOW]))
    with pytest.raises(ValueError, match="have shapes"):
        trends.add_many(np.array([3, 3]), np.array([NOW]))
    assert trends.scores([3], NOW)[0, 0] == 0.0
