"""Sessions into a session index and co-visitation: many at once, and as the change feed tells of them."""

from collections.abc import Callable, Sequence

import numpy as np

from online_models.covisit import CoVisits
from online_models.session_knn import SessionIndex
from serving.items import ItemTable
from state.feed import NO_SESSION, Interaction, ShardFeed

Indexes = tuple[SessionIndex, CoVisits]
Session = tuple[int, tuple[Sequence[str], Sequence[int]]]
"""A session's hash, its items and their times, ms."""


def newest_at(session: Session) -> int:
    """Return when a session was last touched, ms."""
    return session[1][1][-1] if session[1][1] else 0


def add_sessions(items: ItemTable, sessions: Sequence[Session], indexes: Indexes) -> None:
    """Take in whole sessions, in the order given."""
    index, covisits = indexes
    keys: list[int] = []
    rows: list[int] = []
    times: list[int] = []
    for session, (item_ids, at_ms) in sessions:
        found = [items.row(item_id) for item_id in item_ids]
        covisits.add_session(found)
        keys += [session] * len(found)
        rows += found
        times += at_ms
    index.add_many(np.array(keys, np.int64), np.array(rows, np.int64), np.array(times, np.int64))


def add_step(indexes: Indexes, session: int, row: int, at_ms: int) -> None:
    """Take in one interaction."""
    index, covisits = indexes
    covisits.add(index.session_items(session), row)
    index.add(session, row, at_ms)


def follow_entry(
    items: ItemTable, entry: ShardFeed, indexes: Indexes, admits: Callable[[Interaction, int], bool]
) -> None:
    """Take in one commit of a subject shard.

    Parameters
    ----------
    items
        Gives items their rows.
    entry
        The commit; its history is left to whoever can take it in by time.
    indexes
        Where to.
    admits
        Asked before each interaction, with its row, whether it is to be taken in.
    """
    for session in entry.erased_sessions:
        indexes[0].remove_session(session)
    for step in entry.interactions:
        row = items.row(step.item_id)
        if admits(step, row) and step.session != NO_SESSION:
            add_step(indexes, step.session, row, step.at_ms)
    for session in entry.dropped_sessions:
        indexes[0].remove_session(session)
