"""From a request and a subject's record to what retrieval and features are asked."""

import numpy as np
from numpy.typing import NDArray

from serving.features import Visitor
from serving.items import IntArray
from serving.live import LiveState
from serving.requests import RecommendationRequest
from serving.sources import RECENT, Asked, decayed_interest, where_of
from state.packing import FloatArray
from state.sessions import session_hash
from state.subject import HOUR_MS, SubjectRecord


def asked_of(
    live: LiveState, request: RecommendationRequest, record: SubjectRecord, subject: str, now_ms: int
) -> Asked:
    """Return what retrieval is asked for this visitor, in rows."""
    rows, weights = _recent(live, request, record)
    window = live.ranking(request.surface).no_repeat_s
    excluded, hidden = live.items.rows(request.exclude), live.items.rows(record.hidden)
    touched = live.items.rows([*request.recent_items, *request.seed_items])
    barred = [one for one in (excluded, hidden, touched) if len(one)]
    return Asked(
        recent=rows,
        weights=weights,
        session=session_hash(subject, record.session_id or request.session_id),
        excluded=np.concatenate(barred) if barred else touched,
        seen_hashes=_seen(record, window, now_ms),
        categories=tuple(live.items.codes_of(request.categories)),
        now_ms=now_ms,
        where=where_of(request.surface, [f"{n}:{v}" for n, v in sorted(request.context.items())]),
        hidden=hidden,
        touched=touched,
    )


def _seen(record: SubjectRecord, window_s: float, now_ms: int) -> NDArray[np.uint64]:
    """Return the hashes of items interacted with in the window, whole hours back; none for no window."""
    rows, since = record.seen_rows(), (now_ms - 1000 * window_s) // HOUR_MS
    if not window_s:
        return rows["item"][:0]
    if not len(rows) or rows["hour"][0] >= since:
        return rows["item"]
    return rows["item"][rows["hour"] >= since]


def visitor_of(record: SubjectRecord, request: RecommendationRequest) -> Visitor:
    """Return what features need to know of this visitor."""
    session = len(record.session_items) if record.session_id == request.session_id else 0
    known = len(record.recent) or len(request.recent_items)
    return Visitor(record.events, max(session, len(request.recent_items)), known == 0)


def _recent(
    live: LiveState, request: RecommendationRequest, record: SubjectRecord
) -> tuple[IntArray, FloatArray]:
    items, interests = record.recent[-RECENT:], record.recent_interest[-RECENT:]
    if request.recent_items or request.seed_items:
        held = set(items)
        told = [item for item in request.recent_items if item not in held] + request.seed_items
        items, interests = items + told, interests + [1.0] * len(told)
    places = [live.items.find(item) for item in items]
    if None in places:
        known = [n for n, row in enumerate(places) if row is not None]
        places, interests = [places[n] for n in known], [interests[n] for n in known]
    return np.array(places, np.int64), np.array(interests, np.float64) * decayed_interest(len(places))
