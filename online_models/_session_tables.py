"""Storage of the session index: a ring of sessions, a key table and growable posting lists.

Every session gets a running number (`seq`); its slot is `seq & (S - 1)`. The numbers in use span at most
`kept` sessions: the oldest makes room for the newest. A posting list holds the numbers of the sessions that
clicked an item, oldest first. A number that fell out of the span is stale and skipped: eviction touches no
posting list.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models.compiled import compiled, compiled_borrowing

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

NEXT_SEQ, POOL_END, LIVE, KEPT = 0, 1, 2, 3
_FIRST_ROOM = 4
_GONE = -1
"""A posting taken back."""


class SessionTables(NamedTuple):
    """Arrays behind `SessionIndex`; S = slots, a power of two, L = clicks kept per session, N = item rows."""

    rows: I32  # (S, L) clicks, oldest first
    length: I32  # (S,)
    seq_at: I64  # (S,) running number of the session in the slot, -1 when free
    key_at: I64  # (S,)
    last_ms: I64  # (S,)
    hash_keys: I64  # (H,) open addressing with linear probing
    hash_seq: I64  # (H,) -1 when free
    start: I64  # (N,) first cell of an item's postings in the pool
    room: I32  # (N,) cells of an item's postings, a power of two
    posted: I64  # (N,) postings ever appended since the last compaction
    df: I32  # (N,) live sessions that hold the item
    pool: I64  # (P,)
    counters: I64  # next running number, end of the used pool, live sessions, sessions kept at most


def empty_tables(kept: int, max_length: int, items: int, pool: int) -> SessionTables:
    """Tables without any session; room for `kept` sessions of `max_length` clicks and `items` item rows."""
    capacity = 1 << (kept - 1).bit_length()
    slots = 2 * capacity
    return SessionTables(
        rows=np.zeros((capacity, max_length), np.int32),
        length=np.zeros(capacity, np.int32),
        seq_at=np.full(capacity, -1, np.int64),
        key_at=np.zeros(capacity, np.int64),
        last_ms=np.zeros(capacity, np.int64),
        hash_keys=np.zeros(slots, np.int64),
        hash_seq=np.full(slots, -1, np.int64),
        start=np.zeros(items, np.int64),
        room=np.zeros(items, np.int32),
        posted=np.zeros(items, np.int64),
        df=np.zeros(items, np.int32),
        pool=np.zeros(pool, np.int64),
        counters=np.array([0, 0, 0, kept], np.int64),
    )


@compiled_borrowing
def _home(t: SessionTables, key: int) -> int:
    mixed = (key ^ (key >> 29)) * 0x5851F42D4C957F2D
    return int((mixed >> 20) & (t.hash_keys.shape[0] - 1))


@compiled_borrowing
def find(t: SessionTables, key: int) -> int:
    """Find the running number of a live session, or -1."""
    mask = t.hash_keys.shape[0] - 1
    at = _home(t, key)
    while t.hash_seq[at] >= 0:
        if t.hash_keys[at] == key:
            return int(t.hash_seq[at])
        at = (at + 1) & mask
    return -1


@compiled
def _remember(t: SessionTables, key: int, seq: int) -> None:
    mask = t.hash_keys.shape[0] - 1
    at = _home(t, key)
    while t.hash_seq[at] >= 0:
        at = (at + 1) & mask
    t.hash_keys[at], t.hash_seq[at] = key, seq


@compiled
def _forget(t: SessionTables, key: int) -> None:
    mask = t.hash_keys.shape[0] - 1
    hole = _home(t, key)
    while t.hash_keys[hole] != key or t.hash_seq[hole] < 0:
        hole = (hole + 1) & mask
    at = (hole + 1) & mask
    while t.hash_seq[at] >= 0:
        # Knuth 6.4, algorithm R: an entry may move into the hole unless its home lies between the two.
        if ((at - _home(t, t.hash_keys[at])) & mask) >= ((at - hole) & mask):
            t.hash_keys[hole], t.hash_seq[hole] = t.hash_keys[at], t.hash_seq[at]
            hole = at
        at = (at + 1) & mask
    t.hash_keys[hole], t.hash_seq[hole] = 0, -1


@compiled_borrowing
def _holds(row: I32, begin: int, end: int, item: int) -> bool:
    for p in range(begin, end):  # noqa: SIM110 - compiled loop
        if row[p] == item:
            return True
    return False


@compiled
def drop_slot(t: SessionTables, slot: int) -> None:
    """Free a slot: its items lose a session, its postings go stale, its clicks are wiped."""
    row = t.rows[slot]
    for p in range(t.length[slot]):
        if not _holds(row, 0, p, row[p]):
            t.df[row[p]] -= 1
    _forget(t, t.key_at[slot])
    row[:] = 0
    t.length[slot], t.seq_at[slot], t.key_at[slot], t.last_ms[slot] = 0, -1, 0, 0
    t.counters[LIVE] -= 1


@compiled
def _open(t: SessionTables, key: int) -> int:
    seq = t.counters[NEXT_SEQ]
    capacity = t.seq_at.shape[0]
    slot, oldest = seq & (capacity - 1), (seq - t.counters[KEPT]) & (capacity - 1)
    if seq >= t.counters[KEPT] and t.seq_at[oldest] >= 0:
        drop_slot(t, oldest)
    t.counters[NEXT_SEQ] = seq + 1
    t.counters[LIVE] += 1
    t.seq_at[slot], t.key_at[slot] = seq, key
    _remember(t, key, seq)
    return int(seq)


@compiled
def _copy_live(t: SessionTables, item: int, target: I64, at: int) -> int:
    """Copy an item's postings that are not stale, oldest first; return how many."""
    kept, room, capacity = 0, t.room[item], t.seq_at.shape[0]
    for n in range(max(0, t.posted[item] - room), t.posted[item]):
        seq = t.pool[t.start[item] + (n & (room - 1))]
        if seq >= 0 and t.seq_at[seq & (capacity - 1)] == seq:
            target[at + kept] = seq
            kept += 1
    return kept


