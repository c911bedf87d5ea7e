"""Profile, consent and login merge of one user.

A login merge travels: the user's shard asks the session's shard for its record, which hands it over once.
Both legs go through outboxes, so each happens exactly once.
"""

import base64
from typing import Any

import msgspec
import numpy as np

from bandits.fading import joined
from bandits.model import Kind
from bandits.ranking import seal, unseal
from state.decoding import Refusal
from state.erasure import ErasureKeys
from state.events import User, encode
from state.packing import FloatArray
from state.partition import shard_of
from state.retention import ATTRIBUTES_CAP
from state.subject import EVENT_ROW, SEEN_ROW, SubjectRecord, decode_subject, encode_subject, id_hash
from stream.effects import Effects
from stream.forgetting import send_erasure
from stream.shard_rules import ShardRules
from stream.subjects import Subjects

HANDOVER = "s:"
_LONGEST_ID = 120


def fold_user(event: User, subjects: Subjects, effects: Effects, rules: ShardRules) -> None:
    """Fold one user event that is no erasure.

    Raises
    ------
    Refusal
        If the record has no room for all of it; the rest of the event has taken effect.
    """
    if event.user_id.startswith(HANDOVER) and event.merge_session is not None:
        _hand_over(event, subjects, effects, rules.shards)
        return
    carried = None if event.carried is None else _carried_record(event.carried)
    record = subjects.touch(event.user_id)
    is_newest = event.occurred_at >= record.profile_at
    if carried is None:
        record.profile_at = max(record.profile_at, event.occurred_at)
    if is_newest or event.consent == "none":  # an event that was overtaken may withdraw consent, not give it
        _consent(record, event)
    if carried is None and event.merge_session is not None:
        _merge(record, event, effects, rules.shards)
    if record.consent == "none":
        _forget(record)
        return
    if carried is not None:
        bandit = _summed(record.bandit, carried.bandit, rules.policy.user_kind)
        _absorb(record, carried)
        record.bandit = bandit
        _cut_hidden(record, rules.caps.hidden)
    said = event.attributes or {}
    describe(record, {**record.attributes, **said} if is_newest else {**said, **record.attributes})


def _cut_hidden(record: SubjectRecord, cap: int) -> None:
    left_out = len(record.hidden) - cap
    if left_out > 0:
        del record.hidden[cap:]
        wished = f"at most {cap} hidden items of one subject; {left_out} of the session's are left out"
        raise Refusal("hidden_full", "carried", cap + left_out, wished)


def describe(record: SubjectRecord, described: dict[str, Any]) -> None:
    """Give a record its attributes.

    Raises
    ------
    Refusal
        If there are more than a record may have; it keeps what it had.
    """
    if len(described) > ATTRIBUTES_CAP:
        wished = f"at most {ATTRIBUTES_CAP} attributes of one subject"
        raise Refusal("attributes_full", "attributes", len(described), wished)
    record.attributes = described


def _consent(record: SubjectRecord, event: User) -> None:
    """Take in a word on consent: what occurred before it was given, or refused, has no effect."""
    if event.consent == "none":
        record.begins_after = max(record.begins_after, event.occurred_at)
    elif event.consent == "full" and record.consent == "none":
        record.begins_after = max(record.begins_after, event.occurred_at - 1)
    record.consent = event.consent or record.consent


def _merge(record: SubjectRecord, event: User, effects: Effects, shards: int) -> None:
    """Ask for the record of an anonymous session; of a user who refuses consent, have it erased."""
    session_id = str(event.merge_session)
    if record.consent == "none":
        send_erasure(f"{HANDOVER}{session_id}", event, effects, shards)
        return
    for oldest in record.add_merged(session_id):  # of what stays, all has to be known
        send_erasure(f"{HANDOVER}{oldest}", event, effects, shards)
    _ask_for_session(event, effects, shards)


def check_reserved(event: User, keys: ErasureKeys | None) -> None:
    """Refuse what only the engine itself may say, on its way from shard to shard or with a proof."""
    is_proved = event.erase and keys is not None and keys.proves(event)
    if event.user_id.startswith(HANDOVER) and not is_proved:
        raise Refusal("reserved_id", "user_id", event.user_id, f"an id that does not begin with {HANDOVER!r}")
    if event.carried is not None:
        raise Refusal("reserved_id", "carried", event.carried, "nothing: the engine fills it in")


