"""Session-adaptive retrieval: every source is asked, one blend ranks, and each click teaches them all."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from online_models import _blend_loops as loops
from online_models._candidate_loops import Brought, Merged, empty_candidates, gather
from online_models._click_loop import Models, fold, fold_many
from online_models._item_clock import empty_clock
from online_models._snapshots import Arrays, copied, filled, part_of, within
from online_models._topk import room_for
from online_models.arrays import FloatArray, IntArray, as_clicks
from online_models.blend import FIRST_WEIGHTS, Blend, BlendSettings
from online_models.candidates import NO_CATALOGUE, Wanted
from online_models.covisit import CoVisits, CoVisitSettings
from online_models.session_embedding import SessionEmbedding, SessionEmbeddingSettings
from online_models.session_knn import SessionIndex, SessionKnnSettings
from online_models.sources import (
    COVISIT,
    HISTORY,
    HOP,
    KNN,
    LABELS,
    SESSION,
    TREND,
    ExtraSources,
    Part,
    Query,
)
from online_models.trends import Trends

_VERSION = 1
"""Of snapshots."""
_PARTS = ("index", "covisits", "embedding", "blend", "trends")
_NO_ROWS = np.zeros(0, np.int64)
_EVERYTHING = Wanted(_NO_ROWS, np.zeros(0, np.uint64), _NO_ROWS, 1 << 30)
_RANKS = tuple(f"{label}_rank" for label in LABELS[HISTORY:])
"""Inputs made of the places extra sources give an item."""


@dataclass(frozen=True, slots=True)
class RecommenderSettings:
    """What the recommender is made of.

    Parameters
    ----------
    knn, covisit, embedding, blend
        Settings of the parts.
    half_lives_s
        Of the trends, seconds; the first one ranks items where the session says nothing.
    per_source
        Candidates taken from each source that lives on clicks, > 0.
    room
        Candidates of one query at most, those of extra sources among them, > 0.
    max_query
        Clicks of the current session looked at, the latest ones, > 0.
    learn_every
        One click in so many is a lesson for the blend, > 0: a lesson costs a whole retrieval.
    learn_early, early_clicks
        The same for the first so many clicks, while there is much to learn, both > 0.
    slow, fast
        Sessions over which an item's lasting and recent popularity fall by e, > 0.
    """

    knn: SessionKnnSettings = field(default_factory=SessionKnnSettings)
    covisit: CoVisitSettings = field(default_factory=CoVisitSettings)
    embedding: SessionEmbeddingSettings = field(default_factory=SessionEmbeddingSettings)
    blend: BlendSettings = field(default_factory=BlendSettings)
    half_lives_s: tuple[float, ...] = (3600.0, 86_400.0, 7 * 86_400.0)
    per_source: int = 40
    room: int = 200
    max_query: int = 20
    learn_every: int = 64
    learn_early: int = 4
    early_clicks: int = 20_000
    slow: float = 60_000.0
    fast: float = 3_000.0

    def __post_init__(self) -> None:
        for name in (
            "per_source",
            "room",
            "max_query",
            "learn_every",
            "learn_early",
            "early_clicks",
            "slow",
            "fast",
        ):
            if not getattr(self, name) > 0:
                msg = f"{name} is {getattr(self, name)}, wanted a number > 0"
                raise ValueError(msg)


def _settings_of(meta: Mapping[str, Any]) -> RecommenderSettings:
    parts, own = meta["parts"], dict(meta["settings"])
    own["half_lives_s"] = tuple(own["half_lives_s"])
    return RecommenderSettings(
        knn=SessionKnnSettings(**parts["index"]["settings"]),
        covisit=CoVisitSettings(**parts["covisits"]["settings"]),
        embedding=SessionEmbeddingSettings(**parts["embedding"]["settings"]),
        blend=BlendSettings(**parts["blend"]["settings"]),
        **own,
    )


class Recommendation(NamedTuple):
    """Ranked items; m <= the limit asked for."""

    rows: IntArray
    """Item rows, best first, shape (m,)."""
    scores: FloatArray
    """The blend's logits, shape (m,); only differences within one answer mean anything."""
    inputs: FloatArray
    """What the scores were made of, in the order of `Recommender.names`, shape (m, F)."""
    first: IntArray
    """Code of the source that brought each item first, shape (m,); `sources.SOURCE_NAMES` has the words."""
    sources: IntArray
    """All sources that brought each item, bit `1 << code` each, shape (m,)."""
    cut: IntArray
    """Rows that were brought and may not be shown, by reason, shape (c,)."""
    reasons: IntArray
    """Why: `candidates.UNAVAILABLE`, `SEEN`, `EXCLUDED` or `ELSEWHERE`, shape (c,)."""


