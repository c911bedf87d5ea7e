"""Older events in a subject record: put in where their time says, never over what is newer."""

import struct
from bisect import bisect_left, bisect_right

import numpy as np

from state.retention import COUNTED_CAP, RECENT_CAP, SEEN_MAX_AGE_MS
from state.subject import HOUR_MS, SEEN_ROW, SubjectRecord, id_hash

_WIDTH = SEEN_ROW.itemsize


def insert_recent(record: SubjectRecord, item_id: str, at_ms: int, interest: float) -> None:
    """Put an interaction among the recent ones; one older than all a full list holds is left out.

    The current session stays as it is: it belongs to the newest events.
    """
    place = bisect_right(record.recent_at, at_ms)
    if place == 0 and len(record.recent) >= RECENT_CAP:
        return
    record.recent.insert(place, item_id)
    record.recent_at.insert(place, at_ms)
    record.recent_interest.insert(place, interest)
    for values in (record.recent, record.recent_at, record.recent_interest):
        del values[:-RECENT_CAP]


def strengthen(record: SubjectRecord, item_id: str, at_ms: int, interest: float, idle_ms: int) -> bool:
    """Strengthen the interaction right before, if it was with the same item; returns whether it was.

    A click followed by a purchase is one interaction, as it is among live events.
    """
    before = bisect_right(record.recent_at, at_ms) - 1
    if before < 0 or record.recent[before] != item_id or at_ms - record.recent_at[before] > idle_ms:
        return False
    record.recent_interest[before] = max(record.recent_interest[before], interest)
    return True


def insert_seen(record: SubjectRecord, item_id: str, at_ms: int, cap: int) -> None:
    """Remember an item as seen, unless a later time is known or the time is too long past."""
    hashed, hour = id_hash(item_id), at_ms // HOUR_MS
    rows = record.seen_rows()
    known = rows["item"] == hashed
    if (rows["hour"][known] >= hour).any():
        return
    if len(rows) and hour < int(rows["hour"].max()) - SEEN_MAX_AGE_MS // HOUR_MS:
        return
    rest = rows[~known]
    place = int(np.searchsorted(rest["hour"], hour, side="right"))
    whole = rest[:place].tobytes() + struct.pack("<QI", hashed, hour) + rest[place:].tobytes()
    record.seen = whole[-cap * _WIDTH :]


def count_older(record: SubjectRecord, item_id: str, at_ms: int, cap: int) -> bool:
    """Return whether shared statistics may count an item once more in its hour, and remember if so.

    Live events forget the hours before theirs; the recent interactions still tell of those.
    """
    hashed, hour = id_hash(item_id), at_ms // HOUR_MS
    rows = np.frombuffer(record.counted, dtype=SEEN_ROW)
    times = int(((rows["item"] == hashed) & (rows["hour"] == hour)).sum())
    if max(times, _recent_in_hour(record, item_id, hour)) >= cap:
        return False
    fullest = np.sort(rows, order=["hour"], kind="stable")[1:] if len(rows) >= COUNTED_CAP else rows
    record.counted = fullest.tobytes() + struct.pack("<QI", hashed, hour)
    return True


def _recent_in_hour(record: SubjectRecord, item_id: str, hour: int) -> int:
    first = bisect_left(record.recent_at, hour * HOUR_MS)
    last = bisect_left(record.recent_at, (hour + 1) * HOUR_MS)
    held = zip(record.recent[first:last], record.recent_interest[first:last], strict=True)
    return sum(item == item_id and interest > 0.0 for item, interest in held)
