"""What a server remembers of visitors for when the store does not answer."""

from serving.decide import answer_items, decide
from serving.last_rung import static_items
from serving.remembered import FOR_S, MOST, Remembered
from state.feed import ShardFeed
from state.subject import SubjectRecord
from tests.serving.world import NOW, World, call, empty


def test_only_so_many_records_are_remembered_and_only_for_so_long() -> None:
    remembered = Remembered()
    for number in range(MOST + 3):
        remembered.note(f"u{number}", SubjectRecord(events=number), 100.0)
        remembered.note("often", SubjectRecord(events=7), 100.0)
    assert len(remembered) == MOST
    assert remembered.of("u0", 100.0) is None
    held = remembered.of("often", 100.0 + FOR_S)
    assert held is not None
    assert held.events == 7
    assert remembered.of("often", 100.1 + FOR_S) is None
    remembered.note("often", SubjectRecord(), 900.0)
    assert remembered.of("often", 900.0) == SubjectRecord()


def test_what_a_visitor_hid_stays_hidden_while_the_store_does_not_answer() -> None:
    live, record = World().by_load(), SubjectRecord(hidden=["i1", "i2"])
    record.mark_seen("i3", NOW - 1_000, 100)
    asked = call("u1", None, k=50)
    shown = decide(live, asked)
    assert shown is not None
    assert {"i1", "i2", "i3"} & {one.item_id for one in answer_items(live, shown)}
    knowing = type(asked)(asked.request, "u1", None, asked.decision_id, NOW, 5, 0.0, remembered=record)
    for items in (static_items(live, knowing, ["i1", "i3"]), answer_items(live, decide(live, knowing))):  # type: ignore[arg-type]
        assert len(items) > 20
        assert not {"i1", "i2", "i3"} & {one.item_id for one in items}


def test_an_erasure_is_heeded_by_forgetting_everybody_and_only_once() -> None:
    remembered, live = Remembered(), empty()
    remembered.heed(live.erasures)
    remembered.note("u1", SubjectRecord(hidden=["a"]), 0.0)
    live.apply_shard(0, ShardFeed(interactions=[]))
    remembered.heed(live.erasures)
    assert remembered.of("u1", 1.0) is not None
    live.apply_shard(0, ShardFeed(erasures=1))
    remembered.heed(live.erasures)
    assert remembered.of("u1", 1.0) is None
    remembered.note("u2", SubjectRecord(), 2.0)
    remembered.heed(live.erasures)
    assert remembered.of("u2", 3.0) is not None