def _carried_record(carried: str) -> SubjectRecord:
    try:
        record = decode_subject(base64.b64decode(carried))
    except (ValueError, msgspec.DecodeError) as error:
        raise Refusal(
            "out_of_bounds", "carried", carried, f"a record as a shard hands it over ({error})"
        ) from None
    lengths = {len(record.recent), len(record.recent_at), len(record.recent_interest)}
    if len(lengths) > 1 or len(record.seen) % SEEN_ROW.itemsize or len(record.counted) % SEEN_ROW.itemsize:
        raise Refusal("out_of_bounds", "carried", carried, "lists of one length and whole rows")
    return record


def _ask_for_session(event: User, effects: Effects, shards: int) -> None:
    session = f"{HANDOVER}{event.merge_session}"
    ask = User(
        event_id=_derived_id(event.event_id, "ask"),
        occurred_at=event.occurred_at,
        user_id=session,
        merge_session=event.user_id,
    )
    effects.send("users", session.encode(), encode(ask), shard_of(session, shards), forwarded=True)


def _hand_over(event: User, subjects: Subjects, effects: Effects, shards: int) -> None:
    user_id, record = str(event.merge_session), subjects.read(event.user_id)
    carried = base64.b64encode(encode_subject(record)).decode()
    give = User(
        event_id=_derived_id(event.event_id, "give"),
        occurred_at=event.occurred_at,
        user_id=user_id,
        carried=carried,
    )
    effects.counters.add("merged_sessions")
    effects.send("users", user_id.encode(), encode(give), shard_of(user_id, shards), forwarded=True)
    subjects.drop(event.user_id, effects)


def _derived_id(event_id: str, word: str) -> str:
    """Return an id of its own for what follows from an event, within the length an id may have."""
    return f"{event_id}:{word}" if len(event_id) <= _LONGEST_ID else f"{id_hash(event_id):016x}:{word}"


def _absorb(record: SubjectRecord, session: SubjectRecord) -> None:
    steps = sorted(
        [
            *zip(record.recent_at, record.recent, record.recent_interest, strict=True),
            *zip(session.recent_at, session.recent, session.recent_interest, strict=True),
        ]
    )
    record.recent_at = [at for at, _, _ in steps][-50:]
    record.recent = [item for _, item, _ in steps][-50:]
    record.recent_interest = [interest for _, _, interest in steps][-50:]
    record.seen += session.seen
    record.counted += session.counted
    record.hidden = list(dict.fromkeys([*record.hidden, *session.hidden]))
    record.events += session.events
    record.impressions += session.impressions
    record.clicks += session.clicks
    if session.last_at >= record.last_at:
        record.session_id, record.session_start = session.session_id, session.session_start
        record.session_items, record.last_at = session.session_items, session.last_at


def _summed(block: bytes, other: bytes, kind: Kind) -> bytes:
    """Return two bandit blocks as one: natural parameters without the prior add up."""
    mine, theirs = unseal(block), unseal(other)
    if mine is None or theirs is None:  # one is empty, or was learnt of other arms
        return other if mine is None and theirs is not None else block
    if len(mine) != len(theirs):  # one fades, the other does not
        return block
    one, two = np.frombuffer(mine, "<f8"), np.frombuffer(theirs, "<f8")
    total: FloatArray = one + two
    if kind.fades and len(one) == kind.width:
        total = joined(one, two, kind.d, kind.life_ms)
    return seal(total.tobytes())


def _forget(record: SubjectRecord) -> None:
    """Empty a record but for the refusal of consent; the one mark left is of the event that brings it."""
    fresh = SubjectRecord(
        consent=record.consent,
        applied=record.applied[-EVENT_ROW.size :],
        begins_after=record.begins_after,
        profile_at=record.profile_at,
    )
    for name in SubjectRecord.__struct_fields__:
        setattr(record, name, getattr(fresh, name))
