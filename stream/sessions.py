"""The shard's recent sessions, kept in the store so that any server can build its session index."""

import heapq
from bisect import bisect_right
from collections.abc import Mapping

from state.feed import Interaction
from state.keys import sessions_key
from state.retention import RECENT_CAP
from state.sessions import SessionRow, decode_session, encode_session
from stream.effects import Effects


class Sessions:
    """Recent sessions of one shard, bounded by recency.

    Parameters
    ----------
    prefix
        Key prefix of the shard.
    stored
        The sessions hash as loaded.
    cap
        Sessions kept; the one touched longest ago, in event time, leaves first.
    """

    def __init__(self, prefix: str, stored: Mapping[bytes, bytes], cap: int) -> None:
        self._key, self._cap = sessions_key(prefix), cap
        self._rows: dict[int, SessionRow] = {int(name): decode_session(raw) for name, raw in stored.items()}
        self._rank_by_age()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, step: Interaction, effects: Effects) -> list[int]:
        """Append an interaction; returns the sessions that had to leave for it."""
        return self._put(step, len(self._row(step).items), effects)

    def insert(self, step: Interaction, effects: Effects) -> list[int]:
        """Put in an interaction where its time says; returns the sessions that had to leave for it."""
        return self._put(step, bisect_right(self._row(step).at_ms, step.at_ms), effects)

    def _row(self, step: Interaction) -> SessionRow:
        return self._rows.setdefault(step.session, SessionRow())

    def _put(self, step: Interaction, place: int, effects: Effects) -> list[int]:
        row = self._rows[step.session]
        row.items.insert(place, step.item_id)
        row.at_ms.insert(place, step.at_ms)
        del row.items[:-RECENT_CAP], row.at_ms[:-RECENT_CAP]
        heapq.heappush(self._ages, (_touched_at(row), step.session))
        effects.write(self._key, str(step.session), encode_session(row))
        return self._evict(effects)

    def remove(self, session: int, effects: Effects) -> bool:
        """Remove one session; returns whether it was there."""
        if self._rows.pop(session, None) is None:
            return False
        effects.erase(self._key, str(session))
        return True

    def _evict(self, effects: Effects) -> list[int]:
        gone = []
        while len(self._rows) > self._cap:
            at_ms, session = heapq.heappop(self._ages)
            row = self._rows.get(session)
            if row is not None and _touched_at(row) == at_ms:
                self.remove(session, effects)
                gone.append(session)
        if len(self._ages) > 4 * len(self._rows) + 64:
            self._rank_by_age()
        return gone

    def _rank_by_age(self) -> None:
        self._ages = [(_touched_at(row), session) for session, row in self._rows.items()]
        heapq.heapify(self._ages)


def _touched_at(row: SessionRow) -> int:
    return row.at_ms[-1] if row.at_ms else 0
