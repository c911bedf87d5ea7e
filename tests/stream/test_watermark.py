"""The watermark: complete means complete, and time goes on where nobody sends anything."""

from hypothesis import given
from hypothesis import strategies as st

from stream.watermark import Progress, Watermark

KINDS = ("impressions", "clicks", "decisions")
AT = 1_750_000_000_000
LATE = 1_000


def test_before_anything_came_nothing_is_complete() -> None:
    mark = Watermark(KINDS, LATE)
    assert mark.advance({}) == mark.advance(dict.fromkeys(KINDS, AT)) == 0


def test_the_slowest_topic_with_lag_holds_the_watermark() -> None:
    mark = Watermark(KINDS, LATE)
    mark.observe("impressions", AT + 90_000, AT + 90_000)
    mark.observe("clicks", AT + 20_000, AT + 90_000)
    mark.observe("decisions", AT + 50_000, AT + 90_000)
    assert mark.advance({}) == AT + 20_000 - LATE
    assert mark.advance({"clicks": AT + 90_000}) == AT + 50_000 - LATE


def test_a_topic_that_never_said_anything_but_has_lag_holds_the_watermark() -> None:
    mark = Watermark(KINDS, LATE)
    mark.observe("impressions", AT, AT)
    assert mark.advance({"impressions": AT}) == 0


def test_it_moves_in_steps_that_begin_where_they_are_told_to() -> None:
    mark = Watermark(KINDS, LATE, steps=(200, 50))
    for kind in KINDS:
        mark.observe(kind, AT + LATE + 249, AT + LATE + 249)
    assert mark.advance({}) == AT + 50
    for kind in KINDS:
        mark.observe(kind, AT + LATE + 250, AT + LATE + 250)
    assert mark.advance({}) == AT + 250


def test_late_events_that_come_within_a_step_of_each_other_do_not_stop_it() -> None:
    mark = Watermark(KINDS, LATE, steps=(200, 0))
    mark.observe("clicks", AT, AT)
    for passed in range(0, 10_001, 150):
        mark.advance(dict.fromkeys(KINDS, AT + passed))
        mark.observe("clicks", AT - 300_000, AT + passed)
        mark.advance(dict.fromkeys(KINDS, AT + passed))
    assert mark.value > AT + 9_000 - LATE


def test_a_topic_read_to_its_end_does_not_hold_the_watermark() -> None:
    mark = Watermark(KINDS, LATE)
    mark.observe("impressions", AT + 5_000, AT + 5_000)
    assert mark.advance({"clicks": AT + 6_000, "decisions": AT + 6_000}) == AT + 5_000 - LATE


def test_an_end_seen_long_ago_holds_the_watermark_at_that_time() -> None:
    mark = Watermark(KINDS, LATE)
    mark.observe("impressions", AT + 5_000, AT + 5_000)
    assert mark.advance({"clicks": AT + 2_000, "decisions": AT + 6_000}) == AT + 2_000 - LATE


def test_a_quiet_shard_moves_on_as_the_clock_does() -> None:
    mark = Watermark(KINDS, LATE)
    mark.observe("clicks", AT, AT)
    assert mark.advance(dict.fromkeys(KINDS, AT + 100)) == AT - LATE
    assert mark.advance(dict.fromkeys(KINDS, AT + 7_100)) == AT + 7_000 - LATE


def test_quiet_is_counted_from_the_topic_whose_end_was_seen_longest_ago() -> None:
    mark = Watermark(KINDS, LATE)
    mark.observe("clicks", AT, AT)
    mark.advance(dict.fromkeys(KINDS, AT))
    ends = {"clicks": AT + 500, "impressions": AT + 9_000, "decisions": AT + 9_000}
    assert mark.advance(ends) == AT + 500 - LATE


def test_an_event_ends_the_quiet() -> None:
    mark = Watermark(KINDS, LATE)
    mark.observe("clicks", AT, AT)
    mark.advance(dict.fromkeys(KINDS, AT))
    mark.observe("clicks", AT + 10, AT + 10)
    assert mark.advance(dict.fromkeys(KINDS, AT + 50_000)) == AT + 10 - LATE


def test_lag_ends_the_quiet() -> None:
    mark = Watermark(KINDS, LATE)
    mark.observe("clicks", AT, AT)
    mark.advance(dict.fromkeys(KINDS, AT))
    mark.advance({"clicks": AT + 1_000})
    assert mark.advance(dict.fromkeys(KINDS, AT + 90_000)) == AT - LATE


def test_no_event_moves_time_past_its_records_own_timestamp() -> None:
    mark = Watermark(("clicks",), LATE)
    mark.observe("clicks", AT + 200_000, AT)
    assert mark.advance({}) == AT - LATE


def test_a_new_owner_goes_on_where_the_last_one_stood() -> None:
    first = Watermark(KINDS, LATE)
    for kind in KINDS:
        first.observe(kind, AT, AT)
    stood = first.advance({})
    second = Watermark(KINDS, LATE, first.progress)
    assert second.value == stood
    second.observe("clicks", AT + 5_000, AT + 5_000)
    assert second.advance({}) == stood


