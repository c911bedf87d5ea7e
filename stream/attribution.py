"""Joins decisions, impressions and rewards inside a window of event time.

Pure: events and a watermark go in, closed decisions come out. What comes out depends on the events' times
alone, not on the order they arrive in, as long as none is late.
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from state.opened import OpenDecision, Reward
from state.rules import SurfaceRules, rules_of
from stream.rewards import with_reward

ITEMS_KEPT = 200
"""Items of one decision whose rewards are kept: as many as an impression may list."""
IMPRESSIONS_KEPT = 16
NOTHING = "nothing"
"""Verdict on feedback that is worth nothing and whose decision never arrived, or has closed."""
OUTCOMES = ("outcome", "assumed")
"""Verdicts that send an outcome."""


class Closed(Struct):
    """A decision whose time is over.

    Attributes
    ----------
    decision_id, entry
        The decision, and what was known of it.
    verdict
        ``outcome`` (decided and shown), ``assumed`` (decided, never shown, of a surface that learns from
        such), ``unseen`` (decided, never shown), ``orphan`` (its decision never arrived) or ``nothing``.
    shown_at, until
        When it was shown, or is assumed to have been, and the last moment of its window, ms.
    """

    decision_id: str
    entry: OpenDecision
    verdict: str
    shown_at: int
    until: int

    def inside(self, item_id: str) -> list[Reward]:
        """Return an item's rewards inside the window, earliest first."""
        return [reward for reward in self.entry.rewards.get(item_id, ()) if reward.at_ms <= self.until]

    def earned(self, item_id: str) -> list[str]:
        """Return the heads an item earned inside the window."""
        labels = self.entry.labels.get(item_id)
        return sorted([head for head, at_ms in labels.items() if at_ms <= self.until]) if labels else []


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
    rules
        Surface -> its rules.
    """

    def __init__(
        self,
        window_ms: int,
        wait_ms: int,
        opened: Mapping[str, OpenDecision] | None = None,
        rules: Mapping[str, SurfaceRules] | None = None,
    ) -> None:
        self._window_ms, self._wait_ms, self._rules = window_ms, wait_ms, rules or {}
        self.open: dict[str, OpenDecision] = dict(opened or {})
        self._moved: Counter[str] = Counter()
        self._due_at = {decision_id: self._deadline(entry) for decision_id, entry in self.open.items()}
        self._due: list[tuple[int, str]] = [(at_ms, name) for name, at_ms in self._due_at.items()]
        heapq.heapify(self._due)

    def on_decision(self, decision_id: str, subject: str, at_ms: int, surface: str) -> None:
        """Note a logged decision."""
        entry = self._entry(decision_id, subject, at_ms)
        before = pending_surface(entry)
        entry.decided, entry.surface = True, surface
        self._count_pending(before, entry)
        self._schedule(decision_id, entry)

    def on_impression(
        self, decision_id: str, subject: str, at_ms: int, shown: list[str], surface: str
    ) -> bool:
        """Note that a decision was shown, its earliest impression counts; returns whether none was known."""
        entry = self._entry(decision_id, subject, at_ms)
        before, is_first, other = pending_surface(entry), not entry.shown_at, (at_ms, surface)
        if is_first or (at_ms, shown, surface) < (entry.shown_at, entry.shown, entry.shown_on):
            other = (entry.shown_at, entry.shown_on)
            entry.shown_at, entry.shown, entry.shown_on = at_ms, shown, surface
        if not is_first:
            entry.again = sorted([*entry.again, other])[:IMPRESSIONS_KEPT]
        self._count_pending(before, entry)
        self._schedule(decision_id, entry)
        return is_first

    def on_reward(self, decision_id: str, subject: str, item_id: str, reward: Reward) -> None:
        """Note a reward for one item of a decision."""
        entry = self._entry(decision_id, subject, reward.at_ms)
        known = entry.rewards.get(item_id)
        if known is not None or len(entry.rewards) < ITEMS_KEPT:
            entry.rewards[item_id] = with_reward(known or (), reward)
        self._schedule(decision_id, entry)

    def on_labels(
        self, decision_id: str, subject: str, item_id: str, heads: Sequence[str], at_ms: int
    ) -> None:
        """Note that feedback earned heads for one item of a decision."""
        entry = self._entry(decision_id, subject, at_ms)
        known = entry.labels.get(item_id)
        if known is None and len(entry.labels) < ITEMS_KEPT:
            known = entry.labels[item_id] = {}
        if known is not None:
            known |= {head: min(at_ms, known.get(head, at_ms)) for head in heads}
        self._schedule(decision_id, entry)

    def forget(self, subject: str) -> list[str]:
        """Take out every open decision of a subject; returns their ids."""
        gone = [decision_id for decision_id, entry in self.open.items() if entry.subject == subject]
        for decision_id in gone:
            self._take_out(decision_id)
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
        """Return when the next decision closes, ms of event time, if nothing more is heard of it."""
        while self._due and self._due_at.get(self._due[0][1]) != self._due[0][0]:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def close(self, watermark: int) -> Iterator[Closed]:
        """Take out and yield every decision whose time is over, earliest first."""
        while self._due and self._due[0][0] <= watermark:
            due_at, decision_id = heapq.heappop(self._due)
            if self._due_at.get(decision_id) == due_at:
                yield self._closed(decision_id, self._take_out(decision_id))

    def take_moved(self) -> dict[str, int]:
        """Return by how much the number of open decisions of each surface moved, and forget it."""
        moved = {surface: by for surface, by in self._moved.items() if by}
        self._moved.clear()
        return moved

    def _entry(self, decision_id: str, subject: str, at_ms: int) -> OpenDecision:
        entry = self.open.get(decision_id)
        if entry is None:
            entry = self.open[decision_id] = OpenDecision(subject, at_ms)
            self._moved[pending_surface(entry)] += 1
        entry.first_at = min(entry.first_at, at_ms)
        return entry

    def _take_out(self, decision_id: str) -> OpenDecision:
        del self._due_at[decision_id]
        entry = self.open.pop(decision_id)
        self._moved[pending_surface(entry)] -= 1
        return entry

    def _schedule(self, decision_id: str, entry: OpenDecision) -> None:
        due_at = self._deadline(entry)
        if due_at != self._due_at.get(decision_id):
            self._due_at[decision_id] = due_at
            heapq.heappush(self._due, (due_at, decision_id))

    def _count_pending(self, before: str, entry: OpenDecision) -> None:
        surface = pending_surface(entry)
        if surface != before:
            self._moved[before] -= 1
            self._moved[surface] += 1

    def _is_shown(self, entry: OpenDecision) -> bool:
        return 0 < entry.shown_at <= entry.first_at + self._wait_ms

    def _is_assumed(self, entry: OpenDecision) -> bool:
        return entry.decided and rules_of(self._rules, entry.surface).learn_unseen

    def _deadline(self, entry: OpenDecision) -> int:
        """Return the first watermark at which nothing that could still count is missing.

        A watermark leaves room for events of its own moment: the last that counts must lie before it.
        """
        if self._is_shown(entry):
            return entry.shown_at + self._window_ms + 1
        wait_ms = max(self._wait_ms, self._window_ms) if self._is_assumed(entry) else self._wait_ms
        return entry.first_at + wait_ms + 1

    def _closed(self, decision_id: str, entry: OpenDecision) -> Closed:
        is_shown = self._is_shown(entry)
        verdict = "outcome" if is_shown else "assumed" if self._is_assumed(entry) else "unseen"
        shown_at = entry.shown_at if is_shown else entry.first_at
        if not entry.decided:
            verdict = "orphan" if entry.shown_at or entry.rewards else NOTHING
        return Closed(decision_id, entry, verdict, shown_at, shown_at + self._window_ms)


def pending_surface(entry: OpenDecision) -> str:
    """Return the surface an open decision is counted under; empty where none is known yet."""
    return entry.surface or entry.shown_on
