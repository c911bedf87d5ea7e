"""What a shard folds of exploration, once for each decision and once when it closes."""

from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct, field

from state.events import Slot
from state.exploring import (
    STRETCH_MS,
    STRETCHES,
    Progress,
    Stretch,
    Tried,
    decode_progress,
    decode_stretches,
    decode_tried,
    encode_folded,
    item_field,
    tried_field,
)
from state.feed import ExploringFeed
from state.keys import newcomers_key, spending_key, tried_key
from state.retention import LEDGER_KEPT_MS, TRIED_CAP
from state.tokens import decision_time
from stream.closing import Judged
from stream.effects import Effects
from stream.kept import Kept

Hashes = tuple[Mapping[bytes, bytes], Mapping[bytes, bytes], Mapping[bytes, bytes]]


class _Moved(Struct):
    newcomers: set[str] = field(default_factory=set)
    stretches: set[tuple[str, int]] = field(default_factory=set)
    tried: set[str] = field(default_factory=set)


class Exploring:
    """Progress of new items, spending of surfaces and results of versions in one shard.

    Parameters
    ----------
    prefix
        Key prefix of the shard.
    stored
        Its hashes of new items, spending and versions as loaded.
    """

    def __init__(self, prefix: str, stored: Hashes) -> None:
        newcomers, spending, tried = stored
        self._prefix = prefix
        self._newcomers = {name.decode(): decode_progress(raw) for name, raw in newcomers.items()}
        self._spending = {name.decode(): decode_stretches(raw) for name, raw in spending.items()}
        self._tried = {name.decode(): decode_tried(raw) for name, raw in tried.items()}
        self._moved = _Moved()
        self._dropped: list[str] = []

    def decided(self, decision_id: str, decision: Kept) -> None:
        """Take in a decision whose window opens."""
        at_ms, surface = decision_time(decision_id), decision.surface
        if any(slot.flag == "holdout" for slot in decision.slots):
            return
        tried = self._version(decision)
        tried.decided += 1
        tried.fallback += any(slot.flag == "fallback" for slot in decision.slots)
        tried.first_at, tried.last_at = tried.first_at or at_ms, max(tried.last_at, at_ms)
        taught = _taught(decision)
        if taught:
            stretch, explored = self._stretch(surface, at_ms), sum(slot.explored for slot in taught)
            stretch.slots += len(taught)
            stretch.explored += explored
            tried.explore(at_ms // STRETCH_MS, explored)
        for slot in taught:
            if slot.new:
                self._progress(surface, slot.item_id).pending += 1

    def forgotten(self, decision: Kept) -> None:
        """Take back what waits for a decision that nobody saw, or that will never close."""
        self._no_longer_pending(decision)

    def closed(self, judged: Judged) -> None:
        """Take in what a decision earned."""
        decision, at_ms = judged.decision, decision_time(judged.closed.decision_id)
        self._no_longer_pending(decision)
        slots = decision.slots
        earned = [
            (slots[place], reward)
            for place, reward in zip(judged.places, judged.rewards, strict=True)
            if not slots[place].flag
        ]
        if not earned:
            return
        stretch = self._stretch(decision.surface, at_ms)
        for slot, reward in earned:
            _earn(stretch, slot, reward)
            if slot.new:
                self._show(decision.surface, slot, reward, at_ms)
        _try(self._version(decision), earned)

    def _no_longer_pending(self, decision: Kept) -> None:
        for slot in _taught(decision):
            if slot.new:
                progress = self._progress(decision.surface, slot.item_id)
                progress.pending = max(0, progress.pending - 1)

    def _show(self, surface: str, slot: Slot, reward: float, at_ms: int) -> None:
        progress = self._progress(surface, slot.item_id)
        progress.shown += 1
        progress.explored += slot.explored
        progress.reward += reward
        progress.first_at = min(progress.first_at or at_ms, at_ms)
        progress.last_at = max(progress.last_at, at_ms)

    def _progress(self, surface: str, item_id: str) -> Progress:
        name = item_field(surface, item_id)
        self._moved.newcomers.add(name)
        return self._newcomers.setdefault(name, Progress())

    def _stretch(self, surface: str, at_ms: int) -> Stretch:
        number = at_ms // STRETCH_MS
        self._moved.stretches.add((surface, number))
        return self._spending.setdefault(surface, {}).setdefault(number, Stretch())

    def _version(self, decision: Kept) -> Tried:
        name = tried_field(decision.surface, decision.versions.exploration)
        self._moved.tried.add(name)
        return self._tried.setdefault(name, Tried())

    def sweep(self, watermark: int, effects: Effects) -> None:
        """Forget new items nothing has happened to for long, and spending that no sum asks for any longer."""
        self._sweep_spending(watermark, effects)
        over = sorted(
            name
            for name, one in self._newcomers.items()
            if not one.pending and one.last_at < watermark - LEDGER_KEPT_MS
        )
        for name in over:
            del self._newcomers[name]
            self._moved.newcomers.discard(name)
            effects.erase(newcomers_key(self._prefix), name)
        self._dropped += over

    def write(self, watermark: int, effects: Effects) -> ExploringFeed | None:
        """Put what moved into the change; returns what servers have to know of it, if anything."""
        moved, self._moved = self._moved, _Moved()
        newcomers = [(name, self._newcomers[name]) for name in sorted(moved.newcomers)]
        for name, progress in newcomers:
            effects.write(newcomers_key(self._prefix), name, encode_folded(progress))
        self._write_tried(moved.tried, effects)
        stretches = self._write_spending(moved.stretches, watermark, effects)
        dropped, self._dropped = self._dropped, []
        return ExploringFeed(newcomers, stretches, dropped) if newcomers or stretches or dropped else None

    def _write_tried(self, moved: Collection[str], effects: Effects) -> None:
        for name in sorted(moved):
            effects.write(tried_key(self._prefix), name, encode_folded(self._tried[name]))
        if len(self._tried) > TRIED_CAP:
            oldest = sorted(self._tried, key=lambda name: (self._tried[name].last_at, name))
            for name in oldest[: len(self._tried) - TRIED_CAP]:
                del self._tried[name]
                effects.erase(tried_key(self._prefix), name)

    def _sweep_spending(self, watermark: int, effects: Effects) -> None:
        """Prune surfaces where nothing moves; the others are pruned as they are written."""
        oldest, moved = _oldest(watermark), {surface for surface, _ in self._moved.stretches}
        for surface in sorted(self._spending.keys() - moved):
            if min(self._spending[surface], default=0) < oldest:
                self._prune(surface, oldest, effects)

    def _prune(self, surface: str, oldest: int, effects: Effects) -> None:
        """Write the spending of a surface from one stretch on; nothing of one that has been silent since."""
        kept = {number: one for number, one in sorted(self._spending[surface].items()) if number >= oldest}
        if kept:
            self._spending[surface] = kept
            effects.write(spending_key(self._prefix), surface, encode_folded(kept))
        else:
            del self._spending[surface]
            effects.erase(spending_key(self._prefix), surface)

    def _write_spending(
        self, moved: Iterable[tuple[str, int]], watermark: int, effects: Effects
    ) -> list[tuple[str, int, Stretch]]:
        oldest, places = _oldest(watermark), sorted(moved)
        told = [
            (surface, number, self._spending[surface][number])
            for surface, number in places
            if number >= oldest
        ]
        for surface in sorted({surface for surface, _ in places}):
            self._prune(surface, oldest, effects)
        return told


def _oldest(watermark: int) -> int:
    return watermark // STRETCH_MS - STRETCHES


def _taught(decision: Kept) -> list[Slot]:
    return [slot for slot in decision.slots if not slot.flag]


def _earn(stretch: Stretch, slot: Slot, reward: float) -> None:
    if slot.explored:
        stretch.explored_shown += 1
        stretch.explored_reward += reward
    else:
        stretch.exploited_shown += 1
        stretch.exploited_reward += reward


def _try(tried: Tried, earned: list[tuple[Slot, float]]) -> None:
    total = sum(reward for _, reward in earned)
    tried.closed += 1
    tried.reward += total
    tried.reward_squares += total * total
    explored = [reward for slot, reward in earned if slot.explored]
    tried.explored += len(explored)
    tried.explored_reward += sum(explored)
    # Slots of one decision share a visitor and a moment: their sum is squared, as one round's.
    tried.explored_squares += sum(explored) ** 2
