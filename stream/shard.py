"""The folder's logic for one subject shard: events and a watermark in, one change out. No input or output."""

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from state.decoding import Refusal
from state.erasure import ErasureList
from state.events import SUBJECT_KINDS, Click, Decision, Feedback, Impression, User, encode
from state.feed import Interaction, ShardFeed, encode_feed
from state.imports import Imports
from state.keys import (
    attribution_key,
    bandit_key,
    counters_key,
    decision_key,
    decisions_of_key,
    erased_key,
    learnt_key,
    newcomers_key,
    open_key,
    producers_key,
    redriven_key,
    sessions_key,
    spending_key,
    trends_key,
    tried_key,
)
from state.opened import OpenDecision, Reward, decode_open
from state.rules import rules_of
from state.subject import SubjectRecord
from state.tokens import decision_time
from stream.admission import Admission, SubjectRow
from stream.attribution import NOTHING, OUTCOMES, Attribution, Closed
from stream.closing import Judged, judge, to_outcome
from stream.effects import Counters, Effects, Place, write_imports
from stream.exploring import Exploring
from stream.forgetting import Forgetting
from stream.history import History
from stream.interactions import feedback_interest, feedback_kind, hide_item, interact, note_impression
from stream.kept import Kept, decode_kept, encode_kept, keep
from stream.producers import Producers
from stream.redriven import Redriven
from stream.rows import Row
from stream.sessions import Sessions
from stream.shard_rules import ShardRules
from stream.shared import ShardPolicy, ShardTrends
from stream.subjects import Subjects
from stream.surfaces import SurfaceCounters, strays
from stream.sweep import sweep_due
from stream.users import HANDOVER, fold_user

_pack = msgspec.msgpack.Encoder().encode
_WATERMARK = "watermark"
_HASHES = (
    open_key,
    counters_key,
    attribution_key,
    sessions_key,
    trends_key,
    bandit_key,
    learnt_key,
    erased_key,
    producers_key,
    redriven_key,
    newcomers_key,
    spending_key,
    tried_key,
)


