"""The folder's logic for one subject shard: events and a watermark in, one change out. No input or output."""

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
from msgspec import Struct

from bandits.hybrid import HybridConfig, ShardLearner
from online_models.trends import Trends
from state.decoding import Refusal
from state.events import SUBJECT_KINDS, Click, Decision, Feedback, Impression, User, encode
from state.feed import Interaction, ShardFeed, encode_feed
from state.keys import (
    bandit_key,
    counters_key,
    decision_key,
    open_key,
    producers_key,
    sessions_key,
    trends_key,
)
from state.packing import FloatArray, pack_vector, unpack_vector
from state.sessions import session_hash
from state.settings import FeedbackKind
from state.tokens import TokenSigner
from stream.admission import Admission, SubjectRow
from stream.attribution import Attribution, OpenDecision
from stream.closing import (
    Judged,
    Kept,
    decode_kept,
    encode_kept,
    judge,
    keep,
    learn_policy,
    to_outcome,
)
from stream.effects import Counters, Effects, Place
from stream.interactions import Caps, add_interaction, begin_or_continue_session, feedback_interest
from stream.producers import Producers
from stream.rows import Row
from stream.sessions import Sessions
from stream.subjects import Subjects
from stream.users import fold_user

_open_decoder = msgspec.msgpack.Decoder(OpenDecision)
_pack = msgspec.msgpack.Encoder().encode
SHARED = "shared"
_WATERMARK = "watermark"


