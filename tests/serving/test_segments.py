"""A new visitor gets what their segment takes, where it takes enough; surfaces have trends of their own."""

import numpy as np

from serving.candidates import retrieve
from serving.decide import answer_items, decide
from serving.live import LiveState
from serving.visitor import asked_of
from state.events import encode
from state.feed import NO_SESSION, Interaction, ShardFeed
from state.subject import SubjectRecord
from tests.serving.world import NOW, call, empty, item

EVERYBODYS, THEIRS = range(12), range(20, 32)


def shop(of_segment: int) -> LiveState:
    """Return a live state where everybody takes some items, and a segment others, so many times each."""
    live = empty()
    for number in range(40):
        live.put_item(encode(item(number, categories=[])))
    live.settle(40)
    steps = [
        Interaction(NO_SESSION, f"i{n}", NOW - 1000 - n, 1.0, "home", ["device:pc"])
        for n in EVERYBODYS
        for _ in range(40)
    ]
    steps += [
        Interaction(NO_SESSION, f"i{n}", NOW - 1000 - n, 1.0, "inbox", ["device:tv", "country:de"])
        for n in THEIRS
        for _ in range(of_segment)
    ]
    live.apply_shard(0, ShardFeed(interactions=steps, watermark=NOW))
    return live


def first_ten(live: LiveState, surface: str = "home", **context: str) -> set[str]:
    """Return what a new visitor would be shown if nothing were explored."""
    asked = call("new", SubjectRecord(), context=context, surface=surface)
    found = retrieve(live, asked_of(live, asked.request, SubjectRecord(), "new", NOW), 10)
    return {live.items.ids[row] for row in found.rows[:10].tolist()}


def test_a_new_visitor_gets_the_trend_of_their_segment() -> None:
    live = shop(20)
    theirs = {f"i{n}" for n in THEIRS}
    assert len(first_ten(live, device="tv") & theirs) == 10
    assert len(first_ten(live, device="tv", country="de") & theirs) == 10
    assert len(first_ten(live, device="pc") & theirs) == 0
    assert len(first_ten(live) & theirs) == 0


def test_a_segment_that_has_taken_little_is_shown_what_everybody_takes() -> None:
    live = shop(1)
    assert len(first_ten(live, device="tv") & {f"i{n}" for n in THEIRS}) <= 1


def test_the_rung_and_the_reasons_say_that_a_segment_answered() -> None:
    live = shop(20)
    for context, rung in (({"device": "tv"}, "segment"), ({"device": "phone"}, "trend"), ({}, "trend")):
        asked = call("new", SubjectRecord(), context=context)
        decided = decide(live, asked)
        assert decided is not None
        assert decided.rung == rung
        reasons = [one.reason for one in answer_items(live, decided)]
        assert ("trending in segment" in reasons) == (rung == "segment")
    few = decide(shop(1), call("new", SubjectRecord(), context={"device": "tv"}))
    assert few is not None
    assert few.rung == "trend"


def test_a_surface_brings_what_is_taken_on_it() -> None:
    live = shop(2)
    asked = [call("new", SubjectRecord(), surface=surface) for surface in ("home", "inbox", "elsewhere")]
    found = [retrieve(live, asked_of(live, one.request, SubjectRecord(), "new", NOW), 10) for one in asked]
    column = live.recommender.names.index("surface_trend")
    row = live.items.row("i25")
    says = [float(one.inputs[one.rows == row, column][0]) for one in found]
    assert says[1] > 3 * says[0]
    assert says[0] < says[2] < says[1]


def test_what_entries_said_before_a_load_is_counted_in_groups_alone() -> None:
    live, recalled = shop(20), empty()
    for number in range(40):
        recalled.put_item(encode(item(number, categories=[])))
    step = Interaction(NO_SESSION, "i25", NOW, 1.0, "inbox", ["device:tv"])
    recalled.recall(ShardFeed(interactions=[step] * 60, watermark=NOW))
    assert recalled.groups.has_enough("device:tv", NOW)
    assert recalled.groups.has_enough("surface:inbox", NOW)
    assert not recalled.trends.scores(np.array([25]), NOW).any()
    assert live.trends.scores(np.array([25]), NOW).any()
