"""The loops of item co-visitation (compiled)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models._clicks import comes_again
from online_models._door import Door, Selection, open_to_all, reason_against, select_all, settle
from online_models._topk import Best, offer
from online_models.arrays import FloatArray, IntArray
from online_models.compiled import compiled, compiled_borrowing

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

BEGUN, BASE, TOTAL = 0, 1, 2
MARK, SCORE, NEXT = 0, 1, 2
"""Columns of what a query writes of an item: side by side, as each is looked at with the others."""
REBASE_AT = 30.0
"""Exponent of the landmark at which all weights are scaled down, well inside float32."""


class CoVisitTables(NamedTuple):
    """Arrays behind `CoVisits`; N = item rows, C = neighbours kept per item."""

    neighbour: I32  # (N, C)
    weight: F32  # (N, C) under the common landmark
    follow: F32  # (N, C) of the neighbour right after the item, under the common landmark
    held: I32  # (N,)
    visits: FloatArray  # (N,) decayed clicks under the common landmark
    idf: FloatArray  # (N,) inverse document frequency as of the item's latest click
    moment: FloatArray  # sessions begun, and at the landmark; decayed clicks of all items under it
    around: FloatArray  # (N, 3) number of the query that met the item, score, `follow` of the latest click
    further: FloatArray  # (N, 2) number of the query that met the item a step further on, and its score
    met: IntArray  # (N,)
    number: IntArray  # (1,) of the latest query


KEPT = ("neighbour", "weight", "follow", "held", "visits", "idf", "moment")
"""What a snapshot holds; the rest is working memory of queries."""


class CoVisitRecipe(NamedTuple):
    """`CoVisitSettings` as plain numbers and tables, ready for the loops."""

    query_decay: FloatArray  # (Q,) by clicks back from the end of the session
    position_decay: FloatArray  # (W + 1,) by distance inside a session
    session_decay: float
    follow_decay: FloatArray  # (W + 1,)
    backward: float
    visit_power: float
    idf_weight: float
    in_session: float
    current: float


@compiled
def scale_now(t: CoVisitTables, r: CoVisitRecipe) -> float:
    """Weight of a click of this moment: older ones fade because later ones weigh more."""
    exponent = (t.moment[BEGUN] - t.moment[BASE]) / r.session_decay
    if exponent <= REBASE_AT:
        return float(np.exp(exponent))
    factor = np.exp(-exponent)
    t.weight[:] *= np.float32(factor)
    t.follow[:] *= np.float32(factor)
    t.visits[:] *= factor
    t.moment[TOTAL] *= factor
    t.moment[BASE] = t.moment[BEGUN]
    return 1.0


@compiled_borrowing
def _raise(t: CoVisitTables, item: int, other: int, by: float, follow: float) -> None:
    row, held = t.neighbour[item], t.held[item]
    for n in range(held):
        if row[n] == other:
            t.weight[item, n] += by
            t.follow[item, n] += follow
            return
    if held < row.shape[0]:
        row[held], t.weight[item, held], t.follow[item, held] = other, by, follow
        t.held[item] = held + 1
        return
    least = 0
    for n in range(1, held):
        if t.weight[item, n] < t.weight[item, least]:
            least = n
    row[least], t.weight[item, least], t.follow[item, least] = other, by, follow


@compiled_borrowing
def add_pairs(t: CoVisitTables, r: CoVisitRecipe, before: IntArray, item: int) -> None:
    """Pair a click with the clicks before it, oldest first; each earlier item counts once, at its nearest."""
    scale = scale_now(t, r)
    t.visits[item] += scale
    t.moment[TOTAL] += scale
    t.idf[item] = np.log(1.0 + t.moment[TOTAL] / t.visits[item])
    last = before.shape[0] - 1
    for distance in range(1, min(last + 2, r.position_decay.shape[0])):
        other = before[last + 1 - distance]
        if other == item or comes_again(before, last + 1 - distance):
            continue
        by = scale * r.position_decay[distance]
        _raise(t, other, item, by, scale * r.follow_decay[distance])
        _raise(t, item, other, by * r.backward, 0.0)
    t.moment[BEGUN] += last < 0


@compiled
def add_session(t: CoVisitTables, r: CoVisitRecipe, items: IntArray) -> None:
    """Pair each click of a session with the clicks before it."""
    window = r.position_decay.shape[0] - 1
    for place in range(items.shape[0]):
        add_pairs(t, r, items[max(0, place - window) : place], items[place])


@compiled_borrowing
def score_pairs(
    t: CoVisitTables, r: CoVisitRecipe, items: IntArray, selection: Selection, door: Door
) -> None:
    """Select the best items for a session."""
    t.number[0] += 1
    met, last, total, number = 0, items.shape[0] - 1, t.moment[TOTAL], t.number[0]
    neighbour, weight, follow, held = t.neighbour, t.weight, t.follow, t.held
    around, found = t.around, t.met
    for gap in range(min(last + 1, r.query_decay.shape[0])):
        item = items[last - gap]
        if item < 0 or item >= held.shape[0] or t.visits[item] == 0.0 or comes_again(items, last - gap):
            continue
        share = r.query_decay[gap] / (t.visits[item] / total) ** r.visit_power
        if around[item, MARK] != number:
            around[item, MARK], around[item, SCORE], around[item, NEXT] = number, 0.0, 0.0
            found[met] = item
            met += 1
        # An item goes with itself as often as it was clicked.
        around[item, SCORE] += share * t.visits[item]
        for n in range(held[item]):
            other = neighbour[item, n]
            if around[other, MARK] != number:
                around[other, MARK], around[other, SCORE], around[other, NEXT] = number, 0.0, 0.0
                found[met] = other
                met += 1
            if gap == 0:
                around[other, NEXT] = follow[item, n]
            around[other, SCORE] += share * weight[item, n]
    for gap in range(last, -1, -1):
        item = items[last - gap]
        if 0 <= item < held.shape[0] and around[item, MARK] == number and not comes_again(items, last - gap):
            around[item, SCORE] *= r.in_session * (r.current if gap == 0 else 1.0)
    _select(t, r, around[:, SCORE], met, selection, door)


@compiled_borrowing
def _select(
    t: CoVisitTables, r: CoVisitRecipe, scores: FloatArray, met: int, selection: Selection, door: Door
) -> None:
    """Let rarity count and select the best of the items met."""
    found, idf, factor, best, barred = t.met, t.idf, r.idf_weight, selection.best, selection.barred
    everything, most, size, lost, floor = door.everything, len(best.keys), 0, 0, -np.inf
    for n in range(met):
        item = found[n]
        value = scores[item] * (1.0 + factor * idf[item])
        scores[item] = value
        if value >= floor:
            if everything or reason_against(door, item) == 0:
                size = offer(best, size, value, item)
                floor = best.values[0] if size == most else floor
            else:
                lost = offer(barred, lost, value, item)
    settle(selection, size, lost, floor)


@compiled_borrowing
def score_hops(
    t: CoVisitTables, r: CoVisitRecipe, near: Best, held: int, selection: Selection, door: Door
) -> None:
    """Select the best items around the `held` best items found."""
    met, total, number = 0, t.moment[TOTAL], t.number[0]
    neighbour, weight, lengths, found, further = t.neighbour, t.weight, t.held, t.met, t.further
    for place in range(held):
        item = near.keys[place]
        if near.values[place] <= 0.0 or t.visits[item] == 0.0:
            continue  # what has faded away leads nowhere
        share = near.values[place] / near.values[0] / (t.visits[item] / total) ** r.visit_power
        for n in range(lengths[item]):
            other = neighbour[item, n]
            if further[other, MARK] != number:
                further[other, MARK], further[other, SCORE] = number, 0.0
                found[met] = other
                met += 1
            further[other, SCORE] += share * weight[item, n]
    _select(t, r, further[:, SCORE], met, selection, door)


@compiled
def score_any(t: CoVisitTables, r: CoVisitRecipe, items: IntArray, best: Best) -> int:
    """Write the best items for a session, shown or not, into `best`, best first; return how many."""
    selection = select_all(best)
    score_pairs(t, r, items, selection, open_to_all())
    return int(selection.sizes[0])


@compiled
def hops_any(t: CoVisitTables, r: CoVisitRecipe, near: Best, held: int, best: Best) -> int:
    """Write the best items around those found, shown or not, into `best`, best first; return how many."""
    selection = select_all(best)
    score_hops(t, r, near, held, selection, open_to_all())
    return int(selection.sizes[0])


@compiled_borrowing
def recall(t: CoVisitTables, rows: IntArray, out: FloatArray) -> None:
    """Write the scores that the latest query gave to `rows`, 0 where it gave none."""
    for n in range(rows.shape[0]):
        row = rows[n]
        is_met = 0 <= row < t.around.shape[0] and t.around[row, MARK] == t.number[0]
        out[n] = t.around[row, SCORE] if is_met else 0.0
