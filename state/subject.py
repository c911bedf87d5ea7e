"""The subject record: everything a request needs of one visitor, in one compact binary value."""

import hashlib
import struct
from functools import lru_cache

import msgspec
import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from state.packing import seal, unseal
from state.retention import (
    APPLIED_KEPT,
    COUNTED_CAP,
    DECISIONS_CAP,
    MERGED_CAP,
    RECENT_CAP,
    SEEN_MAX_AGE_MS,
    SESSIONS_CAP,
)

HOUR_MS = 3_600_000
SEAL_BYTES = 8
SEEN_ROW = np.dtype([("item", "<u8"), ("hour", "<u4")])
EVENT_ROW = struct.Struct("<QQ")
_HOUR = struct.Struct("<I")


class SubjectRecord(Struct, array_like=True, omit_defaults=True):
    """One visitor's folded state.

    Attributes
    ----------
    recent, recent_at, recent_interest
        Last items interacted with, oldest first, when (ms) and how strongly (0 to 1); at most 50.
    seen
        Packed rows (item hash, hour) of items interacted with; `SEEN_ROW`.
    hidden
        Exact ids of hidden and disliked items.
    events, impressions, clicks
        Folded counts.
    session_id, session_start, session_items
        Current session, when it began (ms), items interacted with in it, oldest first.
    last_at
        Event time of the newest folded event, ms.
    consent
        ``full`` or ``none``.
    applied
        Packed (hash, event time) pairs of recently folded events, for duplicates and freshness: the hash of
        each event's id, and of what it says.
    bandit
        The subject's bandit block: `SEAL_BYTES` that say what its numbers mean, then packed float64.
    attributes
        Profile attributes.
    counted
        Packed rows (item hash, hour) of what shared statistics counted in this hour and the one before.
    begins_after
        Event time, ms: what occurred until then, before an erasure or without consent, has no effect.
    sessions
        Packed session hashes of its sessions in the shared session index, oldest first.
    merged
        Anonymous sessions that turned out to be this user's, oldest first.
    decisions
        Ids of its latest stored decisions; earlier ones are in an index of their own.
    profile_at
        Event time of the newest profile event, ms.
    """

    recent: list[str] = field(default_factory=list)
    recent_at: list[int] = field(default_factory=list)
    recent_interest: list[float] = field(default_factory=list)
    seen: bytes = b""
    hidden: list[str] = field(default_factory=list)
    events: int = 0
    impressions: int = 0
    clicks: int = 0
    session_id: str = ""
    session_start: int = 0
    session_items: list[str] = field(default_factory=list)
    last_at: int = 0
    consent: str = "full"
    applied: bytes = b""
    bandit: bytes = b""
    attributes: dict[str, bool | float | str | list[str] | None] = field(default_factory=dict)
    counted: bytes = b""
    begins_after: int = 0
    sessions: bytes = b""
    merged: list[str] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)
    profile_at: int = 0

    def has_applied(self, event_id: str) -> bool:
        """Return whether an event was folded within the lateness bound."""
        return self.has_mark(id_hash(event_id))

    def has_mark(self, mark: int) -> bool:
        """Return whether a mark was left within the lateness bound."""
        return _has_row(self.applied, mark.to_bytes(8, "little"), EVENT_ROW.size)

    def mark_applied(self, event_id: str, at_ms: int, content: int | None = None) -> None:
        """Remember an event as folded, and where given the mark of what it says."""
        marks = EVENT_ROW.pack(id_hash(event_id), at_ms)
        self.applied += marks if content is None else marks + EVENT_ROW.pack(content, at_ms)

    def forget_applied(self, before_ms: int) -> None:
        """Drop marks of events older than the lateness bound."""
        if len(self.applied) < EVENT_ROW.size * APPLIED_KEPT:
            return
        if EVENT_ROW.unpack_from(self.applied)[1] >= before_ms:  # the first to come is rarely the youngest
            return
        rows = np.frombuffer(self.applied, dtype="<u8").reshape(-1, 2)
        self.applied = rows[rows[:, 1] >= before_ms].tobytes()

    def mark_seen(self, item_id: str, at_ms: int, cap: int) -> None:
        """Remember an item as seen; the oldest beyond ``cap`` or 90 days go."""
        hashed, hour = id_hash(item_id), at_ms // HOUR_MS
        row = struct.pack("<QI", hashed, hour)
        if len(self.seen) // SEEN_ROW.itemsize < cap and not _has_row(self.seen, row[:8], SEEN_ROW.itemsize):
            self.seen += row
            return
        rows = self.seen_rows()
        fresh = rows[(rows["item"] != hashed) & (rows["hour"] >= hour - SEEN_MAX_AGE_MS // HOUR_MS)]
        self.seen = fresh[-(cap - 1) :].tobytes() + row if cap > 1 else row

    def seen_rows(self) -> NDArray[np.void]:
        """Return seen items as rows (n,) of `SEEN_ROW`, oldest first."""
        return np.frombuffer(self.seen, dtype=SEEN_ROW)

    def count(self, item_id: str, at_ms: int, cap: int) -> bool:
        """Return whether shared statistics may count an item once more this hour, and remember if so."""
        hour = at_ms // HOUR_MS
        row = struct.pack("<QI", id_hash(item_id), hour)
        held = len(self.counted) // SEEN_ROW.itemsize
        if held >= COUNTED_CAP or (held and _HOUR.unpack_from(self.counted, 8)[0] < hour - 1):
            rows = np.frombuffer(self.counted, dtype=SEEN_ROW)
            self.counted = rows[rows["hour"] >= hour - 1].tobytes()
            held = len(self.counted) // SEEN_ROW.itemsize
        if held >= COUNTED_CAP or _times(self.counted, row) >= cap:
            return False
        self.counted += row
        return True

    def session_hashes(self) -> list[int]:
        """Return the hashes of its sessions in the shared session index, oldest first."""
        hashes: list[int] = np.frombuffer(self.sessions, dtype="<i8").tolist()
        return hashes

    def add_session(self, session: int) -> list[int]:
        """Remember a session of the index; returns those that have to leave the index for it."""
        packed = session.to_bytes(8, "little", signed=True)
        if self.sessions.endswith(packed) or _has_row(self.sessions, packed, 8):
            return []
        self.sessions += packed
        gone = self.session_hashes()[:-SESSIONS_CAP]
        self.sessions = self.sessions[-8 * SESSIONS_CAP :]
        return gone

    def add_decision(self, decision_id: str) -> list[str]:
        """Remember a stored decision; returns those that move to the index, many at once or none."""
        self.decisions.append(decision_id)
        if len(self.decisions) < DECISIONS_CAP:
            return []
        full, self.decisions = self.decisions, []
        return full

    def add_merged(self, session_id: str) -> list[str]:
        """Remember an anonymous session as this user's; returns those that have to be erased for it."""
        self.merged = [*(one for one in self.merged if one != session_id), session_id]
        gone, self.merged = self.merged[:-MERGED_CAP], self.merged[-MERGED_CAP:]
        return gone

    def add_recent(self, item_id: str, at_ms: int, interest: float) -> None:
        """Append an interaction to the recent and session lists."""
        self.recent.append(item_id)
        self.recent_at.append(at_ms)
        self.recent_interest.append(interest)
        self.session_items.append(item_id)
        for values in (self.recent, self.recent_at, self.recent_interest, self.session_items):
            del values[:-RECENT_CAP]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SubjectRecord)


def encode_subject(record: SubjectRecord) -> bytes:
    """Return a record as sealed MessagePack."""
    return seal(_encoder.encode(record))


def decode_subject(raw: bytes | None) -> SubjectRecord:
    """Return the record stored under a subject's key; a fresh one where there is none.

    Raises
    ------
    CorruptStateError
        If version or checksum are wrong.
    """
    return SubjectRecord() if raw is None else _decoder.decode(unseal(raw))


def _times(rows: bytes, row: bytes) -> int:
    """Return how many of packed rows are one row."""
    times, at = 0, rows.find(row)
    while at >= 0:
        times += at % len(row) == 0
        at = rows.find(row, at + 1)
    return times


def _has_row(rows: bytes, needle: bytes, width: int) -> bool:
    at = rows.find(needle)
    while at >= 0:
        if at % width == 0:
            return True
        at = rows.find(needle, at + 1)
    return False


@lru_cache(maxsize=8_192)
def id_hash(text: str) -> int:
    """Return the 64-bit hash ids are remembered by; remembered, as one fold asks for each several times."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
