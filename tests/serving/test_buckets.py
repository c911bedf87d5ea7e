"""Token buckets: never more than they hold and what came in since."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.buckets import TokenBucket

RATES = st.floats(0.01, 1_000.0)


def test_a_burst_is_let_through_then_the_rate() -> None:
    bucket = TokenBucket(rate=2.0, burst=3.0, now_s=10.0)
    assert [bucket.take(10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.take(10.25) == 0.25
    assert bucket.take(10.5) == 0.0
    assert bucket.take(10.5) == 0.5


def test_a_charge_may_go_into_debt_which_later_requests_wait_for() -> None:
    bucket = TokenBucket(rate=1.0, burst=2.0, now_s=0.0)
    assert bucket.take(0.0) == 0.0
    bucket.charge(5.0)
    assert bucket.take(0.0) == 5.0
    assert bucket.take(5.0) == 0.0


def test_another_size_keeps_what_was_used() -> None:
    bucket = TokenBucket(rate=1.0, burst=10.0, now_s=0.0)
    bucket.charge(9.5)
    bucket.resize(rate=2.0, burst=4.0)
    assert bucket.take(0.0) == 0.25
    full = TokenBucket(rate=1.0, burst=10.0, now_s=0.0)
    full.resize(rate=1.0, burst=1.0)
    assert [full.take(0.0), full.take(0.0)] == [0.0, 1.0]


@given(rate=RATES, burst=st.floats(1.0, 100.0), waits=st.lists(st.floats(0.0, 10.0), max_size=60))
def test_no_order_of_requests_gets_more_than_burst_and_rate(
    rate: float, burst: float, waits: list[float]
) -> None:
    bucket, now, taken = TokenBucket(rate, burst, 0.0), 0.0, 0
    for wait in waits:
        now += wait
        taken += bucket.take(now) == 0.0
        assert taken <= burst + rate * now + 1e-6


@given(rate=RATES, burst=st.floats(1.0, 100.0), debt=st.floats(0.0, 1_000.0))
def test_whoever_waits_as_told_is_let_in(rate: float, burst: float, debt: float) -> None:
    bucket = TokenBucket(rate, burst, 0.0)
    bucket.charge(debt)
    wait = bucket.take(0.0)
    assert wait >= 0.0
    if wait:
        assert bucket.take(wait * (1 + 1e-9) + 1e-9) == pytest.approx(0.0, abs=1e-9)
