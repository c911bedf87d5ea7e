"""Everything the store holds of one subject, in readable form: what a person has a right to see."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from state.erasure import ANONYMOUS
from state.keys import (
    decision_key,
    decisions_of_key,
    item_unit,
    items_key,
    open_key,
    sessions_key,
    subject_key,
    subject_unit,
    unit_prefix,
)
from state.opened import decode_open
from state.partition import shard_of
from state.sessions import decode_session, session_hash
from state.settings import Settings
from state.subject import EVENT_ROW, HOUR_MS, SEAL_BYTES, SubjectRecord, decode_subject, id_hash

_AT_ONCE = 200


class Access(Struct, kw_only=True):
    """What is stored of one subject.

    Attributes
    ----------
    subject
        The id asked for.
    record
        The folded record; None where there is none.
    open_decisions
        Decisions whose attribution window is open, with what was shown and rewarded.
    decisions
        Stored decisions as logged, oldest first.
    sessions
        Sessions in the shared session index.
    merged_sessions
        The same of each anonymous session that turned out to be this user's.
    """

    subject: str
    record: dict[str, Any] | None = None
    open_decisions: list[dict[str, Any]] = []
    decisions: list[msgspec.Raw] = []
    sessions: list[dict[str, Any]] = []
    merged_sessions: list["Access"] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing is stored, merged sessions included."""
        own = self.record is not None or self.open_decisions or self.decisions or self.sessions
        return not own and all(one.is_empty for one in self.merged_sessions)


async def read_access(redis: Any, settings: Settings, subject: str) -> Access:
    """Return everything the store holds of a subject and of the anonymous sessions merged into it.

    Parameters
    ----------
    redis
        Client of the store.
    settings
        Of the namespace.
    subject
        A user id, or ``s:`` and a session id.
    """
    items = [
        await redis.hkeys(items_key(unit_prefix(settings.namespace, item_unit(n))))
        for n in range(settings.item_shards)
    ]
    names = await asyncio.to_thread(_names, [name for part in items for name in part])
    return await _read(redis, settings, subject, names)


async def _read(redis: Any, settings: Settings, subject: str, names: Mapping[int, str]) -> Access:
    prefix = unit_prefix(settings.namespace, subject_unit(shard_of(subject, settings.shards)))
    raw = await redis.get(subject_key(prefix, subject))
    record = decode_subject(raw)
    merged = [
        await _read(redis, settings, f"{ANONYMOUS}{session_id}", names)
        for session_id in record.merged
        if not subject.startswith(ANONYMOUS)
    ]
    return Access(
        subject=subject,
        record=None if raw is None else readable(record, names),
        open_decisions=await _open_decisions(redis, prefix, subject),
        decisions=await _decisions(redis, prefix, subject, record),
        sessions=await _sessions(redis, prefix, subject, record),
        merged_sessions=[one for one in merged if not one.is_empty],
    )


async def _open_decisions(redis: Any, prefix: str, subject: str) -> list[dict[str, Any]]:
    """Look through all open decisions: an impression whose decision never came is in no index."""
    found = []
    async for name, raw in redis.hscan_iter(open_key(prefix), match="a:*", count=1_000):
        entry = decode_open(raw)
        if entry.subject == subject:
            shown: dict[str, Any] = msgspec.to_builtins(msgspec.structs.asdict(entry))
            found.append({"decision_id": name[2:].decode()} | shown)
    return sorted(found, key=_by_id)


async def _decisions(redis: Any, prefix: str, subject: str, record: SubjectRecord) -> list[msgspec.Raw]:
    indexed = await redis.zrange(decisions_of_key(prefix, subject), 0, -1)
    ids = sorted({*record.decisions, *(raw.decode() for raw in indexed)})
    found: list[bytes | None] = []
    for start in range(0, len(ids), _AT_ONCE):
        found += await redis.mget([decision_key(prefix, one) for one in ids[start : start + _AT_ONCE]])
    return [msgspec.Raw(raw) for raw in found if raw is not None]


async def _sessions(redis: Any, prefix: str, subject: str, record: SubjectRecord) -> list[dict[str, Any]]:
    session_id = record.session_id or subject.removeprefix(ANONYMOUS)
    hashes = dict.fromkeys([*record.session_hashes(), session_hash(subject, session_id)])
    raws = await redis.hmget(sessions_key(prefix), [str(one) for one in hashes])
    return [
        {"session_hash": str(one)} | msgspec.structs.asdict(decode_session(raw))
        for one, raw in zip(hashes, raws, strict=True)
        if raw is not None
    ]


def readable(record: SubjectRecord, names: Mapping[int, str]) -> dict[str, Any]:
    """Return a record with its packed fields taken apart.

    Parameters
    ----------
    record
        As stored.
    names
        Item id by item hash; items it does not name appear as their hash.
    """
    plain: dict[str, Any] = msgspec.structs.asdict(record)
    return plain | {
        "seen": _seen(record.seen_rows(), names),
        "counted": _seen(SubjectRecord(seen=record.counted).seen_rows(), names),
        "applied": [
            {"event_hash": f"{event:016x}", "at_ms": at}
            for event, at in EVENT_ROW.iter_unpack(record.applied)
        ],
        "bandit": np.frombuffer(record.bandit[SEAL_BYTES:], "<f8").tolist(),
        "sessions": [str(session) for session in record.session_hashes()],
    }


def _seen(rows: Any, names: Mapping[int, str]) -> list[dict[str, Any]]:
    return [
        {"item": names.get(item, f"{item:016x}"), "hour_ms": hour * HOUR_MS} for item, hour in rows.tolist()
    ]


def _names(items: Sequence[bytes]) -> dict[int, str]:
    texts = [raw.decode() for raw in items]
    return {id_hash(text): text for text in texts}


def _by_id(entry: Mapping[str, Any]) -> str:
    return str(entry["decision_id"])
