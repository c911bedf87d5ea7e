"""Items nobody touches leave the shard's shared rows, by event time alone."""

from itertools import pairwise
from typing import Any

from state.feed import decode_shard_feed
from state.retention import DAY_MS, block_life_ms, trend_life_ms
from stream.sweep import sweep_due
from tests.stream.folding import AT, Folded, click, decision, impression, settings, shard

BLOCK_LIFE = block_life_ms(settings())
TREND_LIFE = trend_life_ms(settings())


def shown_and_clicked(**changes: Any) -> Folded:
    """Return a shard that has learnt of items a, b and c, and in which b was clicked."""
    folded = shard(**changes)
    folded.fold([decision(), impression(decision=1), click("b", decision=1)])
    folded.fold([], AT + 700_000)
    assert set(folded.hash("bandit")) - {b"prior"} == {b"shared", b"i:a", b"i:b", b"i:c"}
    return folded


def test_a_sweep_falls_once_into_every_hour_of_event_time() -> None:
    times = [AT + minute * 60_000 for minute in range(0, 600, 7)]
    assert sum(sweep_due(a, b) for a, b in pairwise(times)) == 10


def test_a_trend_row_goes_when_its_count_is_negligible() -> None:
    folded = shard()
    folded.fold([click("old", at=AT)])
    folded.fold([click("new", at=AT + 10 * DAY_MS)], AT + TREND_LIFE - DAY_MS)
    assert set(folded.hash("trends")) == {b"old", b"new"}
    folded.fold([], AT + TREND_LIFE + DAY_MS)
    assert set(folded.hash("trends")) == {b"new"}


def test_what_was_forgotten_begins_anew_and_its_place_is_used_again() -> None:
    folded = shard()
    folded.fold([click("old", at=AT), click("kept", at=AT)])
    before = folded.hash("trends")[b"old"]
    folded.fold([click("kept", at=AT + 50 * DAY_MS)], AT + TREND_LIFE + DAY_MS)
    kept = folded.hash("trends")[b"kept"]
    late = AT + TREND_LIFE + 2 * DAY_MS
    folded.fold([click("another", at=late)])
    folded.fold([click("old", at=late)])
    fresh = shard()
    fresh.fold([click("another", at=late), click("old", at=late)])
    assert folded.hash("trends") == {**fresh.hash("trends"), b"kept": kept}
    assert folded.hash("trends")[b"old"] != before


def test_an_item_touched_in_the_swept_batch_stays() -> None:
    folded = shard()
    folded.fold([click("b", at=AT)])
    late = AT + TREND_LIFE + DAY_MS
    folded.fold([click("b", at=late)], late)
    assert set(folded.hash("trends")) == {b"b"}


def test_a_block_goes_when_it_has_learnt_nothing_for_its_life() -> None:
    folded = shown_and_clicked()
    folded.fold([], AT + BLOCK_LIFE - DAY_MS)
    assert set(folded.hash("learnt")) == {b"a", b"b", b"c"}
    folded.fold([], AT + BLOCK_LIFE + 2 * DAY_MS)
    assert set(folded.hash("bandit")) == {b"shared", b"prior"}
    assert folded.hash("learnt") == {}
    assert decode_shard_feed(folded.feeds[-1]).bandit_items == ["a", "b", "c"]


def test_a_block_that_learns_on_stays() -> None:
    life = 5 * DAY_MS
    folded = shown_and_clicked(block_life_s=life / 1000)
    again = AT + life - DAY_MS
    folded.fold([decision(["a"], at=again, number=2), impression(["a"], at=again, decision=2)])
    folded.fold([], again + 700_000)
    folded.fold([], AT + life + 2 * DAY_MS)
    assert set(folded.hash("bandit")) == {b"shared", b"prior", b"i:a"}


def test_blocks_of_an_older_version_begin_their_life_at_the_first_sweep() -> None:
    folded = shown_and_clicked()
    folded.store.hashes.pop(f"{folded.logic.place.prefix}learnt")
    folded = shard(folded.store)
    late = AT + 2 * BLOCK_LIFE
    folded.fold([], late)
    assert b"i:a" in folded.hash("bandit")
    folded.fold([], late + BLOCK_LIFE + 2 * DAY_MS)
    assert set(folded.hash("bandit")) == {b"shared", b"prior"}


def test_a_shard_loaded_between_sweeps_forgets_the_same() -> None:
    through, anew = shown_and_clicked(), shown_and_clicked()
    for at in (AT + DAY_MS, AT + BLOCK_LIFE + 2 * DAY_MS, AT + TREND_LIFE + 9 * DAY_MS):
        through.fold([], at)
        anew = shard(anew.store)
        anew.fold([], at)
    assert through.store.state() == anew.store.state()