class ShardRules(Struct, frozen=True):
    """Everything a shard's logic is told: sizes, times (ms), caps, the registry and the policy."""

    shards: int
    lanes: int
    window_ms: int
    wait_ms: int
    lateness_ms: int
    subject_ttl_ms: int
    decision_ttl_ms: int
    max_sessions: int
    caps: Caps
    feedback: Mapping[str, FeedbackKind]
    signer: TokenSigner
    policy: HybridConfig
    half_lives_s: tuple[float, ...]


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
        keys = (open_key, counters_key, producers_key, sessions_key, trends_key, bandit_key)
        return [key(prefix) for key in keys]

    def restore(self, meta: Mapping[str, str], hashes: Mapping[str, dict[bytes, bytes]]) -> None:
        """Take in what the store holds of the shard."""
        prefix, rules = self.place.prefix, self.rules
        self.outbox_number = int(meta.get("outbox", "0"))
        self.counters = Counters(hashes[counters_key(prefix)])
        self.producers = Producers(prefix, hashes[producers_key(prefix)])
        parts = (self.subjects, self.counters, self.producers)
        self.admission = Admission(self.place, rules.shards, parts)
        self.admission.late_before = int(meta.get(_WATERMARK, "0"))
        self.sessions = Sessions(prefix, hashes[sessions_key(prefix)], rules.max_sessions)
        self._restore_open(hashes[open_key(prefix)])
        self._restore_trends(hashes[trends_key(prefix)])
        blocks = {name.decode(): unpack_vector(raw) for name, raw in hashes[bandit_key(prefix)].items()}
        shared = blocks.pop(SHARED, None)
        self.learner = ShardLearner(rules.policy, shared, {name[2:]: b for name, b in blocks.items()})

    def _restore_open(self, stored: Mapping[bytes, bytes]) -> None:
        opened: dict[str, OpenDecision] = {}
        self.decisions: dict[str, Kept] = {}
        for name, raw in stored.items():
            part, decision_id = name[:2], name[2:].decode()
            if part == b"a:":
                opened[decision_id] = _open_decoder.decode(raw)
            else:
                self.decisions[decision_id] = decode_kept(raw)
        self.attribution = Attribution(self.rules.window_ms, self.rules.wait_ms, opened)

    def _restore_trends(self, stored: Mapping[bytes, bytes]) -> None:
        self.trends = Trends(self.rules.half_lives_s)
        self._rows: dict[str, int] = {}
        for name, raw in stored.items():
            state = unpack_vector(raw).reshape(-1, 1 + 2 * len(self.rules.half_lives_s))
            self.trends.put_row(self.place.number, self._row(name.decode()), state)

    def _row(self, item_id: str) -> int:
        return self._rows.setdefault(item_id, len(self._rows))

    def next_due(self) -> int | None:
        """Return the event time at which the next window closes, if any is open."""
        return self.attribution.next_due()

    def wanted(self, rows: Sequence[Row], watermark: int) -> list[str]:
        """Return the keys that have to be loaded before these rows can be folded."""
        due = self.attribution.subjects_due(max(watermark, self._latest_possible(rows)))
        subjects = [row.event.subject for row in rows if isinstance(row.event, SubjectRow)]
        self._wanted = self.subjects.missing([*subjects, *sorted(due)])
        return [self.subjects.key(subject) for subject in self._wanted]

    def _latest_possible(self, rows: Sequence[Row]) -> int:
        return max((row.received_at for row in rows), default=0)

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
        self._moved: dict[str, int] = {}
        self._touched_open: set[str] = set()
        for row in rows:
            self._fold_row(row)
        self._close()
        self._write()
        self.outbox_number, self.admission.late_before = self.effects.outbox_number, watermark
        return self.effects

    def _fold_row(self, row: Row) -> None:
        self.producers.arrived(row)
        try:
            if self.admission.admits(row, self.effects):
                self._fold_one[row.kind](row)
        except Refusal as refusal:
            self.effects.refuse(row, refusal.reason, str(refusal))
            self.producers.refused(row, refusal)

    def _impression(self, row: Row) -> None:
        event = row.event
        assert isinstance(event, Impression)
        record = self.subjects.touch(event.subject)
        begin_or_continue_session(record, event.session_id, event.occurred_at, self.rules.caps.idle_ms)
        record.events += 1
        record.impressions += 1
        decision_id = self._opened(event.decision, event)
        if decision_id is None:
            self.counters.add("unattributed.impressions")
            return
        shown = [item.item_id for item in event.items]
        first = self.attribution.on_impression(decision_id, event.subject, event.occurred_at, shown)
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
        kind = self.rules.feedback.get(event.kind)
        if kind is None:
            known = ", ".join(sorted(self.rules.feedback))
            raise Refusal("unknown_feedback", "kind", event.kind, f"one of {known}")
        if kind.sign < 0:
            self._hide(event)
        else:
            self._interact(event, feedback_interest(kind, event.value) if kind.sign > 0 else 0.0)
        if kind.reward > 0:
            self._reward(event, kind.reward)

    def _hide(self, event: Feedback) -> None:
        record = self.subjects.touch(event.subject)
        record.events += 1
        record.last_at = max(record.last_at, event.occurred_at)
        if event.item_id in record.hidden:
            return
        if len(record.hidden) >= self.rules.caps.hidden:
            wished = f"at most {self.rules.caps.hidden} hidden items of one subject"
            raise Refusal("hidden_full", "item_id", event.item_id, wished)
        record.hidden.append(event.item_id)

    def _interact(self, event: Click | Feedback, interest: float) -> None:
        record = self.subjects.touch(event.subject)
        begin_or_continue_session(record, event.session_id, event.occurred_at, self.rules.caps.idle_ms)
        record.events += 1
        step = add_interaction(record, event, interest, self.rules.caps)
        if step is not None:
            self._count(step)

    def _count(self, step: Interaction) -> None:
        row = self._row(step.item_id)
        self.trends.add(row, step.at_ms, step.interest)
        self._moved[step.item_id] = row
        self.feed.dropped_sessions += self.sessions.add(step, self.effects)
        self.feed.interactions.append(step)

    def _reward(self, event: Click | Feedback, reward: float) -> None:
        decision_id = self._opened(event.decision, event)
        if decision_id is None:
            self.counters.add("unattributed.rewards")
            return
        self.attribution.on_reward(decision_id, event.subject, event.occurred_at, (event.item_id, reward))
        self._touched_open.add(decision_id)

    def _opened(self, token: str | None, event: Impression | Click | Feedback) -> str | None:
        if token is None:
            return None
        decision_id = self.rules.signer.open(token, event.subject, event.occurred_at)
        if decision_id is None:
            self.counters.add("forged_tokens")
        return decision_id

    def _decision(self, row: Row) -> None:
        event = row.event
        assert isinstance(event, Decision)
        kept = keep(event)
        self.attribution.on_decision(event.event_id, event.subject, event.occurred_at)
        self.decisions[event.event_id] = kept
        key = decision_key(self.place.prefix, event.event_id)
        self.effects.change.values[key] = (row.raw or b"", self.rules.decision_ttl_ms)
        self.effects.write(open_key(self.place.prefix), f"d:{event.event_id}", encode_kept(kept))
        self._touched_open.add(event.event_id)

    def _user(self, row: Row) -> None:
        assert isinstance(row.event, User)
        subject = row.event.subject
        session = session_hash(subject, self.subjects.read(subject).session_id)
        fold_user(row.event, self.subjects, self.effects, self.rules.shards)
        if row.event.erase or self.subjects.read(subject).consent == "none":
            self._forget_open(subject)
            if self.sessions.remove(session, self.effects):
                self.feed.dropped_sessions.append(session)

    def _forget_open(self, subject: str) -> None:
        """Drop a subject's open decisions, so that closing them writes nothing of it again."""
        for decision_id in self.attribution.forget(subject):
            self.counters.add("closed.forgotten")
            self.decisions.pop(decision_id, None)
            self._erase_open(decision_id)
            key = decision_key(self.place.prefix, decision_id)
            self.effects.change.values.pop(key, None)
            self.effects.change.dropped_keys.append(key)

    def _erase_open(self, decision_id: str) -> None:
        for part in ("a:", "d:"):
            self.effects.erase(open_key(self.place.prefix), part + decision_id)
        self._touched_open.discard(decision_id)

    def _close(self) -> None:
        outcomes: list[Judged] = []
        for closed in self.attribution.close(self.watermark):
            self.counters.add(f"closed.{closed.verdict}")
            decision = self.decisions.pop(closed.decision_id, None)
            self._erase_open(closed.decision_id)
            if closed.verdict == "outcome" and decision is not None:
                outcomes.append(judge(closed, decision, self.rules.window_ms))
        for judged in outcomes:
            self._send_outcome(judged)
        self._learn(outcomes)

    def _send_outcome(self, judged: Judged) -> None:
        lane = self.place.number % self.rules.lanes
        outcome = to_outcome(judged, lane, self.watermark)
        self.counters.add(f"outcomes.{outcome.surface}")
        self.counters.add(f"rewarded.{outcome.surface}", int(any(judged.rewards)))
        self.effects.send("outcomes", f"{outcome.surface}#{lane}".encode(), encode(outcome), lane)

    def _learn(self, outcomes: Sequence[Judged]) -> None:
        blocks = {}
        for one in outcomes:
            subject = one.closed.entry.subject
            stored = self.subjects.read(subject).bandit
            if stored:
                blocks[subject] = np.frombuffer(stored, dtype="<f8").astype(np.float64)
        learnt = learn_policy(self.learner, outcomes, blocks, self.rules.policy)
        if learnt is None:
            return
        for subject, block in learnt.users.items():
            self.subjects.touch(subject).bandit = np.ascontiguousarray(block, dtype="<f8").tobytes()
        self._write_block(SHARED, learnt.shared)
        for item_id, block in learnt.items.items():
            self._write_block(f"i:{item_id}", block)
        self.feed.bandit_shared, self.feed.bandit_items = True, sorted(learnt.items)

    def _write_block(self, name: str, block: FloatArray) -> None:
        self.effects.write(bandit_key(self.place.prefix), name, pack_vector(block))

    def _write(self) -> None:
        prefix, effects = self.place.prefix, self.effects
        for decision_id in sorted(self._touched_open):
            entry = self.attribution.open[decision_id]
            effects.write(open_key(prefix), f"a:{decision_id}", _pack(entry))
        for item_id, row in self._moved.items():
            effects.write(trends_key(prefix), item_id, pack_vector(self.trends.row_state(row).ravel()))
        self.subjects.write(effects, self.watermark)
        self.producers.write(effects)
        effects.change.feed = encode_feed(self.feed)
        effects.change.meta |= {"open": str(len(self.attribution.open)), _WATERMARK: str(self.watermark)}