@compiled
def _reserve(t: SessionTables, item: int, most: int) -> bool:
    """Make room for one more posting of `item`; False when the pool is used up."""
    room, count = t.room[item], t.posted[item]
    if count < room or room == most:
        return True
    wish = max(_FIRST_ROOM, 2 * room)
    at = t.counters[POOL_END]
    if at + wish > t.pool.shape[0]:
        return False
    kept = _copy_live(t, item, t.pool, at)
    if room > 0 and 2 * kept <= room:
        t.pool[t.start[item] : t.start[item] + kept] = t.pool[at : at + kept]
    else:
        t.start[item], t.room[item] = at, wish
        t.counters[POOL_END] = at + wish
    t.posted[item] = kept
    return True


@compiled
def rebuild_pool(t: SessionTables, target: I64) -> int:
    """Copy all live postings into a fresh pool, with room to grow; return the end of the used part."""
    at = 0
    for item in range(t.start.shape[0]):
        if t.room[item] == 0:
            continue
        kept = _copy_live(t, item, target, at)
        room = 0
        if kept > 0:
            room = _FIRST_ROOM
            while room < kept:
                room *= 2
        t.start[item], t.room[item], t.posted[item] = at, room, kept
        at += room
    return at


@compiled
def _unpost(t: SessionTables, item: int, seq: int) -> None:
    room, count = t.room[item], t.posted[item]
    for n in range(count - 1, max(0, count - room) - 1, -1):
        if t.pool[t.start[item] + (n & (room - 1))] == seq:
            t.pool[t.start[item] + (n & (room - 1))] = _GONE
            return


@compiled
def _append(t: SessionTables, seq: int, item: int) -> bool:
    """Append a click to a session's row; True when the item is new to the row."""
    slot, most = seq & (t.seq_at.shape[0] - 1), t.rows.shape[1]
    row, length = t.rows[slot], t.length[slot]
    if length == most:
        oldest = row[0]
        row[: most - 1] = row[1:].copy()
        length -= 1
        if not _holds(row, 0, length, oldest):
            t.df[oldest] -= 1
            _unpost(t, oldest, seq)
    fresh = not _holds(row, 0, length, item)
    row[length] = item
    t.length[slot] = length + 1
    return fresh


@compiled
def add_click(t: SessionTables, key: int, item: int, at_ms: int, most: int) -> bool:
    """Fold one click; False, with nothing changed, when the pool must be rebuilt first."""
    if not _reserve(t, item, most):
        return False
    seq = find(t, key)
    if seq < 0:
        seq = _open(t, key)
    slot = seq & (t.seq_at.shape[0] - 1)
    t.last_ms[slot] = max(t.last_ms[slot], at_ms)
    if _append(t, seq, item):
        t.pool[t.start[item] + (t.posted[item] & (t.room[item] - 1))] = seq
        t.posted[item] += 1
        t.df[item] += 1
    return True


@compiled
def add_clicks(t: SessionTables, keys: I64, items: I64, at_ms: I64, most: int) -> int:
    """Fold clicks in order; return how many were folded before the pool was used up."""
    for n in range(keys.shape[0]):
        if not add_click(t, keys[n], items[n], at_ms[n], most):
            return n
    return int(keys.shape[0])


@compiled
def drop_item(t: SessionTables, item: int) -> None:
    """Take an item out of every session."""
    for slot in range(t.seq_at.shape[0]):
        kept, row = 0, t.rows[slot]
        for p in range(t.length[slot]):
            if row[p] != item:
                row[kept] = row[p]
                kept += 1
        t.length[slot] = kept
    t.df[item], t.posted[item] = 0, 0
