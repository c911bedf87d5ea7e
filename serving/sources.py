"""What a server adds to the sources that live on clicks alone: content, behaviour, newcomers, trends."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from online_models.behaviour import BehaviourNeighbours
from online_models.candidates import Catalogue, Wanted
from online_models.neighbourhoods import Neighbourhoods
from online_models.ranking import PROFILE, PROFILE_WEIGHTS, Visit, describe
from online_models.segment_trends import SegmentTrends
from online_models.sources import (
    BEHAVIOUR,
    CATEGORY_TREND,
    CONTENT,
    HISTORY,
    NEW,
    SEGMENT_TREND,
    SURFACE_TREND,
    TREND,
    Part,
    Query,
)
from online_models.trends import Trends
from serving.items import IntArray, ItemTable
from serving.merchandising import Wishes
from state.packing import FloatArray

LIMIT = 150
"""Candidates of a decision: as many as it can log, with all their scores, in eight kilobytes."""
RECENT = 30
_TOLD = 70
_DECAYS: FloatArray = np.power(0.85, np.arange(RECENT + _TOLD - 1, -1, -1), dtype=np.float64)
"""By age of position; the last place is the newest interaction's."""
_LATEST = 3
"""Interactions, the newest ones, around which similar content is looked for; the others are history."""
_CONTENT, _BEHAVIOUR, _HISTORY, _NEW = 20, 10, 15, 10
_TREND, _CATEGORY, _SURFACE, _SEGMENT = 60, 30, 15, 40
"""Candidates of each source."""
_TREND_BESIDE = 20
"""Of each trend where the visit says something: its own sources come first, and each candidate costs."""
_LOOKED_THROUGH = 4_096
"""Items, the most popular ones, among which those that pass a filter are looked for."""
_RANKED_FOR_MS = 5_000
"""Event time for which the ranking of a category is kept."""

_NO_ROWS: IntArray = np.empty(0, dtype=np.int64)
_NO_HASHES: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)


_MID = PROFILE.index("trend_mid")


class Where(Struct, frozen=True):
    """Where a visit is, and of which segments, as groups of `SegmentTrends`; empty where nobody said."""

    surface: list[str] = []
    facets: list[str] = []


NOWHERE = Where()


def where_of(surface: str, facets: Sequence[str]) -> Where:
    """Return where a visit to a surface is, with facets such as ``country:de``."""
    return Where([f"surface:{surface}"] if surface else [], list(facets))


class Asked(Struct, frozen=True):
    """What retrieval is asked, in rows.

    Attributes
    ----------
    recent
        (n,) rows interacted with, oldest first.
    weights
        (n,) their interest, decayed by age of position.
    session
        Session hash, which must not vote for itself.
    excluded
        (m,) rows that must not appear.
    seen_hashes
        Hashes of items that must not appear again.
    categories
        Category codes to stay within; empty for all.
    now_ms
        Event time of the request.
    owed
        Rows of new items to bring along.
    trend_only
        Whether the longest trend alone is wanted, which is what the hold-out is shown.
    where
        Surface and segments of the visit.
    wishes
        Of rules and request; None for nothing.
    hidden, touched
        Which of the excluded rows the visitor has hidden, and which the request says were touched.
    earlier
        Which of the hashes earlier pages have shown.
    """

    recent: IntArray
    weights: FloatArray
    session: int
    excluded: IntArray
    seen_hashes: NDArray[np.uint64]
    categories: tuple[int, ...]
    now_ms: int
    owed: IntArray = _NO_ROWS
    trend_only: bool = False
    where: Where = NOWHERE
    wishes: Wishes | None = None
    hidden: IntArray = _NO_ROWS
    touched: IntArray = _NO_ROWS
    earlier: NDArray[np.uint64] = _NO_HASHES


class Likeness(NamedTuple):
    """What is alike, by item."""

    content: Neighbourhoods
    behaviour: BehaviourNeighbours


