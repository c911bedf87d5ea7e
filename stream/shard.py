"""The folder's logic for one subject shard: events and a watermark in, one change out. No input or output."""

from collections.abc import Callable, Mapping, Sequence

from state.decoding import Refusal
from state.erasure import ErasureList
from state.events import SUBJECT_KINDS, Click, Decision, Feedback, Impression, User
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
from stream.admission import Admission, SubjectRow
from stream.closing import Judged
from stream.counted import SharedStatistics
from stream.effects import Counters, Effects, Place, write_imports
from stream.exploring import Exploring
from stream.forgetting import Forgetting
from stream.history import History
from stream.interactions import feedback_kind, interact, note_impression, take_feedback
from stream.kept import keep
from stream.open_decisions import OpenDecisions
from stream.producers import Producers
from stream.redriven import Redriven
from stream.rows import Row
from stream.sessions import Sessions
from stream.shard_rules import ShardRules
from stream.shared import ShardPolicy, ShardTrends
from stream.subjects import Subjects
from stream.surfaces import SurfaceCounters
from stream.sweep import sweep_due
from stream.users import HANDOVER, fold_user

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
        self.place, self.rules = place, rules
        self.subjects = Subjects(place.prefix, rules.subject_ttl_ms)
        self._fold_one: dict[str, Callable[[Row], None]] = {
            "impressions": self._impression,
            "clicks": self._click,
            "feedback": self._feedback,
            "users": self._user,
            "decisions": self._decision,
        }

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
        self.exploring = Exploring(
            prefix, (hashes[newcomers_key(prefix)], hashes[spending_key(prefix)], hashes[tried_key(prefix)])
        )
        told = (self.counters, self.surfaces, self.exploring)
        self.opened = OpenDecisions(self.place, rules, hashes[open_key(prefix)], told)
        listed = ErasureList(keys, hashes[erased_key(prefix)])
        self.subjects.erased_at = listed.erased_at
        held = (self.subjects, self.sessions, self.opened.attribution)
        self.forgetting = Forgetting(listed, held, rules.erasure, rules.shards)
        self.trends = ShardTrends(self.place, rules.half_lives_s, hashes[trends_key(prefix)])
        self.shared = SharedStatistics(self.trends, self.sessions)
        self._history = History(self.subjects, rules, self._user, self.shared.insert)
        stored = (hashes[bandit_key(prefix)], hashes[learnt_key(prefix)])
        self.policy = ShardPolicy(prefix, rules.policy, stored, rules.block_life_ms)

    def next_due(self) -> int | None:
        """Return the event time at which the next window closes, if any is open."""
        return self.opened.attribution.next_due()

    def wanted(self, rows: Sequence[Row], watermark: int) -> list[str]:
        """Return the keys that have to be loaded before these rows can be folded."""
        due = self.opened.attribution.subjects_due(watermark)
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
        self.opened.begin(self.effects, self.admission.late_before)
        self.shared.begin(self.effects, self.feed)
        for row in rows:
            self._fold_row(row)
        self._learn(self.opened.close(watermark))
        if sweep_due(self.admission.late_before, watermark):
            self._sweep()
        self._write()
        self.outbox_number, self.admission.late_before = self.effects.outbox_number, watermark
        return self.effects

    def _fold_row(self, row: Row) -> None:
        is_admitted = False
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
        note_impression(record, event, self.rules.caps, keeps_its_time=bool(row.redrive))
        self.opened.show(event, is_redriven=bool(row.redrive))

    def _click(self, row: Row) -> None:
        event = row.event
        assert isinstance(event, Click)
        record, redriven = self.subjects.touch(event.subject), bool(row.redrive)
        record.clicks += 1
        step = interact(record, event, 1.0, self.rules.caps, keeps_its_time=redriven)
        self._count(event, step)
        self.opened.react(event, 1.0, is_redriven=redriven)

    def _feedback(self, row: Row) -> None:
        event = row.event
        assert isinstance(event, Feedback)
        kind = feedback_kind(self.rules.feedback, event)
        record, redriven = self.subjects.touch(event.subject), bool(row.redrive)
        step = take_feedback(record, event, kind, self.rules.caps, keeps_its_time=redriven)
        self._count(event, step)
        heads = [name for name, rule in self.rules.heads.items() if rule.counts(event.kind, event.value)]
        self.opened.react(event, kind.reward, heads, is_redriven=redriven)

    def _count(self, event: Click | Feedback, step: Interaction | None) -> None:
        if step is not None:
            step.surface, step.facets = self.opened.where(event)
            self.shared.count(self.subjects.touch(event.subject), step)

    def _decision(self, row: Row) -> None:
        event = row.event
        assert isinstance(event, Decision)
        kept = keep(event)
        key = decision_key(self.place.prefix, event.event_id)
        self.effects.change.values[key] = (row.raw or b"", self.rules.decision_ttl_ms)
        self._index(event.subject, self.subjects.touch(event.subject).add_decision(event.event_id))
        self.opened.decide(event, kept, is_redriven=bool(row.redrive))

    def _index(self, subject: str, decisions: Sequence[str]) -> None:
        if decisions:
            index = decisions_of_key(self.place.prefix, subject)
            held = self.effects.change.indexed.setdefault(index, {})
            held |= dict.fromkeys(decisions, self.rules.decision_ttl_ms)

    def _user(self, row: Row) -> None:
        event = row.event
        assert isinstance(event, User)
        forgotten: Sequence[str] = ()
        if event.erase:
            forgotten = self.forgetting.erase(row, self.effects, self.feed)
        else:
            if event.consent == "none" and self.subjects.read(event.subject).consent != "none":
                forgotten = self.forgetting.forget(event, self.effects, self.feed)
            if event.user_id.startswith(HANDOVER):  # its record moves away, its decisions stay
                self._index(event.subject, self.subjects.read(event.subject).decisions)
            fold_user(event, self.subjects, self.effects, self.rules)
        self.opened.forget(forgotten)

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
        self.opened.write()
        self.trends.write(effects)
        for name, count in self.surfaces.take_moved().items():
            effects.write(attribution_key(prefix), name, count)
        self.subjects.write(effects, self.watermark)
        write_imports(self.admission.imports, effects)
        self.producers.write(effects)
        self.feed.exploring = self.exploring.write(self.watermark, effects)
        effects.change.feed = encode_feed(self.feed)
        effects.change.meta[_WATERMARK] = str(self.watermark)
