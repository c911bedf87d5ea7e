"""The ledger of new items on a surface: what each has had and is still owed, and what exploration cost."""

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
    state: State
    if shown >= quota.impressions:
        state, since = "graduated", max(one.last_at for one in shards)
    elif now_ms >= ends:
        state, since = "retired", ends
    elif shown or pending:
        state, since = "exploring", begun
    else:
        state, since = "new", at_ms
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


def count_states(items: Sequence[Newcomer]) -> dict[State, int]:
    """Return how many items are in each state."""
    counts = Counter(one.state for one in items)
    return {state: counts[state] for state in STATES}


def read_ledger(live: LiveState, surface: str, now_ms: int) -> LedgerAnswer:
    """Return the ledger of a surface as a server knows it, with all items."""
    document = live.laws(surface, now_ms).document
    answer = LedgerAnswer(surface, now_ms, document.quota, count_states(()))
    answer.cost_last_hour = round(live.ledger.spent(surface, now_ms), 6)
    answer.cost_per_hour = document.cost_per_hour
    answer.allowed = live.ledger.allowed(surface, document, live.budget.cost_per_hour, now_ms)
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
    rows += [row for item_id in met if (row := items.find(item_id)) is not None]
    return {items.ids[row]: int(published[row]) for row in rows}
