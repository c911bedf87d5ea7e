"""The scoring loop of the session index (compiled)."""

from typing import NamedTuple

import numpy as np

from online_models._session_tables import I32, I64, KEPT, LIVE, NEXT_SEQ, SessionTables
from online_models._topk import Best, offer, partition, sort_descending
from online_models.arrays import FloatArray
from online_models.compiled import compiled


class Recipe(NamedTuple):
    """`SessionKnnSettings` as plain numbers and tables, ready for the loop."""

    query_decay: FloatArray  # (Q,) by clicks back from the end of the session
    match_decay: FloatArray  # (Q,) the same, for the neighbour's latest match
    position_decay: FloatArray  # (L,) by distance inside the neighbour
    length_factor: FloatArray  # (L + 1,) by neighbour length
    age_factor: FloatArray  # (A,) by age in steps of 2 ** `age_shift` sessions
    age_shift: int
    neighbours: int
    sample: int
    idf_power: float
    backward: float
    idf_weight: float
    in_session: float


class Query(NamedTuple):
    """A session to rank items for."""

    items: I64  # (q,) oldest first
    oldest_ms: int  # sessions without a click since do not vote
    skip: int  # running number of the session that must not vote, or -1


class Scratch(NamedTuple):
    """Working memory of one query, reused; an item's cell counts where its mark is the query's number."""

    weight: FloatArray  # (S,) zero between queries
    gap: I32  # (S,)
    touched: I64  # (S,) running numbers, then slots
    item_mark: I64  # (N,)
    item_score: FloatArray  # (N,)
    item_list: I64  # (N,)
    number: I64  # (1,) of the query
    value: FloatArray  # (S,) of the sessions touched


def empty_scratch(capacity: int, items: int) -> Scratch:
    """Working memory for an index of `capacity` sessions and `items` item rows."""
    return Scratch(
        weight=np.zeros(capacity),
        gap=np.zeros(capacity, np.int32),
        touched=np.zeros(capacity, np.int64),
        item_mark=np.zeros(items, np.int64),
        item_score=np.zeros(items),
        item_list=np.zeros(items, np.int64),
        number=np.zeros(1, np.int64),
        value=np.zeros(capacity),
    )


@compiled
def _idf(t: SessionTables, item: int) -> float:
    return float(np.log(1.0 + t.counters[LIVE] / max(1, t.df[item])))


@compiled
def _collect(t: SessionTables, s: Scratch, r: Recipe, query: I64) -> int:
    """Add up the weight of the query's items on each session that shares one; return how many do."""
    found, last = 0, query.shape[0] - 1
    mask, oldest = t.seq_at.shape[0] - 1, max(0, t.counters[NEXT_SEQ] - t.counters[KEPT])
    for gap in range(last + 1):
        item = query[last - gap]
        if item < 0 or item >= t.start.shape[0] or _later(query, last - gap):
            continue
        weight = r.query_decay[gap] * _idf(t, item) ** r.idf_power
        if weight <= 0.0:
            continue
        start, room, count = t.start[item], t.room[item], t.posted[item]
        for n in range(count - 1, max(0, count - min(room, r.sample)) - 1, -1):
            seq = t.pool[start + (n & (room - 1))]
            if seq < oldest:
                continue
            slot = seq & mask
            if s.weight[slot] == 0.0:
                s.gap[slot], s.touched[found] = gap, seq
                found += 1
            s.weight[slot] += weight
    return found


@compiled
def _later(query: I64, at: int) -> bool:
    for p in range(at + 1, query.shape[0]):  # noqa: SIM110 - compiled loop
        if query[p] == query[at]:
            return True
    return False


@compiled
def _nearest(t: SessionTables, s: Scratch, r: Recipe, query: Query, found: int) -> int:
    """Keep the best `neighbours` of the sessions found, by weight, age and length."""
    size, newest, mask = 0, t.counters[NEXT_SEQ], t.seq_at.shape[0] - 1
    values, slots = s.value, s.touched
    for n in range(found):
        seq = s.touched[n]
        slot = seq & mask
        # A removed session has length 0, and factor 0 with it.
        value = s.weight[slot] * r.age_factor[(newest - seq) >> r.age_shift] * r.length_factor[t.length[slot]]
        s.weight[slot] = 0.0
        if value > 0.0 and t.last_ms[slot] >= query.oldest_ms and seq != query.skip:
            values[size], slots[size] = value, slot
            size += 1
    kept = min(size, r.neighbours)
    partition(values, slots, size, kept)
    return kept


@compiled
def _spread(t: SessionTables, s: Scratch, r: Recipe, query: I64, near: int) -> int:
    """Spread each neighbour's weight over its items; return how many items were met."""
    met, number, last = 0, s.number[0], query.shape[0] - 1
    for n in range(near):
        slot = s.touched[n]
        row, length, gap = t.rows[slot], t.length[slot], s.gap[slot]
        at = length - 1
        while at > 0 and row[at] != query[last - gap]:
            at -= 1
        weight = s.value[n] * r.match_decay[gap]
        for p in range(length):
            item = row[p]
            share = r.position_decay[p - at] if p >= at else r.backward * r.position_decay[at - p]
            if s.item_mark[item] != number:
                s.item_mark[item], s.item_score[item] = number, 0.0
                s.item_list[met] = item
                met += 1
            s.item_score[item] += weight * share
    return met


@compiled
def score(t: SessionTables, s: Scratch, r: Recipe, query: Query, best: Best) -> int:
    """Write the best items for a session into `best`, best first; return how many."""
    s.number[0] += 1
    found = _collect(t, s, r, query.items)
    near = _nearest(t, s, r, query, found)
    met = _spread(t, s, r, query.items, near)
    for item in query.items:
        if 0 <= item < s.item_mark.shape[0] and s.item_mark[item] == s.number[0]:
            s.item_mark[item] = -s.number[0]
            s.item_score[item] *= r.in_session
    size = 0
    for n in range(met):
        item = s.item_list[n]
        s.item_score[item] *= 1.0 + r.idf_weight * _idf(t, item)
        size = offer(best, size, s.item_score[item], item)
    sort_descending(best, size)
    return size


@compiled
def recall(s: Scratch, rows: I64, out: FloatArray) -> None:
    """Write the scores the latest query gave to `rows`, 0 where it gave none."""
    for n in range(rows.shape[0]):
        row = rows[n]
        known = 0 <= row < s.item_mark.shape[0] and abs(s.item_mark[row]) == s.number[0]
        out[n] = s.item_score[row] if known else 0.0