class Recommender:
    """Ranks items for a session and learns from every click, in the order predict, then learn.

    Sources are the session index (`SessionIndex`), co-visits and what is seen with those (`CoVisits`), the
    session's own items, and what a root adds (`ExtraSources`: content, new items, history, trends);
    sequential rules and the session embedding score what they found. Each candidate knows the sources that
    brought it. Their scores and ranks, and the root's further inputs, are the inputs of one blend, which
    learns from every `learn_every`-th click added which of the candidates of its session, as it was before,
    was taken. Not thread-safe.

    Parameters
    ----------
    settings
        See `RecommenderSettings`.
    extras
        What the root adds. Without it every item known from clicks may be shown, and trends of the clicks
        added answer where the session says nothing.

    Attributes
    ----------
    names
        Inputs of the blend, F of them, in order.

    Examples
    --------
    >>> recommender = Recommender(RecommenderSettings())
    >>> for session in range(5):
    ...     for step, item in enumerate((3, 7, 8)):
    ...         recommender.add(session, item, 1000 * step)
    >>> [int(row) for row in recommender.recommend([3, 7], 5000, 1, novel_only=True).rows]
    [8]
    """

    def __init__(self, settings: RecommenderSettings, extras: ExtraSources | None = None) -> None:
        self.settings = settings
        self.index = SessionIndex(settings.knn)
        self.covisits = CoVisits(settings.covisit)
        self.embedding = SessionEmbedding(settings.embedding)
        self.trends = Trends(settings.half_lives_s)
        self._extras = extras
        first = dict(FIRST_WEIGHTS)
        self.names: tuple[str, ...] = loops.FEATURES
        if extras is not None:
            self.names += (*_RANKS, *extras.names)
            first |= extras.first_weights
        self.blend = Blend(settings.blend, first, self.names)
        self._items = 1024
        self._clock = empty_clock(self._items, settings.slow, settings.fast)
        self._candidates = empty_candidates(settings.room, self._items, len(self.names))
        self._clicks = 0

    def add(self, session: int, item: int, at_ms: int) -> None:
        """Learn one click; the next answer knows it.

        Parameters
        ----------
        session
            Key of the session, any int64.
        item
            Item row, >= 0.
        at_ms
            Event time, milliseconds.

        Raises
        ------
        ValueError
            If `item` is negative.
        """
        if item < 0:
            msg = f"item is {item}, wanted a row >= 0"
            raise ValueError(msg)
        self.reserve(item + 1)
        if self._next_lesson(self._clicks) == self._clicks + 1:
            self._teach(session, item, at_ms)
        self._clicks += 1
        while not fold(self._models(), session, item, at_ms):
            self.index.rebuild()
        if self._extras is None:
            self.trends.add(item, at_ms)

    def add_many(
        self, sessions: ArrayLike, items: ArrayLike, at_ms: ArrayLike, *, lessons: bool = True
    ) -> None:
        """Learn clicks in the order given; the same result as `add` one by one.

        Parameters
        ----------
        sessions, items, at_ms
            Keys, item rows and event times (ms), each of shape (n,).
        lessons
            Whether the blend learns too; without, a load is several times as fast.

        Raises
        ------
        ValueError
            If an item is negative or the shapes differ.
        """
        keys, rows, times = as_clicks(sessions, items, at_ms)
        self.reserve(int(rows.max(initial=-1)) + 1)
        done = 0
        while done < len(keys):
            if lessons and self._next_lesson(self._clicks) == self._clicks + 1:
                self._teach(int(keys[done]), int(rows[done]), int(times[done]))
            before_next = self._next_lesson(self._clicks + 1) - 1 - self._clicks
            part = slice(done, done + before_next if lessons else None)
            self._fold(keys[part], rows[part], times[part])
            done += len(keys[part])

    def _next_lesson(self, clicks: int) -> int:
        """Give the number of the first click after so many that is a lesson."""
        s = self.settings
        early = (clicks // s.learn_early + 1) * s.learn_early
        return (
            early
            if early <= s.early_clicks
            else (max(clicks, s.early_clicks) // s.learn_every + 1) * s.learn_every
        )

    def _fold(self, keys: IntArray, rows: IntArray, times: IntArray) -> None:
        self._clicks += len(keys)
        done = 0
        while (done := done + fold_many(self._models(), keys[done:], rows[done:], times[done:])) < len(keys):
            self.index.rebuild()
        if self._extras is None:
            for item, at in zip(rows.tolist(), times.tolist(), strict=True):
                self.trends.add(item, at)

    def recommend(
        self,
        items: ArrayLike,
        now_ms: int,
        limit: int,
        *,
        exclude_session: int | None = None,
        novel_only: bool = False,
    ) -> Recommendation:
        """Rank items for a session.

        Parameters
        ----------
        items
            Item rows of the session, oldest first, shape (n,); empty for a session without a click.
        now_ms
            Event time of the request, milliseconds.
        limit
            Items wanted at most, > 0; no more than `per_source` x 3 are ever found.
        exclude_session
            The session's own key, where its clicks have been added: it must not vote for itself.
        novel_only
            Leave out the session's own items.

        Returns
        -------
        See `Recommendation`.
        """
        query = Query(np.asarray(items, np.int64), now_ms, exclude_session)
        return self.retrieve(query, limit, novel_only=novel_only)

    def retrieve(
        self, query: Query, limit: int, *, least: int | None = None, novel_only: bool = False
    ) -> Recommendation:
        """Rank items for a session under what may be shown; `recommend` is the same for sessions alone.

        Parameters
        ----------
        query
            The session, what may be shown and whom to.
        limit
            Items wanted at most, > 0.
        least
            Where fewer than these were found, the last resort is asked; None for `limit`.
        novel_only
            Leave out the session's own items.

        Returns
        -------
        See `Recommendation`.
        """
        query = query._replace(items=query.items[-self.settings.max_query :])
        merged = self._gather(query, limit if least is None else least)
        best = room_for(limit)
        held = loops.rank(self._candidates, merged.size, self.blend.weights, novel_only, best)
        c, places = self._candidates, best.keys[:held]
        return Recommendation(
            c.rows[places],
            best.values[:held],
            c.inputs[places],
            c.first[places],
            c.sources[places],
            merged.cut,
            merged.reasons,
        )

    def remove_session(self, session: int) -> None:
        """Forget a session's clicks in the index; what the counts and weights learnt from it stays."""
        self.index.remove_session(session)

    def remove_item(self, item: int) -> None:
        """Forget an item in every source, in time proportional to their size."""
        for source in (self.index, self.covisits, self.embedding, self.trends):
            source.remove_item(item)
        if item < self._items:
            for counts in self._clock[:4]:
                counts[item] = 0

    def reserve(self, items: int) -> None:
        """Make room for item rows 0..`items` - 1; `add` does so by itself."""
        if items <= self._items:
            return
        self._items = max(items, 2 * self._items)
        for source in (self.index, self.covisits, self.embedding):
            source.reserve(self._items)
        c, old = self._clock, len(self._clock.slow)
        self._clock = empty_clock(self._items, self.settings.slow, self.settings.fast)
        for new, held in zip(self._clock[:4], c[:4], strict=True):
            new[:old] = held
        self._candidates = empty_candidates(self.settings.room, self._items, len(self.names))

    def snapshot(self) -> tuple[Arrays, dict[str, Any]]:
        """State of every part as arrays and JSON-ready values, for `state.packing.pack_arrays`."""
        arrays, metas = within("clock", copied(self._clock, self._clock._fields)), {}
        for name in _PARTS:
            held, metas[name] = getattr(self, name).snapshot()
            arrays |= within(name, held)
        nested = ("knn", "covisit", "embedding", "blend")
        own = {name: value for name, value in asdict(self.settings).items() if name not in nested}
        return arrays, {"version": _VERSION, "clicks": self._clicks, "settings": own, "parts": metas}

    @classmethod
    def restore(
        cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any], extras: ExtraSources | None = None
    ) -> Self:
        """Rebuild the recommender of a snapshot; it answers and learns as the one that was copied.

        Raises
        ------
        ValueError
            If the snapshot has another version, another set of inputs, or arrays are missing.
        """
        if meta["version"] != _VERSION:
            msg = f"snapshot has version {meta['version']}, wanted {_VERSION}"
            raise ValueError(msg)
        recommender = cls(_settings_of(meta), extras)
        names = recommender.names
        for name, part in (("index", SessionIndex), ("covisits", CoVisits), ("embedding", SessionEmbedding)):
            setattr(recommender, name, part.restore(part_of(arrays, name), meta["parts"][name]))
        recommender.blend = Blend.restore(part_of(arrays, "blend"), meta["parts"]["blend"], names)
        recommender.trends = Trends.restore(part_of(arrays, "trends"), meta["parts"]["trends"])
        clock = recommender._clock
        recommender._clock = filled(clock, part_of(arrays, "clock"), clock._fields)
        recommender._clicks, recommender._items = int(meta["clicks"]), len(recommender._clock.slow)
        recommender._candidates = empty_candidates(recommender.settings.room, recommender._items, len(names))
        return recommender

    def nbytes(self) -> int:
        """Count the bytes of all parts, working memory included."""
        parts = (self.index, self.covisits, self.embedding, self.trends)
        arrays = [*self._clock, *self._candidates, self.blend.precision]
        return sum(part.nbytes() for part in parts) + sum(int(array.nbytes) for array in arrays)

    def _models(self) -> Models:
        return Models(
            self.index.tables,
            self.index.most,
            self.covisits.tables,
            self.covisits.recipe,
            self.embedding.tables,
            self.embedding.recipe,
            self._clock,
        )

    def _scorers(self) -> loops.Scorers:
        return loops.Scorers(
            self.index.scratch,
            self.covisits.tables,
            *self.covisits.latest,
            self.embedding.tables,
            self.embedding.recipe,
            self._clock,
            self.covisits.begun,
        )

    def _teach(self, session: int, item: int, at_ms: int) -> None:
        items = self.index.session_items(session)[-self.settings.max_query :]
        if items.size == 0:
            return
        size = self._gather(Query(items, at_ms, session), 1).size
        place = np.flatnonzero(self._candidates.rows[:size] == item)
        if place.size:
            self.blend.learn(self._candidates.inputs[:size], int(place[0]))

    def _gather(self, query: Query, limit: int) -> Merged:
        """Collect and describe candidates, `limit` or more where the last resort has them."""
        parts = self._parts(query)
        merged = self._merge(query, parts)
        if merged.size < limit and (more := self._last_resort(query)):
            merged = self._merge(query, [*parts, *more])
        self._describe(query, merged.size)
        return merged

    def _parts(self, query: Query) -> list[Part]:
        most = self.settings.per_source
        near, _ = self.index.score(query.items, query.now_ms, limit=most, exclude_session=query.session)
        around, _ = self.covisits.score(query.items, limit=most)
        parts = [
            Part(KNN, near),
            Part(COVISIT, around),
            Part(HOP, self.covisits.hops(most)),
            Part(SESSION, query.items[::-1]),
        ]
        return parts if self._extras is None else [*parts, *self._extras.parts(query)]

    def _last_resort(self, query: Query) -> list[Part]:
        if self._extras is not None:
            return list(self._extras.last_resort(query))
        return [Part(TREND, self.trends.top_rows(0, self.settings.per_source))]

    def _merge(self, query: Query, parts: Iterable[Part]) -> Merged:
        codes, rows = zip(*parts, strict=True)
        ends = np.fromiter(accumulate(map(len, rows)), np.int64, len(rows))
        brought = Brought(np.concatenate(rows), ends, np.array(codes, np.int64))
        if self._extras is None:
            catalogue, wanted = NO_CATALOGUE, query.wanted or _EVERYTHING
        else:
            catalogue, wanted = self._extras.catalogue(query), query.wanted or self._extras.wanted(query)
        return Merged(*gather(self._candidates, brought, catalogue, wanted))

    def _describe(self, query: Query, size: int) -> None:
        c = self._candidates
        loops.describe(c, size, self._scorers(), query.items)
        if self._extras is not None:
            own = len(loops.FEATURES)
            c.inputs[:size, own : own + len(_RANKS)] = c.rank[:size, HISTORY:]
            c.inputs[:size, own + len(_RANKS) :] = self._extras.inputs(query, c.rows[:size])


def warm_up() -> None:
    """Compile (or load from disk) every loop of the recommender, so that no request waits for it."""
    settings = RecommenderSettings(knn=SessionKnnSettings(max_sessions=8), learn_every=1)
    recommender = Recommender(settings)
    for click in range(40):
        recommender.add(click // 4, click % 5, click)
    recommender.add_many([90, 90], [1, 2], [50, 51])
    recommender.recommend([0, 1], 50, 3)
    recommender.recommend([], 60, 3, novel_only=True)
    recommender.remove_session(90)
    recommender.remove_item(0)
