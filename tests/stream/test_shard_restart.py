"""A restart at any commit is invisible: what is stored decides everything that follows."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.rows import Row
from tests.stream.folding import AT, Folded, click, decision, feedback, impression, profile, shard

WINDOW = 20_000
TOLD: dict[str, Any] = {
    "attribution_window_s": 20.0,
    "decision_wait_s": 15.0,
    "lateness_s": 5.0,
    "max_sessions": 5,
}
Batch = tuple[Sequence[Row], int]


def traffic(seed: int, visits: int = 60) -> list[Batch]:
    """Return batches of everything that can happen, out of order, some of it too late."""
    rng = random.Random(seed)
    timed: list[tuple[int, Row]] = []
    for n in range(visits):
        at = AT + 700 * n
        user: Any = rng.choice(["u1", "u2", "u3", "u4", None])
        who: dict[str, Any] = {"user": user, "session_id": f"s{rng.randrange(3)}"}
        decided = {"user": user} if user else {"user": "u9"}
        token = n if user else None
        items = rng.sample("abcdefgh", 3)
        steps: list[Row] = [
            decision(items, at=at, number=n, **decided),
            impression(items, at=at + 50, decision=token, **who),
        ]
        if rng.random() < 0.6:
            steps.append(click(rng.choice(items), at=at + 400, decision=token, **who))
        if rng.random() < 0.4:
            kind = rng.choice(["like", "hide", "rating", "dwell", "nonsense"])
            steps.append(feedback(kind, rng.choice(items), at=at + 500, value=3.0, decision=token, **who))
        if rng.random() < 0.1:
            event: Any = rng.choice(
                [{"consent": "none"}, {"consent": "full"}, {"attributes": {"n": float(n)}}]
            )
            steps.append(profile(f"u{rng.randrange(1, 5)}", at=at + 600 + n, **event))
        if rng.random() < 0.05:
            steps.append(profile(f"u{rng.randrange(1, 5)}", at=at + 650 + n, erase=True))
        if rng.random() < 0.1:
            steps.append(rng.choice(steps))
        delay = 5_000 if rng.random() < 0.9 else 15_000
        timed += [(one.received_at + rng.randrange(delay), one) for one in steps]
    timed.sort(key=lambda pair: pair[0])
    batches: list[Batch] = []
    while timed:
        size = rng.randrange(1, 25)
        part, timed = timed[:size], timed[size:]
        batches.append(([one for _, one in part], part[-1][0] - 5_000))
    return [*batches, ([], AT + 10**6), ([], AT + 10**7)]


def run(batches: Sequence[Batch], restarts: frozenset[int] = frozenset()) -> Folded:
    """Fold batches, restarting from the store before those numbered."""
    folded = shard(**TOLD)
    for number, (rows, watermark) in enumerate(batches):
        if number in restarts:
            again = shard(folded.store, **TOLD)
            again.sent, again.feeds = folded.sent, folded.feeds
            folded = again
        folded.fold(rows, watermark)
    return folded


@pytest.mark.parametrize("seed", range(4))
def test_the_traffic_of_these_tests_reaches_every_corner(seed: int) -> None:
    folded = run(traffic(seed, 200))
    names = [
        "closed.outcome", "rewarded.home", "unattributed.rewards", "no_consent", "erased", "feedback",
        "clicks.duplicate", "clicks.late", "refused.unknown_feedback",
    ]  # fmt: skip
    assert {name: folded.count(name) > 0 for name in names} == dict.fromkeys(names, True)
    assert folded.hash("open") == {}
    assert len(folded.hash("sessions")) <= 5


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.sets(st.integers(0, 40)))
def test_restarts_at_any_commits_leave_the_same_bytes_in_the_store(seed: int, restarts: set[int]) -> None:
    batches = traffic(seed)
    plain, broken = run(batches), run(batches, frozenset(restarts))
    assert broken.store.state() == plain.store.state()
    assert broken.sent == plain.sent
    assert broken.feeds == plain.feeds


def test_a_restart_before_every_single_commit_leaves_the_same_bytes() -> None:
    batches = traffic(77, 120)
    plain, broken = run(batches), run(batches, frozenset(range(1, len(batches))))
    assert broken.store.state() == plain.store.state()


def test_a_batch_that_was_folded_but_not_committed_leaves_no_trace() -> None:
    """A fenced commit throws the memory away; the next owner folds the same rows from the store."""
    batches = traffic(5)
    plain = run(batches)
    folded = shard(**TOLD)
    for number, (rows, watermark) in enumerate(batches):
        if number % 3 == 1:
            lost = shard(folded.store, **TOLD)
            lost.logic.put([lost.store.values.get(key) for key in lost.logic.wanted(rows, watermark)])
            lost.logic.fold(rows, watermark).finish()
            again = shard(folded.store, **TOLD)
            again.sent = folded.sent
            folded = again
        folded.fold(rows, watermark)
    assert folded.store.state() == plain.store.state()
    assert folded.sent == plain.sent


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10_000))
def test_a_store_that_forgot_nothing_is_all_a_shard_needs(seed: int) -> None:
    """The subjects in memory are a cache: one record of room gives the same bytes."""
    batches = traffic(seed, 30)
    plain, small = run(batches), shard(**TOLD)
    small.logic.subjects._cap = 1  # type: ignore[attr-defined]
    for rows, watermark in batches:
        small.fold(rows, watermark)
    assert small.store.state() == plain.store.state()
