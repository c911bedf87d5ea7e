"""Steady visits of many users, and the exact truth of what they published."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from serving.requests import RecommendationAnswer
from tests.integration.rig import Rig, click_on, feedback_on, impression_of

VISITS_EACH = 8
"""After so many, on average, others come: who has seen a whole catalogue gets slates nobody learns from."""


@dataclass
class Truth:
    """What was published: events by kind, by subject, and what each decision earned."""

    events: Counter[str] = field(default_factory=Counter)
    impressions: Counter[str] = field(default_factory=Counter)
    clicks: Counter[str] = field(default_factory=Counter)
    shown: dict[str, list[str]] = field(default_factory=dict)
    rewards: dict[str, set[str]] = field(default_factory=dict)


class Visits:
    """Asks for slates at a steady rate, shows every one, clicks on some and likes some.

    Parameters
    ----------
    rig
        The engine.
    users
        How many different users visit at a time.
    seed
        Of what they do.
    """

    def __init__(self, rig: Rig, users: int = 40, seed: int = 7) -> None:
        self._rig, self._users, self._random = rig, users, random.Random(seed)
        self._stopped = asyncio.Event()
        self.truth = Truth()

    def stop(self) -> None:
        """Let the visits under way be the last."""
        self._stopped.set()

    async def run(self, rate: float) -> None:
        """Visit until stopped, so many visits a second."""
        started, number = time.monotonic(), 0
        running: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as group:
            while not self._stopped.is_set():
                before = number // (VISITS_EACH * self._users) * self._users
                task = group.create_task(self.visit(f"user-{before + self._random.randrange(self._users)}"))
                running.add(task)
                task.add_done_callback(running.discard)
                number += 1
                await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))

    async def visit(self, user: str) -> None:
        """Ask, show, and perhaps click and like."""
        answer = await self._rig.ask(user, k=5)
        assert answer.items, f"an empty answer of rung {answer.rung}"
        await self.show(user, answer)

    async def show(self, user: str, answer: RecommendationAnswer) -> None:
        """Publish an impression of a slate, and perhaps a click and a like."""
        truth, rig = self.truth, self._rig
        clicked = self._random.choice(answer.items).item_id if self._random.random() < 0.4 else None
        liked = self._random.choice(answer.items).item_id if self._random.random() < 0.2 else None
        truth.shown[answer.decision_id] = [item.item_id for item in answer.items]
        truth.rewards[answer.decision_id] = {item for item in (clicked, liked) if item is not None}
        await rig.publish(impression_of(user, answer))
        truth.events["impressions"] += 1
        truth.impressions[user] += 1
        if clicked is not None:
            await rig.publish(click_on(user, clicked, answer.decision))
            truth.events["clicks"] += 1
            truth.clicks[user] += 1
        if liked is not None:
            await rig.publish(feedback_on(user, liked, decision=answer.decision))
            truth.events["feedback"] += 1


async def assert_exact(rig: Rig, truth: Truth) -> None:
    """Wait until every window has closed; then counts, records and outcomes equal the truth exactly."""
    shown = len(truth.shown)
    await rig.counts(**truth.events, decisions=shown)
    folded = await rig.learnt(shown)
    counted = {kind: folded.subjects.get(kind, 0) for kind in ("impressions", "clicks", "feedback")}
    assert counted == dict(truth.events), folded.subjects
    assert not [name for name in folded.subjects if name.endswith(".late")], folded.subjects
    assert folded.subjects["decisions"] == folded.subjects["shown"] == shown
    assert folded.closed == folded.learnt == shown
    assert folded.refused == 0
    await _assert_records(rig, truth)
    await _assert_outcomes(rig, truth)


async def _assert_records(rig: Rig, truth: Truth) -> None:
    for user, impressions in truth.impressions.items():
        record = await rig.subject(user)
        assert (record.impressions, record.clicks) == (impressions, truth.clicks[user]), user


async def _assert_outcomes(rig: Rig, truth: Truth) -> None:
    outcomes = {outcome.event_id: outcome for outcome in await rig.events("outcomes", len(truth.shown))}
    assert outcomes.keys() == truth.shown.keys()
    for decision_id, outcome in outcomes.items():
        assert [slot.item_id for slot in outcome.slots] == truth.shown[decision_id]
        rewarded = {slot.item_id for slot in outcome.slots if slot.reward > 0}
        assert rewarded == truth.rewards[decision_id], decision_id
