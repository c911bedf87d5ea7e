"""Items like one: alike by content or behaviour, and nothing a visitor may not be shown."""

from serving.requests import RecommendationRequest
from serving.similar import similar_to
from state.events import encode
from state.feed import ItemFeed
from state.merchandising import Merchandising, Rule
from state.subject import SubjectRecord
from tests.serving.world import NOW, World, empty, item


def asked(**more: object) -> RecommendationRequest:
    return RecommendationRequest(session_id="nobody", **more)  # type: ignore[arg-type]


def test_similar_items_are_those_of_like_content_and_of_the_same_sessions() -> None:
    live = empty()
    for number in range(30):
        kind = "submarine hunt" if number < 5 else f"something else {number * 7919}"
        live.put_item(encode(item(number, title=kind, categories=["sea" if number < 5 else f"c{number}"])))
    live.settle(30)
    for session in range(5):
        for step, row in enumerate((0, 20)):
            live.recommender.add(session, row, NOW - 1_000 + step)
    found = similar_to(live, "i0", asked(k=10), None, NOW)
    assert {"i1", "i2", "i3", "i4", "i20"} <= {one.item_id for one in found}
    assert "i0" not in {one.item_id for one in found}
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)


def test_nothing_hidden_seen_removed_excluded_or_ruled_out_is_similar() -> None:
    live = World().by_load()
    everything = [one.item_id for one in similar_to(live, "i0", asked(k=50), None, NOW)]
    hidden, seen, removed, excluded, ruled, *rest = everything
    assert rest
    record = SubjectRecord(hidden=[hidden])
    record.mark_seen(seen, NOW - 1_000, 100)
    live.apply_items(ItemFeed([(removed, None)]))
    live.put_control("rules/home", encode(Merchandising(rules={"no": Rule("hide", f"item_id == '{ruled}'")})))
    wished = asked(k=50, exclude=[excluded])
    left = [one.item_id for one in similar_to(live, "i0", wished, record, NOW)]
    assert not set(left) & {"i0", hidden, seen, removed, excluded, ruled}
    assert len(set(rest) & set(left)) > len(rest) / 2, "what is left leads to fewer others, not to none"
    filtered = similar_to(live, "i0", asked(k=50, filter="item_id == 'nobody'"), None, NOW)
    assert filtered == []