def test_a_restart_in_silence_goes_on_where_silence_had_come() -> None:
    first = Watermark(KINDS, LATE)
    first.observe("clicks", AT, AT)
    for said_at in (AT, AT + 7_000):
        first.advance(dict.fromkeys(KINDS, said_at))
    second = Watermark(KINDS, LATE, first.progress)
    assert second.advance(dict.fromkeys(KINDS, AT + 8_000)) == AT + 7_000 - LATE
    assert second.advance(dict.fromkeys(KINDS, AT + 9_000)) == AT + 8_000 - LATE


def test_an_event_that_was_under_way_in_silence_does_not_stop_the_clock() -> None:
    mark = Watermark(KINDS, LATE)
    mark.observe("clicks", AT, AT)
    for said_at in (AT, AT + 7_000):
        mark.advance(dict.fromkeys(KINDS, said_at))
    mark.observe("clicks", AT + 6_500, AT + 7_010)
    for said_at in (AT + 7_020, AT + 8_020):
        reached = mark.advance(dict.fromkeys(KINDS, said_at))
    assert reached == AT + 8_000 - LATE


def test_topics_nobody_ever_speaks_on_do_not_stall_those_that_speak() -> None:
    mark = Watermark(KINDS, LATE)
    for n in range(100):
        now = AT + 100 * n
        mark.observe("clicks", now, now)
        assert mark.advance({"impressions": now, "decisions": now}) == now - LATE


def test_a_topic_that_falls_behind_again_holds_the_watermark_again() -> None:
    mark = Watermark(KINDS, LATE)
    for kind in KINDS:
        mark.observe(kind, AT, AT)
    assert mark.advance(dict.fromkeys(KINDS, AT + 500)) == AT - LATE
    mark.observe("clicks", AT + 60_000, AT + 60_000)
    assert mark.advance({"clicks": AT + 60_000, "decisions": AT + 60_000}) == AT - LATE
    mark.observe("impressions", AT + 50_000, AT + 60_000)
    assert mark.advance({"clicks": AT + 60_000, "decisions": AT + 60_000}) == AT + 50_000 - LATE


TIMES = st.integers(AT - 50_000, AT + 50_000)
STEPS = st.lists(
    st.tuples(st.just("see"), st.sampled_from(KINDS), TIMES, TIMES)
    | st.tuples(st.just("ask"), st.dictionaries(st.sampled_from(KINDS), TIMES)),
    max_size=30,
)


@given(STEPS)
def test_the_watermark_never_goes_back(steps: list[tuple[object, ...]]) -> None:
    mark, before = Watermark(KINDS, LATE), 0
    for step in steps:
        if step[0] == "see":
            mark.observe(*step[1:])  # type: ignore[arg-type]
        else:
            now = mark.advance(step[1])  # type: ignore[arg-type]
            assert now >= before
            assert now == mark.value
            before = now


@given(st.lists(st.tuples(st.sampled_from(KINDS), TIMES, TIMES), max_size=20), st.sampled_from(KINDS))
def test_a_lagging_topic_always_holds_the_watermark(seen: list[tuple[str, int, int]], lagging: str) -> None:
    mark = Watermark(KINDS, LATE, Progress())
    for kind, occurred_at, received_at in seen:
        mark.observe(kind, occurred_at, received_at)
    newest = max((min(at, got) for kind, at, got in seen if kind == lagging), default=0)
    caught_up = {kind: AT + 10**9 for kind in KINDS if kind != lagging}
    assert mark.advance(caught_up) <= max(0, newest - LATE)


@given(STEPS)
def test_after_anything_a_silence_as_long_as_needed_completes_any_moment(
    steps: list[tuple[object, ...]],
) -> None:
    """However time stood, no window stays open for ever: the clock carries the watermark on."""
    mark = Watermark(KINDS, LATE)
    mark.observe("clicks", AT, AT)
    for step in steps:
        if step[0] == "see":
            mark.observe(*step[1:])  # type: ignore[arg-type]
        else:
            mark.advance(step[1])  # type: ignore[arg-type]
    for said_at in (AT + 200_000, AT + 600_000):
        reached = mark.advance(dict.fromkeys(KINDS, said_at))
    assert AT + 300_000 <= reached <= AT + 600_000 - LATE


@given(STEPS)
def test_no_watermark_comes_closer_to_the_brokers_clock_than_the_lateness_bound(
    steps: list[tuple[object, ...]],
) -> None:
    mark, newest = Watermark(KINDS, LATE), 0
    for step in steps:
        if step[0] == "see":
            mark.observe(*step[1:])  # type: ignore[arg-type]
            newest = max(newest, step[3])  # type: ignore[call-overload]
        else:
            mark.advance(step[1])  # type: ignore[arg-type]
            newest = max([newest, *step[1].values()])  # type: ignore[attr-defined]
    assert mark.value <= max(0, newest - LATE)
