"""Sessions into a recommender: many at once, and as the change feed tells of them."""

from collections.abc import Callable, Sequence

from online_models.retrieval import Recommender
from serving.items import ItemTable
from state.feed import Interaction, ShardFeed

Session = tuple[int, tuple[Sequence[str], Sequence[int]]]
"""A session's hash, its items and their times, ms."""


def newest_at(session: Session) -> int:
    """Return when a session was last touched, ms."""
    return session[1][1][-1] if session[1][1] else 0


def add_sessions(
    items: ItemTable, sessions: Sequence[Session], recommender: Recommender, *, lessons: bool
) -> None:
    """Take in whole sessions, in the order given, and let the blend learn of them or not."""
    keys: list[int] = []
    rows: list[int] = []
    times: list[int] = []
    for session, (item_ids, at_ms) in sessions:
        keys += [session] * len(item_ids)
        rows += [items.row(item_id) for item_id in item_ids]
        times += at_ms
    recommender.add_many(keys, rows, times, lessons=lessons)


def follow_entry(
    items: ItemTable, entry: ShardFeed, recommender: Recommender, take: Callable[[Interaction, int], None]
) -> None:
    """Take in one commit of a subject shard.

    Parameters
    ----------
    items
        Gives items their rows.
    entry
        The commit; its history is left to whoever can take it in by time.
    recommender
        Where to.
    take
        Called for each interaction, with its row, to take it in.
    """
    for session in entry.erased_sessions:
        recommender.remove_session(session)
    for step in entry.interactions:
        take(step, items.row(step.item_id))
    for session in entry.dropped_sessions:
        recommender.remove_session(session)
