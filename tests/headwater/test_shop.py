"""What the shop remembers of visitors, and the events that follow from what they do."""

import pytest

from headwater.shop.visits import VISITORS, Act, Visits, new_session, request_of
from serving.client import Click, Feedback, Impression, Slate
from serving.requests import RecommendedItem


def slate(*ids: str, decision: str = "token") -> Slate:
    items = [RecommendedItem(item_id, n, item_id, "why", 0.5) for n, item_id in enumerate(ids)]
    return Slate("d", decision, "home", "personal", items, 1, 1, 1, 1)


def test_an_act_belongs_to_the_slate_it_was_done_on() -> None:
    visits = Visits()
    visits.put("me", slate("a", "b"))
    click = visits.acted("me", Act("click", "b"))
    assert isinstance(click, Click)
    assert (click.item_id, click.decision, click.session_id) == ("b", "token", "me")
    liked = visits.acted("me", Act("like", "a"))
    assert isinstance(liked, Feedback)
    assert (liked.kind, liked.decision) == ("like", "token")
    elsewhere = visits.acted("me", Act("click", "z"))
    assert isinstance(elsewhere, Click)
    assert elsewhere.decision is None


def test_what_stands_in_teaches_nobody() -> None:
    visits = Visits()
    visits.put("me", slate("a", decision=""))
    (impression,) = visits.shown("me")
    assert isinstance(impression, Impression)
    assert impression.decision is None
    assert visits.shown("stranger") == []
    visits.put("me", slate())
    assert visits.shown("me") == []


def test_an_unknown_act_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'steal'"):
        Visits().acted("me", Act("steal", "a"))


def test_the_longest_silent_visitors_are_forgotten() -> None:
    visits = Visits()
    for number in range(VISITORS + 10):
        visits.put(f"v{number}", slate("a"))
    assert len(visits) == VISITORS
    assert visits.shown("v0") == []


def test_sessions_differ_and_are_asked_for() -> None:
    one, other = new_session(), new_session()
    assert one != other
    assert request_of(one).session_id == one
