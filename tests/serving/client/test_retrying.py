"""When a call is repeated, after which pause, and how often in all."""

import random
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.client.calls import failure, make_call
from serving.client.errors import RefusedError, UnavailableError
from serving.client.retrying import Budget, RetryRules, may_repeat, retry_after_s


@given(st.integers(0, 30), st.integers(0, 2**32), st.floats(0, 60))
def test_a_pause_is_drawn_below_its_bound_and_never_shorter_than_asked(
    retry: int, seed: int, asked: float
) -> None:
    rules = RetryRules(base_s=0.05, cap_s=2.0)
    bound = min(2.0, 0.05 * 2**retry)
    assert 0.0 <= rules.pause_s(retry, random.Random(seed)) <= bound
    assert asked <= rules.pause_s(retry, random.Random(seed), asked) <= asked + bound


def test_pauses_of_many_clients_are_spread() -> None:
    pauses = [RetryRules().pause_s(3, random.Random(seed)) for seed in range(200)]
    assert min(pauses) < 0.04
    assert max(pauses) > 0.36
    assert len(set(pauses)) == len(pauses)


def test_retries_are_a_share_of_calls() -> None:
    budget, spent = Budget(RetryRules(budget=0.2, reserve=10.0)), 0
    for _ in range(1000):
        budget.earn()
        spent += budget.spend() + budget.spend()
    assert 200 <= spent <= 210 + 1


@pytest.mark.parametrize(
    ("status", "repeatable", "wished"),
    [
        (429, False, True),
        (503, True, True),
        (503, False, False),
        (502, True, True),
        (504, False, False),
        (500, True, False),
        (400, True, False),
        (404, True, False),
    ],
)
def test_only_what_may_happen_twice_is_repeated(status: int, *, repeatable: bool, wished: bool) -> None:
    assert may_repeat(status, repeatable=repeatable) is wished


def test_a_pause_is_told_in_seconds_or_as_a_date() -> None:
    now = time.time()
    assert retry_after_s("3", now) == 3.0
    assert retry_after_s(formatdate(now + 10, usegmt=True), now) == pytest.approx(10.0, abs=1.1)
    assert retry_after_s(formatdate(now - 10, usegmt=True), now) == 0.0


@pytest.mark.parametrize("header", [None, "", "soon", "-1", "٣", "1e3", "Wed, 99 Foo"])
def test_a_pause_that_cannot_be_read_is_none(header: str | None) -> None:
    assert retry_after_s(header, 0.0) is None


@pytest.mark.parametrize(
    ("method", "headers", "key", "wished"),
    [
        ("GET", {}, "", True),
        ("PUT", {}, "", True),
        ("DELETE", {}, "", True),
        ("PUT", {"if-match": '"3"'}, "", False),
        ("PUT", {"If-Match": '"3"'}, "k1", True),
        ("POST", {}, "", False),
        ("POST", {}, "k1", True),
    ],
)
def test_a_call_says_whether_it_may_be_repeated(
    method: str, headers: dict[str, str], key: str, *, wished: bool
) -> None:
    call = make_call(method, "/v1/x", dict, headers=headers, idempotency_key=key)
    assert call.repeatable is wished
    assert call.headers.get("Idempotency-Key", "") == key


def test_a_refusal_names_the_field_and_an_overload_is_none() -> None:
    refused = failure(400, b'{"type":"about:blank","title":"Bad request","detail":"k is 0","field":"k"}')
    assert isinstance(refused, RefusedError)
    assert (refused.problem.status, refused.problem.field) == (400, "k")
    assert not refused.retriable
    shed = failure(503, b"<html>")
    assert isinstance(shed, UnavailableError)
    assert shed.retriable
    assert "503" in str(shed)
