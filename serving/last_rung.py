"""The last rung: a slate without scores, for when nothing else answers; nothing that may not be shown."""

from collections.abc import Sequence

import numpy as np

from serving.decide import Call, in_holdout
from serving.items import BoolArray, IntArray
from serving.live import LiveState
from serving.merchandising import wishes_of
from serving.requests import RecommendedItem
from serving.visitor import asked_of
from state.subject import SubjectRecord


def static_items(live: LiveState, call: Call, known: Sequence[str]) -> list[RecommendedItem]:
    """Return the last good items, then the newest, without what may not be shown to this visitor."""
    items, request = live.items, call.request
    record = call.record or call.remembered or SubjectRecord()
    asked = asked_of(live, request, record, call.subject, call.now_ms)
    allowed = _allowed(live, call)
    hashes = np.concatenate([asked.seen_hashes, call.earlier])
    if allowed is None and not asked.categories:
        newest = items.newest(request.k + len(hashes) + len(asked.excluded) + len(known))
    else:
        newest = items.newest_of(items.available if allowed is None else allowed)
    rows = _first_of_each(np.concatenate([items.rows(known), newest]))
    fits = items.available[rows] & ~np.isin(rows, asked.excluded) & ~np.isin(items.hashes[rows], hashes)
    if allowed is not None:
        fits &= allowed[rows]
    if asked.categories:
        fits &= np.isin(items.codes[rows], asked.categories).any(axis=1)
    return [
        RecommendedItem(items.ids[row], place, items.titles[row], "always there", 1.0)
        for place, row in enumerate(rows[fits][: request.k].tolist(), start=len(call.earlier))
    ]


def _allowed(live: LiveState, call: Call) -> BoolArray | None:
    rules, catalogue = live.rules(call.request.surface), (live.items, live.filters)
    holdout = in_holdout(call.subject, call.request.surface, call.holdout)
    wishes = wishes_of(rules, call.request, catalogue, call.now_ms, is_holdout=holdout)
    return None if wishes is None else wishes.allowed


def _first_of_each(rows: IntArray) -> IntArray:
    """Return rows in order, each once."""
    _, first = np.unique(rows, return_index=True)
    return rows[np.sort(first)]
