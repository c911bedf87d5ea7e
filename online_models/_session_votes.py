"""The scoring loop of the session index (compiled)."""

from typing import NamedTuple

import numpy as np

from online_models._clicks import comes_again
from online_models._door import Door, Selection, open_to_all, reason_against, select_all, settle
from online_models._session_tables import I64, KEPT, LIVE, NEXT_SEQ, SessionTables
from online_models._topk import Best, offer, partition
from online_models.arrays import FloatArray
from online_models.compiled import compiled, compiled_borrowing

WEIGHT, GAP = 0, 1
MARK, SCORE = 0, 1
"""Columns of what a query writes of a session and of an item, side by side as they are looked at together."""


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
    """Working memory of one query, reused; an item's score counts where its mark is the query's number."""

    session: FloatArray  # (S, 2) weight, zero between queries, and gap
    touched: I64  # (S,) running numbers, then slots
    item: FloatArray  # (N, 2) mark, and score before rarity counts
    item_list: I64  # (N,)
    number: I64  # (1,) of the query
    value: FloatArray  # (S,) of the sessions touched


def empty_scratch(capacity: int, items: int) -> Scratch:
    """Working memory for an index of `capacity` sessions and `items` item rows."""
    return Scratch(
        session=np.zeros((capacity, 2)),
        touched=np.zeros(capacity, np.int64),
        item=np.zeros((items, 2)),
        item_list=np.zeros(items, np.int64),
        number=np.zeros(1, np.int64),
        value=np.zeros(capacity),
    )


@compiled_borrowing
def _idf(live: int, held: int) -> float:
    return float(np.log(1.0 + live / max(1, held)))


@compiled_borrowing
def _collect(t: SessionTables, s: Scratch, r: Recipe, query: I64) -> int:
    """Add up the weight of the query's items on each session that shares one; return how many do."""
    found, last = 0, query.shape[0] - 1
    mask, oldest = t.seq_at.shape[0] - 1, max(0, t.counters[NEXT_SEQ] - t.counters[KEPT])
    pool, sessions, touched, live = t.pool, s.session, s.touched, t.counters[LIVE]
    for gap in range(last + 1):
        item = query[last - gap]
        if item < 0 or item >= t.start.shape[0] or comes_again(query, last - gap):
            continue
        weight = r.query_decay[gap] * _idf(live, t.df[item]) ** r.idf_power
        if weight <= 0.0:
            continue
        start, room, count = t.start[item], t.room[item], t.posted[item]
        for n in range(count - 1, max(0, count - min(room, r.sample)) - 1, -1):
            seq = pool[start + (n & (room - 1))]
            if seq < oldest:
                continue
            slot = seq & mask
            if sessions[slot, WEIGHT] == 0.0:
                sessions[slot, GAP], touched[found] = gap, seq
                found += 1
            sessions[slot, WEIGHT] += weight
    return found


@compiled_borrowing
def _nearest(t: SessionTables, s: Scratch, r: Recipe, query: Query, found: int) -> int:
    """Keep the best `neighbours` of the sessions found, by weight, age and length."""
    size, newest, mask = 0, t.counters[NEXT_SEQ], t.seq_at.shape[0] - 1
    values, slots, sessions, lengths, last_ms = s.value, s.touched, s.session, t.length, t.last_ms
    age_factor, length_factor, shift = r.age_factor, r.length_factor, r.age_shift
    for n in range(found):
        seq = slots[n]
        slot = seq & mask
        # A removed session has length 0, and factor 0 with it.
        weight = sessions[slot, WEIGHT]
        value = weight * age_factor[(newest - seq) >> shift] * length_factor[lengths[slot]]
        sessions[slot, WEIGHT] = 0.0
        if value > 0.0 and last_ms[slot] >= query.oldest_ms and seq != query.skip:
            values[size], slots[size] = value, slot
            size += 1
    kept = min(size, r.neighbours)
    partition(values, slots, size, kept)
    return kept


@compiled_borrowing
def _spread(t: SessionTables, s: Scratch, r: Recipe, query: I64, near: int) -> int:
    """Spread each neighbour's weight over its items; return how many items were met."""
    met, number, last = 0, s.number[0], query.shape[0] - 1
    rows, met_items, items = t.rows, s.item, s.item_list
    ahead, backward = r.position_decay, r.backward
    for n in range(near):
        slot = s.touched[n]
        length, gap = t.length[slot], int(s.session[slot, GAP])
        at, shared = length - 1, query[last - gap]
        while at > 0 and rows[slot, at] != shared:
            at -= 1
        weight = s.value[n] * r.match_decay[gap]
        for p in range(length):
            item = rows[slot, p]
            share = ahead[p - at] if p >= at else backward * ahead[at - p]
            if met_items[item, MARK] != number:
                met_items[item, MARK], met_items[item, SCORE] = number, 0.0
                items[met] = item
                met += 1
            met_items[item, SCORE] += weight * share
    return met


@compiled_borrowing
def score(t: SessionTables, s: Scratch, r: Recipe, query: Query, to: tuple[Selection, Door]) -> None:
    """Select the best items for a session."""
    s.number[0] += 1
    found = _collect(t, s, r, query.items)
    near = _nearest(t, s, r, query, found)
    met = _spread(t, s, r, query.items, near)
    for item in query.items:
        if 0 <= item < s.item.shape[0] and s.item[item, MARK] == s.number[0]:
            s.item[item, MARK] = -s.number[0]
            s.item[item, SCORE] *= r.in_session
    _select(t, s, r, met, to)


@compiled_borrowing
def _select(t: SessionTables, s: Scratch, r: Recipe, met: int, to: tuple[Selection, Door]) -> None:
    scores, items, held, live, factor = s.item, s.item_list, t.df, t.counters[LIVE], r.idf_weight
    selection, door = to
    best, barred, everything, most = (
        selection.best,
        selection.barred,
        door.everything,
        len(selection.best.keys),
    )
    size, lost, floor, highest = 0, 0, -np.inf, max(1.0, 1.0 + factor * _idf(live, 1))
    for n in range(met):
        item = items[n]
        # A logarithm costs more than all else here: what could not enter if it were rarest needs none.
        if scores[item, SCORE] * highest >= floor:
            value = scores[item, SCORE] * (1.0 + factor * _idf(live, held[item]))
            if value >= floor:
                if everything or reason_against(door, item) == 0:
                    size = offer(best, size, value, item)
                    floor = best.values[0] if size == most else floor
                else:
                    lost = offer(barred, lost, value, item)
    settle(selection, size, lost, floor)


@compiled
def score_any(t: SessionTables, s: Scratch, r: Recipe, query: Query, best: Best) -> int:
    """Write the best items for a session, shown or not, into `best`, best first; return how many."""
    selection = select_all(best)
    score(t, s, r, query, (selection, open_to_all()))
    return int(selection.sizes[0])


@compiled_borrowing
def recall(t: SessionTables, s: Scratch, r: Recipe, rows: I64, out: FloatArray) -> None:
    """Write the scores the latest query gave to `rows`, 0 where it gave none."""
    items, held, live, number = s.item, t.df, t.counters[LIVE], s.number[0]
    for n in range(rows.shape[0]):
        row = rows[n]
        out[n] = 0.0
        if 0 <= row < items.shape[0] and abs(items[row, MARK]) == number:
            out[n] = items[row, SCORE] * (1.0 + r.idf_weight * _idf(live, held[row]))
