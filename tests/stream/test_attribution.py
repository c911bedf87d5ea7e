"""Attribution: decision, impression and rewards find each other inside a window of event time."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.opened import Reward
from state.rules import SurfaceRules
from stream.attribution import ITEMS_KEPT, Attribution, Closed
from stream.rewards import FIRST_KEPT, with_reward, worth_of

WINDOW, WAIT, LATENESS = 10_000, 8_000, 3_000
AT = 1_750_000_000_000
Step = tuple[str, int, Any]


def replay(steps: list[Step], watermark: int = AT + 10**6, **more: Any) -> list[Closed]:
    """Feed steps to one decision, then close at a watermark."""
    joined = Attribution(WINDOW, WAIT, **more)
    for step in steps:
        act(joined, step)
    return list(joined.close(watermark))


def act(joined: Attribution, step: Step, decision_id: str = "d1") -> None:
    kind, at, what = step
    if kind == "decision":
        joined.on_decision(decision_id, "u1", at, "home")
    elif kind == "impression":
        joined.on_impression(decision_id, "u1", at, what, "home")
    else:
        item_id, worth = what
        joined.on_reward(decision_id, "u1", item_id, Reward(worth, at, "home"))


def earned(closed: Closed, item_id: str, **rules: Any) -> float:
    """Return an item's reward by a surface's rules, 0 where it has none."""
    return worth_of(closed.inside(item_id), SurfaceRules(**rules)) or 0.0


DECIDED: Step = ("decision", AT, None)
SHOWN: Step = ("impression", AT + 100, ["a", "b"])


def test_a_click_inside_the_window_is_the_items_reward() -> None:
    (closed,) = replay([DECIDED, SHOWN, ("reward", AT + 500, ("b", 1.0))])
    assert closed.verdict == "outcome"
    assert (earned(closed, "a"), earned(closed, "b")) == (0.0, 1.0)


def test_a_click_before_its_impression_still_counts() -> None:
    (closed,) = replay([("reward", AT + 500, ("b", 1.0)), DECIDED, SHOWN])
    assert (closed.verdict, earned(closed, "b")) == ("outcome", 1.0)


def test_a_decision_after_its_impression_still_counts() -> None:
    (closed,) = replay([SHOWN, DECIDED])
    assert (closed.verdict, earned(closed, "b")) == ("outcome", 0.0)


@pytest.mark.parametrize(("late", "reward"), [(0, 1.0), (1, 0.0)])
def test_the_window_ends_at_its_last_millisecond(late: int, reward: float) -> None:
    (closed,) = replay([DECIDED, SHOWN, ("reward", AT + 100 + WINDOW + late, ("b", 1.0))])
    assert earned(closed, "b") == reward


def test_nothing_closes_before_its_time() -> None:
    assert replay([DECIDED, SHOWN], watermark=AT + 100 + WINDOW) == []
    assert len(replay([DECIDED, SHOWN], watermark=AT + 101 + WINDOW)) == 1


def test_a_decision_nobody_was_shown_is_unseen() -> None:
    assert replay([DECIDED], watermark=AT + WAIT) == []
    (closed,) = replay([DECIDED], watermark=AT + WAIT + 1)
    assert closed.verdict == "unseen"


@pytest.mark.parametrize("step", [SHOWN, ("reward", AT, ("b", 1.0))])
def test_what_names_a_decision_that_never_came_is_an_orphan(step: Step) -> None:
    (closed,) = replay([step])
    assert closed.verdict == "orphan"


@pytest.mark.parametrize("order", [1, -1])
def test_only_the_earliest_impression_of_a_decision_counts_whichever_comes_first(order: int) -> None:
    joined = Attribution(WINDOW, WAIT)
    told = [(AT, ["a"]), (AT + 5000, ["a", "b"])][::order]
    assert [joined.on_impression("d1", "u1", at, shown, "home") for at, shown in told] == [True, False]
    joined.on_decision("d1", "u1", AT, "home")
    (closed,) = joined.close(AT + WINDOW + 1)
    assert (closed.entry.shown, closed.shown_at) == (["a"], AT)


def test_an_impression_later_than_the_wait_shows_nothing() -> None:
    (closed,) = replay([DECIDED, ("impression", AT + WAIT + 1, ["a"])])
    assert closed.verdict == "unseen"
    (closed,) = replay([DECIDED, ("impression", AT + WAIT, ["a"])])
    assert closed.verdict == "outcome"


@pytest.mark.parametrize(("wait", "until"), [(WAIT, AT + WINDOW), (2 * WINDOW, AT + 2 * WINDOW)])
def test_a_surface_may_take_its_unseen_decisions_for_shown_when_they_were_made(wait: int, until: int) -> None:
    joined = Attribution(WINDOW, wait, rules={"home": SurfaceRules(learn_unseen=True)})
    for step in (DECIDED, ("reward", AT + WINDOW, ("b", 1.0)), ("reward", AT + WINDOW + 1, ("a", 1.0))):
        act(joined, step)
    assert list(joined.close(until)) == []
    (closed,) = joined.close(until + 1)
    assert (closed.verdict, closed.shown_at) == ("assumed", AT)
    assert (earned(closed, "a"), earned(closed, "b")) == (0.0, 1.0)


def test_an_early_reward_closes_nothing_earlier() -> None:
    joined = Attribution(WINDOW, WAIT)
    for step in (DECIDED, SHOWN, ("reward", AT + 101, ("b", 1.0))):
        act(joined, step)
    assert joined.next_due() == AT + 101 + WINDOW
    assert list(joined.close(AT + 100 + WINDOW)) == []
    (closed,) = joined.close(AT + 101 + WINDOW)
    assert closed.verdict == "outcome"


@pytest.mark.parametrize(
    ("rules", "worth"),
    [
        ({"rewards": "first"}, 0.4),
        ({}, 0.9),
        ({"rewards": "sum", "cap": 2.0}, 0.75),
        ({"rewards": "sum", "cap": 1.2}, 1.0),
    ],
)
def test_several_rewards_of_an_item_are_worth_what_the_rules_say(rules: dict[str, Any], worth: float) -> None:
    rewards: list[Step] = [("reward", AT + 200 + n, ("b", value)) for n, value in enumerate((0.4, 0.9, 0.2))]
    (closed,) = replay([rewards[1], DECIDED, rewards[2], SHOWN, rewards[0]])
    assert earned(closed, "b", **rules) == pytest.approx(worth, abs=1e-12)


def test_the_largest_reward_of_an_item_counts() -> None:
    rewards: list[Step] = [("reward", AT + 200 + n, ("b", value)) for n, value in enumerate((0.2, 0.9, 0.5))]
    (closed,) = replay([DECIDED, SHOWN, *rewards])
    assert earned(closed, "b") == 0.9


def test_a_larger_reward_after_the_window_does_not_hide_one_inside() -> None:
    inside: Step = ("reward", AT + 200, ("b", 0.3))
    after: Step = ("reward", AT + 100 + WINDOW + 1, ("b", 1.0))
    for order in ([inside, after], [after, inside]):
        (closed,) = replay([DECIDED, SHOWN, *order])
        assert earned(closed, "b") == 0.3


def test_a_decision_closes_once() -> None:
    joined = Attribution(WINDOW, WAIT)
    for step in (DECIDED, SHOWN):
        act(joined, step)
    assert len(list(joined.close(AT + 10**6))) == 1
    assert list(joined.close(AT + 10**7)) == []


@pytest.mark.parametrize("first", [DECIDED, SHOWN])
def test_nothing_is_due_where_no_decision_is_open(first: Step) -> None:
    joined = Attribution(WINDOW, WAIT)
    for step in (first, DECIDED, SHOWN):
        act(joined, step)
    due = joined.next_due()
    assert due is not None
    assert list(joined.close(due - 1)) == []
    assert len(list(joined.close(due))) == 1
    assert joined.next_due() is None


def test_decisions_close_in_the_order_of_their_deadlines() -> None:
    joined = Attribution(WINDOW, WAIT)
    for number, at in ((1, 500), (2, 100), (3, 300)):
        act(joined, ("decision", AT + at, None), f"d{number}")
        act(joined, ("impression", AT + at, ["a"]), f"d{number}")
    assert [closed.decision_id for closed in joined.close(AT + 10**6)] == ["d2", "d3", "d1"]


def test_whose_decisions_are_due_is_told_before_they_close() -> None:
    joined = Attribution(WINDOW, WAIT)
    for n in range(50):
        joined.on_decision(f"d{n}", f"u{n}", AT + n * 100, "home")
        joined.on_impression(f"d{n}", f"u{n}", AT + n * 100, ["a"], "home")
    watermark = AT + WINDOW + 2000
    assert joined.next_due() == AT + WINDOW + 1
    due = joined.subjects_due(watermark)
    assert {closed.entry.subject for closed in joined.close(watermark)} <= due
    assert due <= {f"u{n}" for n in range(50)}


def test_forgetting_a_subject_closes_nothing_of_it() -> None:
    joined = Attribution(WINDOW, WAIT)
    joined.on_decision("d1", "u1", AT, "home")
    joined.on_decision("d2", "u2", AT, "home")
    assert joined.forget("u1") == ["d1"]
    assert [closed.decision_id for closed in joined.close(AT + 10**6)] == ["d2"]


REWARDS = st.lists(
    st.tuples(
        st.integers(0, WINDOW + LATENESS), st.tuples(st.sampled_from("abc"), st.sampled_from([0.2, 0.5, 1.0]))
    ),
    max_size=8,
)


def judged(closed: Closed) -> tuple[str, int, list[str], list[float]]:
    rewards = [earned(closed, item) for item in "abc"]
    return closed.verdict, closed.shown_at, closed.entry.shown, rewards


@settings(deadline=None)
@given(st.integers(0, WAIT // 2), st.integers(0, WAIT // 2), REWARDS, st.randoms(use_true_random=False))
def test_no_order_of_arrival_within_lateness_changes_the_outcome(
    decided: int, shown: int, rewards: list[tuple[int, tuple[str, float]]], shuffle: random.Random
) -> None:
    """Arrival is event time plus any delay up to the lateness bound; the watermark trails by that bound."""
    steps: list[Step] = [
        ("decision", AT + decided, None),
        ("impression", AT + shown, ["a", "b", "c"]),
        *(("reward", AT + at, what) for at, what in rewards),
    ]
    in_order = replay(sorted(steps, key=lambda step: step[1]))
    arrivals = sorted(((step[1] + shuffle.randint(0, LATENESS), step) for step in steps), key=lambda a: a[0])
    joined = Attribution(WINDOW, WAIT)
    closed: list[Closed] = []
    for now, step in arrivals:
        watermark = now - LATENESS
        closed += joined.close(watermark)
        if step[1] >= watermark:
            act(joined, step)
    closed += joined.close(AT + 10**7)
    outcomes = [judged(one) for one in closed if one.verdict == "outcome"]
    assert outcomes == [judged(one) for one in in_order if one.verdict == "outcome"]
    assert len(outcomes) == 1


@given(REWARDS, st.randoms(use_true_random=False))
def test_rewards_are_remembered_alike_in_any_order(
    rewards: list[tuple[int, tuple[str, float]]], shuffle: random.Random
) -> None:
    steps: list[Step] = [DECIDED, SHOWN, *(("reward", AT + at, what) for at, what in rewards)]
    shuffled = steps.copy()
    shuffle.shuffle(shuffled)
    (one,), (other,) = replay(steps), replay(shuffled)
    assert one.entry.rewards == other.entry.rewards


@given(REWARDS, st.integers(0, 20))
def test_a_restart_between_any_two_steps_changes_nothing(
    rewards: list[tuple[int, tuple[str, float]]], cut: int
) -> None:
    steps: list[Step] = [*(("reward", AT + at, what) for at, what in rewards), DECIDED, SHOWN]
    first = Attribution(WINDOW, WAIT)
    for step in steps[:cut]:
        act(first, step)
    second = Attribution(WINDOW, WAIT, first.open)
    for step in steps[cut:]:
        act(second, step)
    assert [judged(one) for one in second.close(AT + 10**6)] == [judged(one) for one in replay(steps)]


@given(REWARDS)
def test_an_items_reward_is_the_best_inside_the_window(rewards: list[tuple[int, tuple[str, float]]]) -> None:
    (closed,) = replay([DECIDED, SHOWN, *(("reward", AT + at, what) for at, what in rewards)])
    for item in "abc":
        inside = [r for at, (name, r) in rewards if name == item and AT + at <= SHOWN[1] + WINDOW]
        assert earned(closed, item) == max(inside, default=0.0)


REWARD = st.builds(
    Reward, st.sampled_from([0.1, 0.2, 0.5, 1.0]), st.integers(0, 30), st.sampled_from(["", "x"])
)


def worths(rewards: list[Reward], until: int) -> list[float | None]:
    inside = [reward for reward in rewards if reward.at_ms <= until]
    rules = [SurfaceRules(rewards="first"), SurfaceRules(), SurfaceRules(rewards="sum", cap=0.3)]
    return [worth_of(inside, one) for one in rules]


@given(st.lists(REWARD, max_size=40), st.randoms(use_true_random=False), st.integers(0, 30))
def test_the_rewards_kept_of_an_item_are_few_and_depend_on_no_order(
    rewards: list[Reward], shuffle: random.Random, until: int
) -> None:
    """Few, and yet enough for the first, the largest, and a sum that reaches its cap within those kept."""
    kept: list[Reward] = []
    for reward in rewards:
        kept = with_reward(kept, reward)
    shuffle.shuffle(rewards)
    other: list[Reward] = []
    for reward in rewards:
        other = with_reward(other, reward)
    assert kept == other
    assert len(kept) <= FIRST_KEPT + 3
    every = sorted(rewards, key=lambda reward: (reward.at_ms, -reward.worth, reward.surface))
    assert worths(kept, until)[:2] == worths(every, until)[:2]
    assert worths(kept, until)[2] == pytest.approx(worths(every, until)[2])


def test_hostile_rewards_of_one_decision_stay_within_bounds() -> None:
    joined = Attribution(WINDOW, WAIT)
    act(joined, DECIDED)
    for n in range(5_000):
        act(joined, ("reward", AT + n, (f"i{n % 1000}", 0.5)))
        act(joined, ("impression", AT + n, ["a"]))
    entry = joined.open["d1"]
    assert len(entry.rewards) == ITEMS_KEPT
    assert sum(map(len, entry.rewards.values())) <= ITEMS_KEPT * FIRST_KEPT
    assert len(entry.again) == 16
    assert len(joined._due) <= 3
