"""Joins decisions, impressions and rewards inside a window of event time.

Pure: events and a watermark go in, closed decisions come out.
"""

import heapq
from collections.abc import Iterator, Mapping

from msgspec import Struct

from state.opened import OpenDecision


class Closed(Struct):
    """A decision whose time is over.

    ``verdict`` is ``outcome`` (decided and shown), ``unseen`` (decided, never shown) or ``orphan``
    (an impression or reward whose decision never arrived).
    """

    decision_id: str
    entry: OpenDecision
    verdict: str

    def reward(self, item_id: str, window_ms: int) -> float:
        """Return an item's reward; 0 where none arrived inside the window after the impression."""
        last = self.entry.shown_at + window_ms
        return max((reward for reward, at in self.entry.rewards.get(item_id, ()) if at <= last), default=0.0)


class Attribution:
    """Open decisions of one shard and when each is due.

    Parameters
    ----------
    window_ms
        Event time a reward may arrive after its impression.
    wait_ms
        How long a decision, or a reward without one, waits for its other half.
    opened
        Entries as stored.
    """

    def __init__(
        self, window_ms: int, wait_ms: int, opened: Mapping[str, OpenDecision] | None = None
    ) -> None:
        self._window_ms, self._wait_ms = window_ms, wait_ms
        self.open: dict[str, OpenDecision] = dict(opened or {})
        self._due: list[tuple[int, str]] = [(self._deadline(e), d) for d, e in self.open.items()]
        heapq.heapify(self._due)

    def on_decision(self, decision_id: str, subject: str, at_ms: int) -> None:
        """Note a logged decision."""
        self._entry(decision_id, subject, at_ms).decided = True

    def on_impression(self, decision_id: str, subject: str, at_ms: int, shown: list[str]) -> bool:
        """Note that a decision was shown; only the first impression of a decision counts."""
        entry = self._entry(decision_id, subject, at_ms)
        if entry.shown_at:
            return False
        entry.shown_at, entry.shown = at_ms, shown
        heapq.heappush(self._due, (self._deadline(entry), decision_id))
        return True

    def on_reward(self, decision_id: str, subject: str, at_ms: int, item: tuple[str, float]) -> None:
        """Note a reward for one item of a decision."""
        entry = self._entry(decision_id, subject, at_ms)
        item_id, reward = item
        known = entry.rewards.get(item_id, [])
        if all(at > at_ms or other < reward for other, at in known):
            kept = [(other, at) for other, at in known if at < at_ms or other > reward]
            entry.rewards[item_id] = sorted([*kept, (reward, at_ms)], key=_when)

    def forget(self, subject: str) -> list[str]:
        """Take out every open decision of a subject; returns their ids."""
        gone = [decision_id for decision_id, entry in self.open.items() if entry.subject == subject]
        for decision_id in gone:
            del self.open[decision_id]
        return gone

    def subjects_due(self, watermark: int) -> set[str]:
        """Return the subjects whose decisions `close` would close."""
        due, stack = set(), [0]
        while stack:  # walks only the part of the heap that is due
            index = stack.pop()
            if index < len(self._due) and self._due[index][0] <= watermark:
                entry = self.open.get(self._due[index][1])
                if entry is not None:
                    due.add(entry.subject)
                stack += (2 * index + 1, 2 * index + 2)
        return due

    def next_due(self) -> int | None:
        """Return when the next decision may close, ms of event time."""
        return self._due[0][0] if self._due else None

    def close(self, watermark: int) -> Iterator[Closed]:
        """Take out and yield every decision whose time is over, earliest first."""
        while self._due and self._due[0][0] <= watermark:
            due_at, decision_id = heapq.heappop(self._due)
            entry = self.open.get(decision_id)
            if entry is not None and self._deadline(entry) == due_at:
                del self.open[decision_id]
                yield Closed(decision_id, entry, _verdict(entry))

    def _entry(self, decision_id: str, subject: str, at_ms: int) -> OpenDecision:
        entry = self.open.get(decision_id)
        if entry is None:
            entry = self.open[decision_id] = OpenDecision(subject, at_ms)
            heapq.heappush(self._due, (self._deadline(entry), decision_id))
        return entry

    def _deadline(self, entry: OpenDecision) -> int:
        return entry.shown_at + self._window_ms if entry.shown_at else entry.first_at + self._wait_ms


def _when(reward: tuple[float, int]) -> int:
    return reward[1]


def _verdict(entry: OpenDecision) -> str:
    if not entry.decided:
        return "orphan"
    return "outcome" if entry.shown_at else "unseen"
