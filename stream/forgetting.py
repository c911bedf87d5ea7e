"""Takes everything of a subject out of a shard in one commit: at its erasure, and when it refuses consent."""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from state.commit import Purge
from state.erasure import ANONYMOUS, ErasureKeys, ErasureList
from state.events import User, encode
from state.feed import NO_SESSION, ShardFeed
from state.keys import decision_key, decisions_of_key, erased_key
from state.partition import shard_of
from state.receipts import Erasure, Removed, encode_erasure
from state.sessions import session_hash
from state.subject import EVENT_ROW, SubjectRecord, id_hash
from stream.attribution import Attribution
from stream.effects import Effects
from stream.rows import Row
from stream.sessions import Sessions
from stream.subjects import Subjects

_LONGEST_ID = 110


class ErasureRules(Struct, frozen=True):
    """What a shard is told of erasures: keys, deadline of the rebuild and retention of raw events (ms)."""

    keys: ErasureKeys
    rebuild_within_ms: int
    kafka_keeps_ms: int


class Forgetting:
    """Takes subjects out of one shard.

    Parameters
    ----------
    listed
        The shard's erasure list.
    parts
        Its subject records, sessions and open decisions.
    rules
        Of erasures.
    shards
        How many shards there are.
    """

    def __init__(
        self,
        listed: ErasureList,
        parts: tuple[Subjects, Sessions, Attribution],
        rules: ErasureRules,
        shards: int,
    ) -> None:
        self._listed, self._rules, self._shards = listed, rules, shards
        self._subjects, self._sessions, self._attribution = parts

    def erase(self, row: Row, effects: Effects, feed: ShardFeed) -> Sequence[str]:
        """Erase a subject and put it on the erasure list; returns its decisions that were open."""
        event = row.event
        assert isinstance(event, User)
        subject = event.user_id
        if not row.forwarded and self._is_gone(subject):
            effects.counters.add("erased_again")  # the entry that says what was removed must stay
            return []
        effects.counters.add("erased")
        known = tuple(self._subjects.read(subject).decisions)
        merged, removed = self._merged(subject), Removed(records=int(not self._is_blank(subject)))
        opened = self.forget(event, effects, feed)
        removed.open_decisions, removed.sessions = len(opened), self._removed_sessions
        name = self._listed.note(subject, event.occurred_at)
        self._subjects.drop(subject, effects)
        entry = Erasure(
            receipt_id=self._rules.keys.receipt_id(event.event_id),
            erased_at=event.occurred_at,
            why=event.why,
            removed=removed,
            merged=[(shard_of(one, self._shards), self._rules.keys.subject(one)) for one in merged],
            rebuild_by=row.received_at + self._rules.rebuild_within_ms,
            kafka_ends_at=row.received_at + self._rules.kafka_keeps_ms,
        )
        prefix = effects.place.prefix
        effects.change.purged[decisions_of_key(prefix, subject)] = Purge(
            decision_key(prefix, ""), known, erased_key(prefix), name, encode_erasure(entry)
        )
        return opened

    def forget(self, event: User, effects: Effects, feed: ShardFeed) -> Sequence[str]:
        """Take all of a subject but its record out; returns its decisions that were open."""
        subject, prefix = event.user_id, effects.place.prefix
        self._forget_sessions(subject, effects, feed)
        for session in self._merged(subject):
            send_erasure(session, event, effects, self._shards)
        index = decisions_of_key(prefix, subject)
        opened = self._attribution.forget(subject)
        known = tuple(self._subjects.read(subject).decisions)
        for decision_id in {*opened, *known, *effects.change.indexed.pop(index, ())}:
            effects.change.values.pop(decision_key(prefix, decision_id), None)
        # An open decision may be older than the index of its subject.
        effects.change.dropped_keys += [decision_key(prefix, decision_id) for decision_id in opened]
        effects.change.purged.setdefault(index, Purge(decision_key(prefix, ""), known))
        return opened

    def _forget_sessions(self, subject: str, effects: Effects, feed: ShardFeed) -> None:
        record = self._subjects.read(subject)
        hashes = {*record.session_hashes(), session_hash(subject, record.session_id)}
        if subject.startswith(ANONYMOUS):  # its record may have moved to a user
            hashes.add(session_hash(subject, subject.removeprefix(ANONYMOUS)))
        removed = [session for session in sorted(hashes) if self._sessions.remove(session, effects)]
        self._removed_sessions = len(removed)
        for step in (*feed.interactions, *feed.history):
            if step.session in hashes:
                step.session = NO_SESSION
        feed.erased_sessions += removed
        feed.erasures += 1
        effects.change.empties_feed |= bool(removed) or record.events > 0

    def _merged(self, subject: str) -> list[str]:
        return [f"{ANONYMOUS}{session_id}" for session_id in self._subjects.read(subject).merged]

    def _is_gone(self, subject: str) -> bool:
        return self._is_blank(subject) and self._listed.erased_at(subject) > 0

    def _is_blank(self, subject: str) -> bool:
        record = self._subjects.read(subject)
        is_first = len(record.applied) <= EVENT_ROW.size  # the mark of the very event that asks
        return is_first and replace(record, applied=b"", begins_after=0) == SubjectRecord()


def send_erasure(subject: str, cause: User, effects: Effects, shards: int) -> None:
    """Send the erasure of an anonymous session, which follows from a user's event, to its shard."""
    derived = cause.event_id if len(cause.event_id) <= _LONGEST_ID else f"{id_hash(cause.event_id):016x}"
    event = User(
        event_id=f"{derived}:erase{effects.outbox_number}",
        occurred_at=cause.occurred_at,
        user_id=subject,
        erase=True,
    )
    effects.send("users", subject.encode(), encode(event), shard_of(subject, shards), forwarded=True)
