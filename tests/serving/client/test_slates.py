"""What stands in for an answer, and what never does."""

from typing import Any

import pytest

from serving.client.slates import LocalSlates, Slate
from serving.requests import RecommendationRequest, RecommendedItem


def answered(*ids: str, rung: str = "personal", surface: str = "home") -> Slate:
    items = [RecommendedItem(item_id, n, item_id, "why", 0.5) for n, item_id in enumerate(ids)]
    return Slate("d", "token", surface, rung, items, 1, 1, 1, 1)


def asked(session: str = "ann", **more: Any) -> RecommendationRequest:
    return RecommendationRequest(session_id=session, **more)


def ids(slate: Slate | None) -> list[str]:
    assert slate is not None
    assert [item.position for item in slate.items] == list(range(len(slate.items)))
    return [item.item_id for item in slate.items]


def test_the_visitors_last_slate_comes_first_and_says_what_it_is() -> None:
    local = LocalSlates({"home": ["s"]})
    local.remember(asked(), answered("a", "b"))
    slate = local.stand_in(asked(), "nobody there")
    assert slate is not None
    assert (slate.origin, slate.rung, slate.problem) == ("last_good", "local", "nobody there")
    assert (slate.decision, slate.decision_id) == ("", "")
    assert ids(slate) == ["a", "b"]


def test_a_personal_slate_is_shown_to_nobody_else() -> None:
    local = LocalSlates({})
    local.remember(asked("ann"), answered("a"))
    assert local.stand_in(asked("bob"), "") is None
    local.remember(asked("ann"), answered("t", rung="trend"))
    assert ids(local.stand_in(asked("bob"), "")) == ["t"]


def test_without_anything_earlier_the_static_list_answers() -> None:
    local = LocalSlates({"home": ["x", "y", "z"]})
    slate = local.stand_in(asked(k=2, exclude=["x"]), "")
    assert ids(slate) == ["y", "z"]
    assert slate is not None
    assert slate.origin == "static"
    assert local.stand_in(asked(surface="cart"), "") is None


@pytest.mark.parametrize("wish", [{"categories": ["crime"]}, {"context": {"device": "tv"}}])
def test_a_slate_of_other_restrictions_never_stands_in(wish: dict[str, Any]) -> None:
    local = LocalSlates({"home": ["s"]})
    local.remember(asked(), answered("a", rung="trend"))
    assert local.stand_in(asked(**wish), "") is None
    local.remember(asked(**wish), answered("c"))
    assert ids(local.stand_in(asked(**wish), "")) == ["c"]
    assert ids(local.stand_in(asked(), "")) == ["a"]


def test_the_first_page_is_a_slate_like_any_other_and_a_later_one_is_not() -> None:
    local = LocalSlates({"home": ["s"]})
    assert ids(local.stand_in(asked(page="first"), "")) == ["s"]
    assert local.stand_in(asked(page="token"), "") is None


def test_what_the_visitor_acted_on_or_excludes_is_left_out() -> None:
    local = LocalSlates({"home": ["s", "b"]})
    local.remember(asked(), answered("a", "b", "c"))
    local.bar("s:ann", "b")
    assert ids(local.stand_in(asked(exclude=["a"]), "")) == ["c"]
    local.bar("s:ann", "a")
    local.bar("s:ann", "c")
    assert ids(local.stand_in(asked(), "")) == ["s"]


def test_a_stand_in_never_claims_freshness() -> None:
    local = LocalSlates({"home": ["s"]})
    slate = local.stand_in(asked(after="e1"), "")
    assert slate is not None
    assert slate.stale


def test_an_empty_answer_is_not_kept() -> None:
    local = LocalSlates({"home": ["s"]})
    local.remember(asked(), answered())
    assert ids(local.stand_in(asked(), "")) == ["s"]


def test_memory_is_bounded() -> None:
    local = LocalSlates({})
    for number in range(5_000):
        local.remember(asked(f"v{number}"), answered("a"))
        local.bar(f"s:v{number}", "a")
    for number in range(5_000):
        local.bar("s:greedy", f"i{number}")
    assert len(local._held) == 2_000
    assert len(local._barred) == 2_000
    assert len(local._barred["s:greedy"]) == 500
