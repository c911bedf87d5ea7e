"""The open decisions of one shard: what belongs to each, and what becomes of one whose window is over."""

from collections.abc import Collection, Mapping, Sequence

from state.events import Click, Decision, Feedback, Impression, encode
from state.exploration import VISITOR
from state.keys import open_key
from state.opened import OpenDecision, Reward, decode_open, encode_open
from state.rules import rules_of
from state.tokens import decision_time
from stream.attribution import NOTHING, OUTCOMES, Attribution, Closed
from stream.closing import Judged, judge, to_outcome
from stream.effects import Counters, Effects, Place
from stream.exploring import Exploring
from stream.kept import Kept, decode_kept, encode_kept
from stream.shard_rules import ShardRules
from stream.surfaces import SurfaceCounters, strays

FACETS_TOLD = 4
"""Facets of a visit that an interaction is told of with."""
Told = Impression | Click | Feedback
Parts = tuple[Counters, SurfaceCounters, Exploring]


class OpenDecisions:
    """Joins what clients tell with the decisions it belongs to, and closes these in time.

    Parameters
    ----------
    place, rules
        The shard, and what it is told.
    stored
        The hash of open decisions as loaded.
    parts
        The shard's counters, those by surface, and what it folds of exploration.
    """

    def __init__(self, place: Place, rules: ShardRules, stored: Mapping[bytes, bytes], parts: Parts) -> None:
        self._place, self._rules, self._heads = place, rules, sorted(rules.heads)
        self._counters, self._surfaces, self._exploring = parts
        self._key, self._touched = open_key(place.prefix), set[str]()
        self._latest: tuple[Told, str | None] | None = None  # a reaction asks twice
        opened: dict[str, OpenDecision] = {}
        self._kept: dict[str, Kept] = {}
        for name, raw in stored.items():
            part, decision_id = name[:2], name[2:].decode()
            if part == b"a:":
                opened[decision_id] = decode_open(raw)
            else:
                self._kept[decision_id] = decode_kept(raw)
        self.attribution = Attribution(rules.window_ms, rules.wait_ms, opened, rules.attribution)

    def begin(self, effects: Effects, late_before: int) -> None:
        """Begin a micro-batch; a decision made before `late_before` that is not open has closed."""
        self._effects, self._late_before = effects, late_before

    def decide(self, event: Decision, kept: Kept, *, is_redriven: bool) -> None:
        """Open a decision that a server logged."""
        decision_id = event.event_id
        if is_redriven and self._is_over(decision_id, event.occurred_at):
            self._counters.add("unattributed.decisions")
            return
        self.attribution.on_decision(decision_id, event.subject, event.occurred_at, event.surface)
        if decision_id not in self._kept:
            self._exploring.decided(decision_id, kept)
        self._kept[decision_id] = kept
        self._effects.write(self._key, f"d:{decision_id}", encode_kept(kept))
        self._touched.add(decision_id)

    def show(self, event: Impression, *, is_redriven: bool) -> None:
        """Note an impression."""
        decision_id = self._counted(event, self._named(event), is_redriven=is_redriven)
        if decision_id is None:
            self._counters.add("unattributed.impressions")
            return
        shown = [item.item_id for item in event.items]
        first = self.attribution.on_impression(
            decision_id, event.subject, event.occurred_at, shown, event.surface
        )
        self._counters.add("shown" if first else "shown_again")
        self._touched.add(decision_id)

    def react(
        self, event: Click | Feedback, reward: float, heads: Sequence[str] = (), *, is_redriven: bool
    ) -> None:
        """Note what a reaction earns its decision: a reward, heads, or both.

        Where it earns no reward, it is no loss if its heads belong to no open decision.
        """
        if reward <= 0 and not heads:
            return
        named = self._named(event)
        if reward > 0:
            decision_id = self._counted(event, named, is_redriven=is_redriven)
            self._reward(event, decision_id, reward)
        else:
            decision_id = self._still_open(named, is_redriven=is_redriven)
        if heads and decision_id is not None:
            at_ms = event.occurred_at
            self.attribution.on_labels(decision_id, event.subject, event.item_id, heads, at_ms)
            self._touched.add(decision_id)

    def _reward(self, event: Click | Feedback, decision_id: str | None, reward: float) -> None:
        if decision_id is None:
            self._counters.add("unattributed.rewards")
            return
        earned = Reward(reward, event.occurred_at, event.surface or "")
        self.attribution.on_reward(decision_id, event.subject, event.item_id, earned)
        self._touched.add(decision_id)

    def where(self, event: Click | Feedback) -> tuple[str, list[str]]:
        """Return the surface of a reaction, and the facets of the visit as its open decision knows them."""
        named = self._named(event)
        kept = None if named is None else self._kept.get(named)
        if kept is None:
            return event.surface or "", []
        facets = [f"{name}:{value}" for name, value in sorted(kept.facets.items()) if name != VISITOR]
        return event.surface or kept.surface, facets[:FACETS_TOLD]

    def _named(self, event: Told) -> str | None:
        """Return the decision an event truly names."""
        if event.decision is None:
            return None
        if self._latest is None or self._latest[0] is not event:
            self._latest = event, self._rules.signer.open(event.decision, event.subject, event.occurred_at)
        return self._latest[1]

    def _counted(self, event: Told, named: str | None, *, is_redriven: bool) -> str | None:
        """Return the open decision an event belongs to; without one, it is counted."""
        if named is None and event.decision is not None:
            self._counters.add("forged_tokens")
            self._surfaces.add("forged", event.surface)
        decision_id = self._still_open(named, is_redriven=is_redriven)
        if decision_id is None:
            self._surfaces.add("unattributed", event.surface)
        return decision_id

    def _still_open(self, named: str | None, *, is_redriven: bool) -> str | None:
        if named is not None and is_redriven and self._is_over(named, decision_time(named)):
            return None
        return named

    def _is_over(self, decision_id: str, decided_at: int) -> bool:
        """Return whether a re-driven event comes after its decision's window, which must not open again."""
        return decision_id not in self.attribution.open and decided_at < self._late_before

    def forget(self, decision_ids: Sequence[str]) -> None:
        """Leave nothing of decisions that attribution has forgotten, so that they write nothing any more."""
        for decision_id in decision_ids:
            self._counters.add("closed.forgotten")
            self._leave(self._take(decision_id))

    def close(self, watermark: int) -> list[Judged]:
        """Close every decision whose window is over, and send the outcomes; returns them."""
        outcomes = []
        for closed in self.attribution.close(watermark):
            if closed.verdict != NOTHING:
                self._counters.add(f"closed.{closed.verdict}")
            judged = self._judged(closed, self._take(closed.decision_id))
            if judged is not None:
                outcomes.append(judged)
        for judged in outcomes:
            self._exploring.closed(judged)
            self._send(judged, watermark)
        return outcomes

    def _judged(self, closed: Closed, kept: Kept | None) -> Judged | None:
        """Return what a closed decision is worth; None where it sends no outcome."""
        if kept is not None and closed.verdict in ("unseen", "assumed"):
            self._surfaces.add("unseen", kept.surface)
        if kept is None or closed.verdict not in OUTCOMES:
            self._count_strays(closed, ())
            self._leave(kept)
            return None
        judged = judge(closed, kept, rules_of(self._rules.attribution, kept.surface))
        items = [kept.slots[place].item_id for place in judged.places] if closed.entry.rewards else ()
        self._count_strays(closed, items)
        return judged

    def _count_strays(self, closed: Closed, judged: Collection[str]) -> None:
        for surface in strays(closed, judged):
            self._surfaces.add("unattributed", surface)

    def _send(self, judged: Judged, watermark: int) -> None:
        lane = self._place.number % self._rules.lanes
        outcome = to_outcome(judged, lane, watermark, self._heads)
        self._counters.add(f"outcomes.{outcome.surface}")
        self._counters.add(f"rewarded.{outcome.surface}", int(any(judged.earned)))
        self._surfaces.add("closed", outcome.surface)
        self._surfaces.add("defaulted", outcome.surface, judged.earned.count(False))
        self._effects.send("outcomes", f"{outcome.surface}#{lane}".encode(), encode(outcome), lane)

    def _leave(self, kept: Kept | None) -> None:
        if kept is not None:
            self._exploring.forgotten(kept)

    def _take(self, decision_id: str) -> Kept | None:
        """Take out what is kept of a decision that is open no longer."""
        for part in ("a:", "d:"):
            self._effects.erase(self._key, part + decision_id)
        self._touched.discard(decision_id)
        return self._kept.pop(decision_id, None)

    def write(self) -> None:
        """Put the decisions that something was noted of into the change."""
        for decision_id in sorted(self._touched):
            self._effects.write(
                self._key, f"a:{decision_id}", encode_open(self.attribution.open[decision_id])
            )
        self._touched.clear()
        self._surfaces.follow(self.attribution)
        self._effects.change.meta["open"] = str(len(self.attribution.open))
