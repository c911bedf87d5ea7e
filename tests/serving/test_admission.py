"""Admission: a bound on requests in flight that follows how late the loop is."""

import asyncio
import time
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from serving.admission import FLOOR, LATE_S, Admission, Lateness


def entered(admission: Admission, count: int) -> int:
    return sum(admission.enter() for _ in range(count))


def test_no_more_than_the_bound_come_in_and_those_refused_are_counted() -> None:
    admission = Admission(ceiling=20)
    assert entered(admission, 25) == 20
    assert (admission.in_flight, admission.shed) == (20, 5)
    admission.leave()
    assert entered(admission, 2) == 1


def test_a_late_loop_lowers_the_bound_from_what_was_reached_and_a_punctual_one_raises_it_again() -> None:
    admission = Admission(ceiling=256)
    entered(admission, 100)
    admission.adjust(2 * LATE_S)
    assert admission.limit == 70
    admission.adjust(LATE_S)
    assert admission.limit == 74
    for _ in range(100):
        admission.adjust(0.0)
    assert admission.limit == 256


def test_the_bound_falls_no_lower_than_what_keeps_a_core_busy() -> None:
    admission = Admission(ceiling=256)
    for _ in range(50):
        admission.adjust(1.0)
    assert admission.limit == FLOOR
    small = Admission(ceiling=4)
    small.adjust(1.0)
    assert small.limit == 4


@given(st.lists(st.sampled_from(["in", "out", "late", "punctual"]), max_size=300))
def test_whatever_happens_counts_stay_true_and_bounds_hold(steps: list[str]) -> None:
    admission, inside, refused = Admission(ceiling=40), 0, 0
    for step in steps:
        if step == "in":
            limit = admission.limit
            came = admission.enter()
            assert came == (inside < limit)
            inside, refused = inside + came, refused + (not came)
        elif step == "out" and inside:
            admission.leave()
            inside -= 1
        elif step in ("late", "punctual"):
            admission.adjust(1.0 if step == "late" else 0.0)
        assert (admission.in_flight, admission.shed) == (inside, refused)
        assert FLOOR <= admission.limit <= 40


async def test_a_loop_kept_busy_all_the_time_is_late_and_one_stall_is_not() -> None:
    admission, lateness = Admission(ceiling=256), Lateness()
    entered(admission, 100)
    watching = asyncio.create_task(lateness.watch([admission]))
    time.sleep(0.3)  # noqa: ASYNC251 - a stall is the point
    while admission.limit == 256:
        time.sleep(0.02)  # noqa: ASYNC251
        await asyncio.sleep(0)
    assert lateness.last_s > LATE_S
    assert admission.limit <= 70
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