class CatalogueSources:
    """The further sources of a recommender that serves a catalogue.

    Parameters
    ----------
    items
        The catalogue.
    likeness
        What is alike in content, and what sessions treat alike.
    trends, groups
        What is popular: with all, and on a surface or in a segment.
    """

    names: tuple[str, ...] = (*PROFILE, "surface_trend", "segment_trend")
    first_weights: Mapping[str, float] = PROFILE_WEIGHTS

    def __init__(self, items: ItemTable, likeness: Likeness, trends: Trends, groups: SegmentTrends) -> None:
        self._items, self._trends, self._groups = items, trends, groups
        self._alike, self._behaviour = likeness
        self._ranked: dict[int, tuple[int, IntArray]] = {}

    def catalogue(self, query: Query) -> Catalogue:
        """Give the live catalogue without what rules or the request's filter keep out, by item row."""
        asked, whole = cast("Asked | None", query.visit), self._items.arrays()
        if asked is None or asked.wishes is None or asked.wishes.allowed is None:
            return whole
        return whole._replace(available=whole.available & asked.wishes.allowed)

    def wanted(self, query: Query) -> Wanted:
        """Say what a visit may be shown of which nothing else is known: nothing it has met."""
        return Wanted(query.items, _NO_HASHES, _NO_ROWS, LIMIT)

    def parts(self, query: Query) -> Sequence[Part]:
        """Give further candidates; newcomers before trends, which would fill all room there is."""
        asked = cast("Asked | None", query.visit)
        seen = 0 if asked is None else len(asked.seen_hashes)
        wished = [] if asked is None or asked.wishes is None else self._wished(asked.wishes, seen)
        if asked is not None and asked.trend_only:
            return [*wished, Part(TREND, self._trending(-1, seen))]
        recent = query.items
        owed = [] if asked is None or not len(asked.owed) else [Part(NEW, asked.owed)]
        parts = [
            *wished,
            *owed,
            Part(CONTENT, self._alike.around(recent[-_LATEST:], _CONTENT)),
            Part(BEHAVIOUR, self._behaviour.around(recent[-_LATEST:], _BEHAVIOUR)),
            Part(NEW, self._items.newest(_NEW)),
            Part(HISTORY, self._alike.around(recent[:-_LATEST], _HISTORY)),
        ]
        category = self._category(query, asked)
        if category >= 0:
            parts.append(Part(CATEGORY_TREND, self._leading(category, query.now_ms, seen)))
        parts += self._of_groups(query)
        each = _TREND_BESIDE if len(recent) else _TREND
        parts += (Part(TREND, self._trending(n, seen, each)) for n in range(len(self._trends.half_lives_s)))
        return parts

    def _of_groups(self, query: Query) -> list[Part]:
        """Give what is popular on the surface and, to who has done nothing yet, in the visit's segments."""
        where, now_ms = _where(query), query.now_ms
        parts = [Part(SURFACE_TREND, self._groups.top_rows(name, now_ms, _SURFACE)) for name in where.surface]
        if not len(query.items):
            known = [name for name in where.facets if self._groups.has_enough(name, now_ms)]
            parts += [Part(SEGMENT_TREND, self._groups.top_rows(name, now_ms, _SEGMENT)) for name in known]
        return parts

    def _wished(self, wishes: Wishes, seen: int) -> list[Part]:
        """Return what is pinned, and what is popular among the few that a filter may leave."""
        parts = [Part(NEW, wishes.pin_rows())] if wishes.pins else []
        if wishes.has_filter and wishes.allowed is not None:
            popular = self._trends.top_rows(len(self._trends.half_lives_s) // 2, _LOOKED_THROUGH)
            parts.append(Part(TREND, popular[wishes.allowed[popular]][: _TREND + seen // 4]))
        return parts

    def last_resort(self, query: Query) -> Sequence[Part]:
        """Give every item that may appear, the newest first."""
        asked = cast("Asked | None", query.visit)
        if asked is None or asked.wishes is None or asked.wishes.allowed is None:
            return [Part(NEW, self._items.newest(len(self._items)))]
        return [Part(NEW, self._items.newest_of(asked.wishes.allowed))]

    def inputs(self, query: Query, rows: IntArray) -> FloatArray:
        """Describe candidates (m,) by `names`, shape (m, 11)."""
        asked = cast("Asked | None", query.visit)
        if asked is None:
            visit = Visit(query.items, decayed_interest(len(query.items)), query.now_ms)
        else:
            visit = Visit(asked.recent, asked.weights, asked.now_ms)
        kinds = len(self._items.category_codes)
        out, own, where = np.empty((len(rows), len(self.names))), len(PROFILE), _where(query)
        out[:, :own] = describe(self._items.arrays(), self._trends.counts(), visit, rows, kinds)
        for column, names in ((own, where.surface), (own + 1, where.facets)):
            out[:, column] = self._groups.shares(names, rows, query.now_ms, out[:, _MID])
        return out

    def _trending(self, half_life: int, seen: int, wished: int = _TREND) -> IntArray:
        index = range(len(self._trends.half_lives_s))[half_life]
        return self._trends.top_rows(index, wished + seen // 4)

    def _category(self, query: Query, asked: Asked | None) -> int:
        """Return the first category asked for, else the one most of the visit's items have; -1 for none."""
        if asked is not None and asked.categories:
            return asked.categories[0]
        if not query.items.size:
            return -1
        counts = np.bincount(self._items.codes[query.items].ravel() + 1)[1:]  # the first counts those of none
        return int(counts.argmax()) if counts.size else -1

    def _leading(self, category: int, now_ms: int, seen: int) -> IntArray:
        """Return the most popular rows of a category, ranked anew after a while."""
        ranked_at, rows = self._ranked.get(category, (0, None))
        if rows is None or abs(now_ms - ranked_at) > _RANKED_FOR_MS:
            rows = self._items.of_category(category)
            counts = self._trends.scores(rows, now_ms)[:, len(self._trends.half_lives_s) // 2]
            rows = rows[np.argsort(-counts, kind="stable")]
            self._ranked[category] = (now_ms, rows)
        return rows[: _CATEGORY + seen // 4]


def decayed_interest(count: int) -> FloatArray:
    """Return the weight by age of position of `count` interactions, oldest first, shape (count,)."""
    return _DECAYS[len(_DECAYS) - count :]


def _where(query: Query) -> Where:
    """Return where a request is made; a lesson is of everybody, as sessions do not say where."""
    asked = cast("Asked | None", query.visit)
    return NOWHERE if asked is None else asked.where
