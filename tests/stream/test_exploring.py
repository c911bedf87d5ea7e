"""What a shard folds of exploration: each decision once, however it is cut into batches."""

from typing import Any

from state.exploring import (
    HOUR,
    STRETCH_MS,
    STRETCHES,
    Progress,
    decode_progress,
    decode_stretches,
    decode_tried,
)
from state.feed import ShardFeed, decode_shard_feed
from state.retention import LEDGER_KEPT_MS, SWEEP_MS
from state.tokens import make_decision_id
from stream.rows import Row
from tests.stream.folding import AT, Folded, Store, click, decision_event, impression, profile, row, shard

WINDOW_MS = 10_000
CLOSED = AT + 60_000


def folder(store: Store | None = None) -> Folded:
    given: dict[str, Any] = {"attribution_window_s": 10.0, "lateness_s": 1.0, "decision_wait_s": 10.0}
    return shard(store=store, **given) if store is not None else shard(**given)


def marked(number: int, new: set[int], explored: set[int], flag: str = "") -> Row:
    """Return a decision of three items, some new, some explored."""
    event = decision_event(["a", "b", "c"], number=number, flag=flag)
    for place, slot in enumerate(event.slots):
        slot.new, slot.explored = place in new, place in explored
    return row("decisions", event)


def progress(folded: Folded, item: str = "a") -> Progress:
    return decode_progress(folded.hash("newcomers")[f"home:{item}".encode()])


def visit(number: int = 1, **more: Any) -> list[Row]:
    at = AT + 100 + number
    given: dict[str, Any] = {"new": {0, 2}, "explored": {0}} | more
    shown = impression(["a", "b"], at=at, user="u1", decision=number)
    return [marked(number, **given), shown, click("a", at=at + 100, user="u1", decision=number)]


def test_a_new_item_is_pending_until_its_decision_closes_and_then_shown_or_not() -> None:
    folded = folder()
    folded.fold(visit(), AT)
    assert (progress(folded).pending, progress(folded, "c").pending) == (1, 1)
    assert b"home:b" not in folded.hash("newcomers")
    folded.fold([], CLOSED)
    first = progress(folded)
    assert (first.pending, first.shown, first.explored, first.reward) == (0, 1, 1, 1.0)
    assert (progress(folded, "c").pending, progress(folded, "c").shown) == (0, 0)


def test_spending_counts_slots_when_decided_and_rewards_when_closed() -> None:
    folded = folder()
    folded.fold(visit(), AT)
    folded.fold([], CLOSED)
    ((number, done),) = decode_stretches(folded.hash("spending")[b"home"]).items()
    assert number == AT // STRETCH_MS
    assert (done.slots, done.explored) == (3, 1)
    assert (done.exploited_shown, done.exploited_reward) == (1, 0.0)
    assert (done.explored_shown, done.explored_reward) == (1, 1.0)


def test_each_version_knows_its_decisions_and_what_they_earned() -> None:
    folded = folder()
    folded.fold([*visit(1), *visit(2, flag="fallback"), *visit(3, flag="holdout")], AT)
    folded.fold([], CLOSED)
    ((name, raw),) = folded.hash("tried").items()
    tried = decode_tried(raw)
    assert name.startswith(b"home@")
    assert (tried.decided, tried.fallback, tried.closed) == (2, 1, 1)
    assert (tried.reward, tried.reward_squares, tried.explored, tried.explored_reward) == (1.0, 1.0, 1, 1.0)


def test_rewards_of_one_decision_count_as_one_round_of_its_version() -> None:
    folded = folder()
    both = [*visit(explored={0, 1}), click("b", at=AT + 300, user="u1", decision=1)]
    folded.fold(both, AT)
    folded.fold([], CLOSED)
    (raw,) = folded.hash("tried").values()
    tried = decode_tried(raw)
    assert (tried.explored, tried.explored_reward, tried.explored_squares) == (2, 2.0, 4.0)