class ShardLogic:
    """Folds the events of one subject shard.

    Parameters
    ----------
    place
        The shard's key prefix, unit name and number.
    rules
        What it is told.
    """

    kinds = SUBJECT_KINDS

    def __init__(self, place: Place, rules: ShardRules) -> None:
        self.place, self.rules, self._heads = place, rules, sorted(rules.heads)
        self.subjects = Subjects(place.prefix, rules.subject_ttl_ms)
        self._fold_one: dict[str, Callable[[Row], None]] = {
            "impressions": self._impression,
            "clicks": self._click,
            "feedback": self._feedback,
            "users": self._user,
            "decisions": self._decision,
        }
        self._history = History(self.subjects, rules, self._user, self._count_history)

    @property
    def hashes(self) -> list[str]:
        """Hash keys to load before the first fold."""
        prefix = self.place.prefix
        return [key(prefix) for key in _HASHES]

    def restore(self, meta: Mapping[str, str], hashes: Mapping[str, dict[bytes, bytes]]) -> None:
        """Take in what the store holds of the shard."""
        prefix, rules = self.place.prefix, self.rules
        self.outbox_number = int(meta.get("outbox", "0"))
        self.counters = Counters(hashes[counters_key(prefix)])
        self.redriven = Redriven(prefix, hashes[redriven_key(prefix)])
        self.surfaces = SurfaceCounters(hashes[attribution_key(prefix)])
        self.producers = Producers(prefix, hashes[producers_key(prefix)])
        parts = (self.subjects, self.counters, self.surfaces, self.redriven, self.producers)
        keys = rules.erasure.keys
        self.admission = Admission(self.place, rules.shards, parts, keys)
        self.admission.late_before = int(meta.get(_WATERMARK, "0"))
        self.admission.imports = Imports(meta)
        self.sessions = Sessions(prefix, hashes[sessions_key(prefix)], rules.max_sessions)
        self._restore_open(hashes[open_key(prefix)])
        listed = ErasureList(keys, hashes[erased_key(prefix)])
        self.subjects.erased_at = listed.erased_at
        held = (self.subjects, self.sessions, self.attribution)
        self.forgetting = Forgetting(listed, held, rules.erasure, rules.shards)
        self.trends = ShardTrends(self.place, rules.half_lives_s, hashes[trends_key(prefix)])
        stored = (hashes[bandit_key(prefix)], hashes[learnt_key(prefix)])
        self.policy = ShardPolicy(prefix, rules.policy, stored, rules.block_life_ms)
        self.exploring = Exploring(
            prefix, (hashes[newcomers_key(prefix)], hashes[spending_key(prefix)], hashes[tried_key(prefix)])
        )

    def _restore_open(self, stored: Mapping[bytes, bytes]) -> None:
        opened: dict[str, OpenDecision] = {}
        self.decisions: dict[str, Kept] = {}
        for name, raw in stored.items():
            part, decision_id = name[:2], name[2:].decode()
            if part == b"a:":
                opened[decision_id] = decode_open(raw)
            else:
                self.decisions[decision_id] = decode_kept(raw)
        rules = self.rules
        self.attribution = Attribution(rules.window_ms, rules.wait_ms, opened, rules.attribution)

    def next_due(self) -> int | None:
        """Return the event time at which the next window closes, if any is open."""
        return self.attribution.next_due()

    def wanted(self, rows: Sequence[Row], watermark: int) -> list[str]:
        """Return the keys that have to be loaded before these rows can be folded."""
        due = self.attribution.subjects_due(watermark)
        subjects = [row.event.subject for row in rows if isinstance(row.event, SubjectRow)]
        self._wanted = self.subjects.missing([*subjects, *sorted(due)])
        return [self.subjects.key(subject) for subject in self._wanted]

    def put(self, values: Sequence[bytes | None]) -> None:
        """Take in the values of the wanted keys, in order."""
        self.subjects.put(dict(zip(self._wanted, values, strict=True)))

    def fold(self, rows: Sequence[Row], watermark: int) -> Effects:
        """Fold rows in order, then close every decision whose window is over.

        Lateness is judged by the watermark of the commit before: a backlog taken in one batch spans more time
        than the lateness bound, and must not make its own beginning late.
        """
        self.effects = Effects(self.place, self.counters, self.outbox_number)
        self.watermark, self.feed = watermark, ShardFeed(watermark=watermark)
        self._touched_open: set[str] = set()
        for row in rows:
            self._fold_row(row)
        self._close()
        if sweep_due(self.admission.late_before, watermark):
            self._sweep()
        self._write()
        self.outbox_number, self.admission.late_before = self.effects.outbox_number, watermark
        return self.effects

    def _fold_row(self, row: Row) -> None:
        is_admitted, self._is_redriven = False, bool(row.redrive)
        self.producers.arrived(row)
        try:
            is_admitted = self.admission.admits(row, self.effects)
            if is_admitted:
                (self._history.fold if row.imported else self._fold_one[row.kind])(row)
                self.redriven.take(row, self.effects)
        except Refusal as refusal:
            letter = self.effects.refuse(row, refusal.reason, str(refusal))
            self.producers.refused(row, refusal)
            if is_admitted:
                self.admission.take_back(row, letter)

    def _impression(self, row: Row) -> None:
        event = row.event
        assert isinstance(event, Impression)
        record = self.subjects.touch(event.subject)
        note_impression(record, event, self.rules.caps, keeps_its_time=self._is_redriven)
        decision_id = self._opened(event.decision, event)
        if decision_id is None:
            self.counters.add("unattributed.impressions")
            return
        shown = [item.item_id for item in event.items]
        first = self.attribution.on_impression(
            decision_id, event.subject, event.occurred_at, shown, event.surface
        )
        self.counters.add("shown" if first else "shown_again")
        self._touched_open.add(decision_id)

    def _click(self, row: Row) -> None:
        event = row.event
        assert isinstance(event, Click)
        record = self.subjects.touch(event.subject)
        record.clicks += 1
        self._interact(event, 1.0)
        self._reward(event, 1.0)

    def _feedback(self, row: Row) -> None:
        event = row.event
        assert isinstance(event, Feedback)
        kind = feedback_kind(self.rules.feedback, event)
        if kind.sign < 0:
            hide_item(self.subjects.touch(event.subject), event, self.rules.caps)
        else:
            self._interact(event, feedback_interest(kind, event.value) if kind.sign > 0 else 0.0)
        if kind.reward > 0:
            self._reward(event, kind.reward)
        heads = [name for name, rule in self.rules.heads.items() if rule.counts(event.kind, event.value)]
        if heads and event.decision is not None:
            self._label(event, event.decision, heads)

    def _label(self, event: Feedback, token: str, heads: Sequence[str]) -> None:
        """Note what feedback says of the heads; what belongs to no open decision is no loss to count."""
        decision_id = self.rules.signer.open(token, event.subject, event.occurred_at)
        if decision_id is None or self._is_over(decision_id, decision_time(decision_id)):
            return
        self.attribution.on_labels(decision_id, event.subject, event.item_id, heads, event.occurred_at)
        self._touched_open.add(decision_id)

    def _interact(self, event: Click | Feedback, interest: float) -> None:
        record = self.subjects.touch(event.subject)
        step = interact(record, event, interest, self.rules.caps, keeps_its_time=self._is_redriven)
        if step is not None:
            self.trends.count(step)
            self.feed.dropped_sessions += self.sessions.add(step, self.effects)
            self.feed.interactions.append(step)
            self._index_session(record, step)

    def _index_session(self, record: SubjectRecord, step: Interaction) -> None:
        for session in record.add_session(step.session):
            if self.sessions.remove(session, self.effects):
                self.feed.dropped_sessions.append(session)

    def _count_history(self, record: SubjectRecord, step: Interaction) -> None:
        self.trends.count(step)
        self.feed.dropped_sessions += self.sessions.insert(step, self.effects)
        self.feed.history.append(step)
        self._index_session(record, step)

    def _reward(self, event: Click | Feedback, reward: float) -> None:
        decision_id = self._opened(event.decision, event)
        if decision_id is None:
            self.counters.add("unattributed.rewards")
            return
        earned = Reward(reward, event.occurred_at, event.surface or "")
        self.attribution.on_reward(decision_id, event.subject, event.item_id, earned)
        self._touched_open.add(decision_id)

    def _opened(self, token: str | None, event: Impression | Click | Feedback) -> str | None:
        decision_id = None
        if token is not None:
            decision_id = self.rules.signer.open(token, event.subject, event.occurred_at)
            if decision_id is None:
                self.counters.add("forged_tokens")
                self.surfaces.add("forged", event.surface)
        if decision_id is not None and self._is_over(decision_id, decision_time(decision_id)):
            decision_id = None
        if decision_id is None:
            self.surfaces.add("unattributed", event.surface)
        return decision_id

    def _is_over(self, decision_id: str, decided_at: int) -> bool:
        """Return whether a re-driven event comes after its decision's window, which must not open again."""
        is_unknown = decision_id not in self.attribution.open
        return self._is_redriven and is_unknown and decided_at < self.admission.late_before

    def _decision(self, row: Row) -> None:
        event = row.event
        assert isinstance(event, Decision)
        kept = keep(event)
        key = decision_key(self.place.prefix, event.event_id)
        self.effects.change.values[key] = (row.raw or b"", self.rules.decision_ttl_ms)
        self._index(event.subject, self.subjects.touch(event.subject).add_decision(event.event_id))
        if self._is_over(event.event_id, event.occurred_at):
            self.counters.add("unattributed.decisions")
            return
        self.attribution.on_decision(event.event_id, event.subject, event.occurred_at, event.surface)
        if event.event_id not in self.decisions:
            self.exploring.decided(event.event_id, kept)
        self.decisions[event.event_id] = kept
        self.effects.write(open_key(self.place.prefix), f"d:{event.event_id}", encode_kept(kept))
        self._touched_open.add(event.event_id)

    def _index(self, subject: str, decisions: Sequence[str]) -> None:
        if decisions:
            index = decisions_of_key(self.place.prefix, subject)
            held = self.effects.change.indexed.setdefault(index, {})
            held |= dict.fromkeys(decisions, self.rules.decision_ttl_ms)

    def _user(self, row: Row) -> None:
        event = row.event
        assert isinstance(event, User)
        opened: Sequence[str] = ()
        if event.erase:
            opened = self.forgetting.erase(row, self.effects, self.feed)
        else:
            if event.consent == "none" and self.subjects.read(event.subject).consent != "none":
                opened = self.forgetting.forget(event, self.effects, self.feed)
            if event.user_id.startswith(HANDOVER):  # its record moves away, its decisions stay
                self._index(event.subject, self.subjects.read(event.subject).decisions)
            fold_user(event, self.subjects, self.effects, self.rules)
        for decision_id in opened:  # so that closing them writes nothing of the subject again
            self.counters.add("closed.forgotten")
            forgotten = self.decisions.pop(decision_id, None)
            if forgotten is not None:
                self.exploring.forgotten(forgotten)
            self._erase_open(decision_id)

    def _erase_open(self, decision_id: str) -> None:
        for part in ("a:", "d:"):
            self.effects.erase(open_key(self.place.prefix), part + decision_id)
        self._touched_open.discard(decision_id)

    def _close(self) -> None:
        outcomes: list[Judged] = []
        for closed in self.attribution.close(self.watermark):
            if closed.verdict != NOTHING:
                self.counters.add(f"closed.{closed.verdict}")
            decision = self.decisions.pop(closed.decision_id, None)
            self._erase_open(closed.decision_id)
            if decision is not None and closed.verdict in ("unseen", "assumed"):
                self.surfaces.add("unseen", decision.surface)
            if decision is None or closed.verdict not in OUTCOMES:
                self._count_strays(closed, ())
                if decision is not None:
                    self.exploring.forgotten(decision)
                continue
            judged = judge(closed, decision, rules_of(self.rules.attribution, decision.surface))
            items = [decision.slots[place].item_id for place in judged.places] if closed.entry.rewards else ()
            self._count_strays(closed, items)
            outcomes.append(judged)
        for judged in outcomes:
            self.exploring.closed(judged)
            self._send_outcome(judged)
        self._learn(outcomes)

    def _count_strays(self, closed: Closed, judged: Collection[str]) -> None:
        for surface in strays(closed, judged):
            self.surfaces.add("unattributed", surface)

    def _send_outcome(self, judged: Judged) -> None:
        lane = self.place.number % self.rules.lanes
        outcome = to_outcome(judged, lane, self.watermark, self._heads)
        self.counters.add(f"outcomes.{outcome.surface}")
        self.counters.add(f"rewarded.{outcome.surface}", int(any(judged.earned)))
        self.surfaces.add("closed", outcome.surface)
        self.surfaces.add("defaulted", outcome.surface, judged.earned.count(False))
        self.effects.send("outcomes", f"{outcome.surface}#{lane}".encode(), encode(outcome), lane)

    def _learn(self, outcomes: Sequence[Judged]) -> None:
        items = self.policy.learn(outcomes, self.subjects, self.watermark, self.effects)
        if items is not None:
            self.feed.bandit_shared, self.feed.bandit_items = True, items

    def _sweep(self) -> None:
        self.trends.sweep(self.watermark, self.effects)
        old = self.policy.sweep(self.watermark, self.effects)
        self.feed.bandit_shared |= self.policy.has_learnt
        self.feed.bandit_items = sorted({*self.feed.bandit_items, *old})
        self.exploring.sweep(self.watermark, self.effects)

    def _write(self) -> None:
        prefix, effects = self.place.prefix, self.effects
        self.redriven.expire(self.watermark, effects)
        for decision_id in sorted(self._touched_open):
            entry = self.attribution.open[decision_id]
            effects.write(open_key(prefix), f"a:{decision_id}", _pack(entry))
        self.trends.write(effects)
        self.surfaces.follow(self.attribution)
        for name, count in self.surfaces.take_moved().items():
            effects.write(attribution_key(prefix), name, count)
        self.subjects.write(effects, self.watermark)
        write_imports(self.admission.imports, effects)
        self.producers.write(effects)
        self.feed.exploring = self.exploring.write(self.watermark, effects)
        effects.change.feed = encode_feed(self.feed)
        effects.change.meta |= {"open": str(len(self.attribution.open)), _WATERMARK: str(self.watermark)}
