"""Session-adaptive retrieval: every source is asked, one blend ranks, and each click teaches them all."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from online_models._blend_loops import rank
from online_models._candidate_loops import Merged
from online_models._click_models import ClickModels
from online_models._finder import Finder
from online_models._snapshots import Arrays, part_of, within
from online_models.arrays import FloatArray, IntArray, as_clicks
from online_models.blend import FIRST_WEIGHTS, Blend
from online_models.covisit import CoVisits
from online_models.retrieval_settings import RecommenderSettings
from online_models.session_embedding import SessionEmbedding
from online_models.session_knn import SessionIndex, SessionKnnSettings
from online_models.sources import ExtraSources, Part, Query
from online_models.trends import Trends

__all__ = ["Recommendation", "Recommender", "RecommenderSettings", "warm_up"]

_VERSION = 3
"""Of snapshots."""


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
        self._models = ClickModels(settings)
        self.trends = Trends(settings.half_lives_s)
        self._extras = extras
        self._finder = Finder(self._models, self.trends, extras)
        first = FIRST_WEIGHTS if extras is None else FIRST_WEIGHTS | dict(extras.first_weights)
        self.blend = Blend(settings.blend, first, self.names)
        self._since_lesson = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Inputs of the blend, F of them, in order."""
        return self._finder.names

    @property
    def index(self) -> SessionIndex:
        """The session index."""
        return self._models.index

    @property
    def covisits(self) -> CoVisits:
        """Co-visitation."""
        return self._models.covisits

    @property
    def embedding(self) -> SessionEmbedding:
        """The session embedding."""
        return self._models.embedding

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
        if self._clicks_to_lesson() == 1:
            self._teach(session, item, at_ms)
        else:
            self._since_lesson += 1
        self._models.fold(session, item, at_ms)
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
        if not lessons:
            self._fold(keys, rows, times)
            return
        done = 0
        while done < len(keys):
            if self._clicks_to_lesson() == 1:
                self._teach(int(keys[done]), int(rows[done]), int(times[done]))
                self._since_lesson = -1
            part = slice(done, done + self._clicks_to_lesson() - 1)
            self._fold(keys[part], rows[part], times[part])
            self._since_lesson += len(keys[part])
            done += len(keys[part])

    def add_session(self, session: int, items: ArrayLike, at_ms: ArrayLike) -> None:
        """Learn a session that has ended.

        The same as `add_many`, but for the blend: its lessons ask for the session as it was before anything
        of it was learnt, as a session asks whose clicks are only learnt when it has ended. Of a session that
        is learnt click by click, counts and vectors know what it holds, so that repeats stand higher.

        Parameters
        ----------
        session
            Key of the session.
        items, at_ms
            Item rows and event times (ms), oldest first, each of shape (n,).

        Raises
        ------
        ValueError
            If an item is negative or the shapes differ.
        """
        keys, rows, times = as_clicks(np.full(np.shape(items), session), items, at_ms)
        self.reserve(int(rows.max(initial=-1)) + 1)
        for place in range(1, len(rows)):
            if self._clicks_to_lesson() == 1:
                self._lesson(Query(rows[:place], int(times[place])), int(rows[place]))
            else:
                self._since_lesson += 1
        self._fold(keys, rows, times)

    def _clicks_to_lesson(self) -> int:
        """Count clicks up to the next lesson, that click included; many while the blend has learnt little."""
        s = self.settings
        every = s.learn_early if self.blend.lessons < s.early_lessons else s.learn_every
        return max(1, every - self._since_lesson)

    def _fold(self, keys: IntArray, rows: IntArray, times: IntArray) -> None:
        self._models.fold_many(keys, rows, times)
        if self._extras is None:
            self.trends.add_many(rows, times)

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
        held, weights = self._finder.held(), self.blend.weights
        best = rank(held, merged.size, weights, novel_only, limit)
        return Recommendation(*best, merged.cut, merged.reasons)

    def parts(self, query: Query) -> list[Part]:
        """Give what each source brings for a session, shown or not; not the last resort."""
        return self._finder.parts(query)

    def remove_session(self, session: int) -> None:
        """Forget a session's clicks in the index; what the counts and weights learnt from it stays."""
        self.index.remove_session(session)

    def remove_item(self, item: int) -> None:
        """Forget an item in every source, in time proportional to their size."""
        self._models.remove_item(item)
        self.trends.remove_item(item)

    def reserve(self, items: int) -> None:
        """Make room for item rows 0..`items` - 1; `add` does so by itself."""
        self._models.reserve(items)

    def snapshot(self) -> tuple[Arrays, dict[str, Any]]:
        """State of every part as arrays and JSON-ready values, for `state.packing.pack_arrays`."""
        arrays, metas = self._models.snapshot()
        for name, part in (("blend", self.blend), ("trends", self.trends)):
            held, metas[name] = part.snapshot()
            arrays |= within(name, held)
        own = {"since_lesson": self._since_lesson, "settings": self.settings.own()}
        return arrays, {"version": _VERSION, **own, "parts": metas}

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
        recommender, parts = cls(RecommenderSettings.of_snapshot(meta), extras), meta["parts"]
        recommender._models.take(arrays, parts)
        recommender.blend = Blend.restore(part_of(arrays, "blend"), parts["blend"], recommender.names)
        recommender.trends = Trends.restore(part_of(arrays, "trends"), parts["trends"])
        recommender._finder = Finder(recommender._models, recommender.trends, extras)
        recommender._since_lesson = int(meta["since_lesson"])
        return recommender

    def nbytes(self) -> int:
        """Count the bytes of all parts, working memory included."""
        parts = (self._models, self.trends, self._finder)
        return sum(part.nbytes() for part in parts) + int(self.blend.precision.nbytes)

    def _teach(self, session: int, item: int, at_ms: int) -> None:
        items = self.index.session_items(session)
        self._lesson(Query(items, at_ms, session), item)

    def _lesson(self, query: Query, item: int) -> None:
        self._since_lesson, items = 0, query.items
        if items.size == 0:
            return
        if self._extras is not None:
            # Of all the session has taken nothing can be taken again, not only of what is looked at.
            query = query._replace(wanted=self._extras.wanted(query))
        query = query._replace(items=items[-self.settings.max_query :])
        size = self._gather(query, 1).size
        place = np.flatnonzero(self._finder.rows[:size] == item)
        if place.size:
            self.blend.learn(self._finder.inputs[:size], int(place[0]))

    def _gather(self, query: Query, least: int) -> Merged:
        return self._finder.find(query, least)


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
