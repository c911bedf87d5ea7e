"""The small parts of serving: the breaker, changes of exploration, what clients may send."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.breaker import Breaker
from serving.dashboard import dashboard_page
from serving.requests import EventBatch, RecommendationRequest
from state.changing import Wish, change_event
from state.decoding import Refusal
from state.exploration import Explorations, read_document

AT = 1_750_000_000_000


def test_a_breaker_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(failures=3, open_for_s=1.0)
    for ok in (False, False, True, False, False):
        breaker.note(ok=ok, now_s=0.0)
        assert breaker.allows(0.0)
    breaker.note(ok=False, now_s=0.0)
    assert not breaker.allows(0.0)


def test_an_open_breaker_lets_one_try_through_per_interval() -> None:
    breaker = Breaker(failures=1, open_for_s=1.0)
    breaker.note(ok=False, now_s=10.0)
    tries = [breaker.allows(10.0 + n / 10) for n in range(35)]
    assert [n for n, allowed in enumerate(tries) if allowed] == [10, 20, 30]


def test_a_success_closes_the_breaker_and_a_failed_try_keeps_it_open() -> None:
    breaker = Breaker(failures=2, open_for_s=1.0)
    for _ in range(2):
        breaker.note(ok=False, now_s=0.0)
    assert breaker.allows(1.0)
    breaker.note(ok=False, now_s=1.5)
    assert not breaker.allows(2.0)
    assert breaker.allows(2.5)
    breaker.note(ok=True, now_s=2.6)
    assert all(breaker.allows(2.6) for _ in range(5))


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 0.4)), max_size=40))
def test_a_store_that_is_gone_is_asked_at_most_once_an_interval(steps: list[tuple[bool, float]]) -> None:
    breaker, now, tried = Breaker(failures=1, open_for_s=1.0), 0.0, -10.0
    breaker.note(ok=False, now_s=now)
    for _, pause in steps:
        now += pause
        if breaker.allows(now):
            assert now - tried >= 1.0 - 1e-9
            tried = now
            breaker.note(ok=False, now_s=now)


def test_a_change_keeps_what_it_does_not_name() -> None:
    current = Explorations(rate=0.1, scheme="softmax", temperature=0.7, optimism=1.0, floor=0.001, version=4)
    event = change_event("exploration/home", current, Wish(given={"rate": 0.2}, why="launch"), AT, 0)
    assert (event.name, event.expects, event.why) == ("exploration/home", 4, "launch")
    wanted = {"rate": 0.2, "scheme": "softmax", "temperature": 0.7, "optimism": 1.0, "floor": 0.001}
    assert read_document(event.name, event.document) == Explorations(**wanted)  # type: ignore[arg-type]


def test_a_rate_of_zero_is_a_change() -> None:
    wish = Wish(given={"rate": 0.0})
    assert change_event("exploration/home", Explorations(), wish, AT, 0).document["rate"] == 0.0


def test_a_change_of_nothing_is_refused() -> None:
    with pytest.raises(Refusal) as error:
        change_event("exploration/home", Explorations(), Wish(why="no reason"), AT, 0)
    assert error.value.reason == "nothing_to_change"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"session_id": ""},
        {"session_id": "s", "k": 0},
        {"session_id": "s", "k": 51},
        {"session_id": "s", "surface": "Home"},
        {"session_id": "s", "exclude": ["x"] * 501},
        {"session_id": "s", "recent_items": ["x"] * 51},
        {"session_id": "s", "wait_ms": 1001},
        {"session_id": "s", "colour": "red"},
    ],
)
def test_a_request_out_of_bounds_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(body, RecommendationRequest)


@pytest.mark.parametrize("kind", ["decisions", "outcomes", "deadletters", "control", "journal", "weather"])
def test_only_what_clients_may_say_passes_the_gateway(kind: str) -> None:
    body = {"events": [{"kind": kind, "event": {}}]}
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(body), type=EventBatch)


def test_the_dashboard_needs_nothing_from_elsewhere() -> None:
    page = dashboard_page()
    assert "/v1/stats" in page
    assert "//cdn" not in page
    assert 'src="http' not in page