def test_batches_restarts_and_repeats_leave_the_same() -> None:
    rows = [*visit(1), *visit(2), *visit(1)]
    together = folder()
    together.fold(rows, AT)
    together.fold([], CLOSED)
    apart = folder()
    for one in rows:
        apart.fold([one], AT)
        apart = folder(apart.store)
    apart.fold([], CLOSED)
    for family in ("newcomers", "spending", "tried"):
        assert together.hash(family) == apart.hash(family)
    assert progress(together).shown == 2


def test_servers_are_told_of_what_moved() -> None:
    folded = folder()
    folded.fold(visit(), AT)
    entry = decode_shard_feed(folded.feeds[-1])
    assert isinstance(entry, ShardFeed)
    assert entry.exploring is not None
    assert {name for name, _ in entry.exploring.newcomers} == {"home:a", "home:c"}
    assert [(surface, number) for surface, number, _ in entry.exploring.stretches] == [
        ("home", AT // STRETCH_MS)
    ]
    folded.fold([], AT + 1)
    assert decode_shard_feed(folded.feeds[-1]).exploring is None


def test_a_decision_of_a_visitor_who_is_erased_waits_no_longer() -> None:
    folded = folder()
    folded.fold(visit(), AT)
    folded.fold([profile("u1", erase=True, at=AT + 500)], AT)
    assert (progress(folded).pending, progress(folded).shown) == (0, 0)


def test_old_spending_and_new_items_long_silent_are_forgotten() -> None:
    folded = folder()
    folded.fold(visit(), AT)
    folded.fold([], CLOSED)
    later = AT + LEDGER_KEPT_MS + 2 * SWEEP_MS
    folded.fold([], later)
    assert folded.hash("newcomers") == {}
    entry = decode_shard_feed(folded.feeds[-1]).exploring
    assert entry is not None
    assert entry.dropped == ["home:a", "home:c"]
    assert folded.hash("spending") == {}
    folded.fold(
        [row("decisions", decision_event(["a"], number=2, at=later, event_id=make_decision_id(later, 0, 2)))],
        later,
    )
    assert list(decode_stretches(folded.hash("spending")[b"home"])) == [later // STRETCH_MS]


def test_spending_of_a_surface_that_fell_silent_goes_while_others_are_busy() -> None:
    folded, over = folder(), AT + (STRETCHES + 1) * STRETCH_MS + SWEEP_MS
    folded.fold(visit(), AT)
    folded.fold([], CLOSED)
    event = decision_event(
        ["a"], number=2, at=over, event_id=make_decision_id(over, 0, 2), surface="cart", user="u1"
    )
    folded.fold([row("decisions", event)], over)
    assert list(folded.hash("spending")) == [b"cart"]
    again = folder(folded.store)
    again.fold([], over + SWEEP_MS)
    assert list(again.hash("spending")) == [b"cart"]


def test_a_decision_of_long_ago_leaves_no_spending_though_the_sweep_comes_with_it() -> None:
    folded = folder()
    folded.fold([marked(1, set(), {0})], AT + 10 * SWEEP_MS)
    assert folded.hash("spending") == {}
    assert decode_shard_feed(folded.feeds[-1]).exploring is None
    folded.fold([marked(1, set(), {0})], AT + 10 * SWEEP_MS)


def test_each_version_knows_what_it_explored_within_an_hour() -> None:
    folded = folder()
    for number in range(HOUR + 2):
        at = AT + number * STRETCH_MS
        event = decision_event(["a", "b"], at=at, event_id=make_decision_id(at, 0, number))
        event.slots[0].explored = True
        folded.fold([row("decisions", event)], 0)
    (raw,) = folded.hash("tried").values()
    first = AT // STRETCH_MS
    assert decode_tried(raw).recent == dict.fromkeys(range(first + 2, first + HOUR + 2), 1)
    assert decode_tried(raw).explored_lately(AT + (HOUR + 1) * STRETCH_MS) == HOUR
    assert decode_tried(raw).explored_lately(AT + (2 * HOUR) * STRETCH_MS) == 1
