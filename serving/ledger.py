"""The ledger of new items on a surface: what each has had and is still owed, and what exploration cost."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from msgspec import Struct, field

from serving.live import LiveState
from serving.newcomers import HOUR_MS
from state.exploration import Quota
from state.exploring import Progress

State = Literal["new", "exploring", "graduated", "retired"]
COUNT_EVERY_S = 10.0
COUNTED_AT_ONCE = 200
STATES: tuple[State, ...] = ("new", "exploring", "graduated", "retired")


class Newcomer(Struct):
    """One item in the ledger.

    Attributes
    ----------
    item_id, state
        ``new`` had nothing yet, ``exploring`` something, ``graduated`` its quota in time, ``retired`` not.
    since
        Since when it is in that state, ms.
    published_at
        When it came, ms.
    impressions, exploratory, pending
        Eligible impressions, those of slots that explored, and slots decided whose window is still open.
    rewards
        What the impressions earned.
    """

    item_id: str
    state: State
    since: int
    published_at: int
    impressions: int
    exploratory: int
    pending: int
    rewards: float


class LedgerAnswer(Struct):
    """The ledger of one surface.

    Attributes
    ----------
    surface, as_of
        Whose, and when, ms.
    quota
        What new items are owed now; None for nothing.
    states
        State -> how many items.
    cost_last_hour, cost_per_hour, allowed
        What exploration cost in the last hour, what it may cost, in rewards, and the share of its rate that
        budgets leave; 0 cost where no budget or guardrail asks is still measured.
    items
        Those asked for, the youngest first.
    """

    surface: str
    as_of: int
    quota: Quota | None
    states: dict[State, int]
    cost_last_hour: float = 0.0
    cost_per_hour: float | None = None
    allowed: float = 1.0
    items: list[Newcomer] = field(default_factory=list)


def newcomers(
    quota: Quota, progress: Mapping[str, Sequence[Progress]], published: Mapping[str, int], now_ms: int
) -> list[Newcomer]:
    """Return the ledger's items, the youngest first.

    Parameters
    ----------
    quota
        What each is owed.
    progress
        Item -> what it has had in each shard.
    published
        Item -> when it came, ms: of all with progress, and of all that are new.
    now_ms
        The present.
    """
    rows = [
        _newcomer(item_id, quota, progress.get(item_id, ()), at, now_ms) for item_id, at in published.items()
    ]
    return sorted(rows, key=lambda one: (-one.published_at, one.item_id))


def _newcomer(item_id: str, quota: Quota, shards: Sequence[Progress], at_ms: int, now_ms: int) -> Newcomer:
    shown, pending = sum(one.shown for one in shards), sum(one.pending for one in shards)
    begun = min((one.first_at for one in shards if one.first_at), default=at_ms)
    ends = at_ms + round(quota.hours * HOUR_MS)
    state = state_of(quota, shown, shown + pending, now_ms >= ends)
    since = {"retired": ends, "exploring": begun, "new": at_ms}.get(state, 0)
    if state == "graduated":
        since = max(one.last_at for one in shards)
    return Newcomer(
        item_id=item_id,
        state=state,
        since=since,
        published_at=at_ms,
        impressions=shown,
        exploratory=sum(one.explored for one in shards),
        pending=pending,
        rewards=sum(one.reward for one in shards),
    )


def state_of(quota: Quota, shown: int, begun: int, is_over: bool) -> State:
    """Return the state of an item: impressions it had, with open ones too, and whether its time is over."""
    if shown >= quota.impressions:
        return "graduated"
    if is_over:
        return "retired"
    return "exploring" if begun else "new"


def count_states(items: Sequence[Newcomer]) -> dict[State, int]:
    """Return how many items are in each state."""
    counts = Counter(one.state for one in items)
    return {state: counts[state] for state in STATES}


def exploration_cost(live: LiveState, surface: str, now_ms: int) -> tuple[float, float]:
    """Return what exploration cost on a surface in the last hour, and the share of its rate budgets leave."""
    document = live.laws(surface, now_ms).document
    allowed = live.ledger.allowed(surface, document, live.budget.cost_per_hour, now_ms)
    return round(live.ledger.spent(surface, now_ms), 6), allowed


def read_ledger(live: LiveState, surface: str, now_ms: int) -> LedgerAnswer:
    """Return the ledger of a surface as a server knows it, with all items."""
    document = live.laws(surface, now_ms).document
    answer = LedgerAnswer(surface, now_ms, document.quota, count_states(()))
    answer.cost_last_hour, answer.allowed = exploration_cost(live, surface, now_ms)
    answer.cost_per_hour = document.cost_per_hour
    if document.quota is not None:
        progress = live.ledger.on_surface(surface)
        answer.items = newcomers(
            document.quota, progress, _published(live, document.quota, progress, now_ms), now_ms
        )
        answer.states = count_states(answer.items)
    return answer


def _published(live: LiveState, quota: Quota, met: Mapping[str, object], now_ms: int) -> dict[str, int]:
    """Return when each new item, and each item with progress that is still in the catalogue, came."""
    items, count = live.items, len(live.items)
    published = items.published_at[:count]
    new = (published > now_ms - quota.hours * HOUR_MS) & (published <= now_ms) & items.available[:count]
    rows = np.flatnonzero(new).tolist()
    rows += [row for item_id in met if (row := items.find(item_id)) is not None and items.available[row]]
    return {items.ids[row]: int(published[row]) for row in rows}


class LedgerCounts:
    """How many items of each surface are in each state, counted again and again beside the requests.

    A catalogue may be new as a whole: building the ledger of all its items would hold up every request.

    Parameters
    ----------
    live
        Whose ledger.
    """

    def __init__(self, live: LiveState) -> None:
        self._live = live
        self.states: dict[str, dict[State, int]] = {}

    async def run(self) -> None:
        """Count for ever."""
        while True:
            await self.count(time.time_ns() // 1_000_000)
            await asyncio.sleep(COUNT_EVERY_S)

    async def count(self, now_ms: int) -> None:
        """Count once, a few items at a time."""
        live = self._live
        quotas = {
            surface: document.quota
            for surface in {"home", *live.surfaces}
            if (document := live.laws(surface, now_ms).document).quota is not None
        }
        counts: dict[str, Counter[State]] = {surface: Counter() for surface in {"home", *live.surfaces}}
        untouched = {surface: self._newly_published(quota, now_ms) for surface, quota in quotas.items()}
        for number, name in enumerate(live.ledger.names()):
            if number % COUNTED_AT_ONCE == 0:
                await asyncio.sleep(0)
            surface, _, item_id = name.partition(":")
            quota, row = quotas.get(surface), live.items.find(item_id)
            if quota is None or row is None or not live.items.available[row]:
                continue
            progress = live.ledger.progress(surface, item_id)
            shown, pending = sum(one.shown for one in progress), sum(one.pending for one in progress)
            at_ms = int(live.items.published_at[row])
            is_over = now_ms >= at_ms + round(quota.hours * HOUR_MS)
            counts[surface][state_of(quota, shown, shown + pending, is_over)] += 1
            untouched[surface] -= at_ms <= now_ms and not is_over
        for surface, count in untouched.items():
            counts[surface]["new"] += max(0, count)
        self.states = {
            surface: {state: found[state] for state in STATES} for surface, found in counts.items()
        }

    def _newly_published(self, quota: Quota, now_ms: int) -> int:
        items, count = self._live.items, len(self._live.items)
        published = items.published_at[:count]
        new = (published > now_ms - round(quota.hours * HOUR_MS)) & (published <= now_ms)
        return int(np.count_nonzero(new & items.available[:count]))
