"""Session-adaptive retrieval: every source is asked, one blend ranks, and each click teaches them all."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from online_models import _blend_loops as loops
from online_models._click_loop import BEGAN, NO_ROOM, Click, Models, fold
from online_models._item_clock import empty_clock
from online_models._topk import room_for
from online_models.arrays import FloatArray, IntArray
from online_models.blend import Blend, BlendSettings
from online_models.covisit import CoVisits, CoVisitSettings
from online_models.session_embedding import SessionEmbedding, SessionEmbeddingSettings
from online_models.session_knn import SessionIndex, SessionKnnSettings
from online_models.trends import Trends


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
        Candidates taken from each source, > 0.
    max_query
        Clicks of the current session looked at, the latest ones, > 0.
    learn_every
        One click in so many is a lesson for the blend, > 0: a lesson costs a whole retrieval.
    slow, fast
        Sessions over which an item's lasting and recent popularity fall by e, > 0.
    """

    knn: SessionKnnSettings = field(default_factory=SessionKnnSettings)
    covisit: CoVisitSettings = field(default_factory=CoVisitSettings)
    embedding: SessionEmbeddingSettings = field(default_factory=SessionEmbeddingSettings)
    blend: BlendSettings = field(default_factory=BlendSettings)
    half_lives_s: tuple[float, ...] = (3600.0, 86_400.0, 7 * 86_400.0)
    per_source: int = 40
    max_query: int = 20
    learn_every: int = 32
    slow: float = 60_000.0
    fast: float = 3_000.0

    def __post_init__(self) -> None:
        for name in ("per_source", "max_query", "learn_every", "slow", "fast"):
            if not getattr(self, name) > 0:
                msg = f"{name} is {getattr(self, name)}, wanted a number > 0"
                raise ValueError(msg)


class Recommendation(NamedTuple):
    """Ranked items; m <= the limit asked for."""

    rows: IntArray
    """Item rows, best first, shape (m,)."""
    scores: FloatArray
    """The blend's logits, shape (m,); only differences within one answer mean anything."""
    inputs: FloatArray
    """What the scores were made of, in the order of `blend.FEATURES`, shape (m, F)."""


class Recommender:
    """Ranks items for a session and learns from every click, in the order predict, then learn.

    Sources are the session index (`SessionIndex`), co-visits (`CoVisits`), the session's own items, and
    trends where those are too few; the session embedding scores what they found. Not thread-safe.

    Parameters
    ----------
    settings
        See `RecommenderSettings`.

    Examples
    --------
    >>> recommender = Recommender(RecommenderSettings())
    >>> for session in range(5):
    ...     for step, item in enumerate((3, 7, 8)):
    ...         recommender.add(session, item, 1000 * step)
    >>> [int(row) for row in recommender.recommend([3, 7], 5000, 1, novel_only=True).rows]
    [8]
    """

    def __init__(self, settings: RecommenderSettings) -> None:
        self.settings = settings
        self.index = SessionIndex(settings.knn)
        self.covisits = CoVisits(settings.covisit)
        self.embedding = SessionEmbedding(settings.embedding)
        self.trends = Trends(settings.half_lives_s)
        self.blend = Blend(settings.blend)
        self._items = 1024
        self._clock = empty_clock(self._items, settings.slow, settings.fast)
        self._candidates = loops.empty_candidates(3 * settings.per_source + settings.max_query, self._items)
        self._clicks, self._begun = 0, 0

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
        self._clicks += 1
        if self._clicks % self.settings.learn_every == 0:
            self._teach(session, item, at_ms)
        scale = self.covisits.scale()
        click = Click(session, item, at_ms, self._begun, scale, self.index.most)
        while (how := fold(self._models(), click)) == NO_ROOM:
            self.index.rebuild()
        self._begun += how == BEGAN
        self.covisits.count(scale, begins=how == BEGAN)
        self.trends.add(item, at_ms)

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
        query = np.asarray(items, np.int64)[-self.settings.max_query :]
        size = self._gather(query, now_ms, limit, exclude_session)
        best = room_for(limit)
        held = loops.rank(self._candidates, size, self.blend.weights, novel_only, best)
        places = best.keys[:held]
        return Recommendation(
            self._candidates.rows[places], best.values[:held], self._candidates.inputs[places]
        )

    def remove_session(self, session: int) -> None:
        """Forget a session's clicks in the index; what the counts and weights learnt from it stays."""
        self.index.remove_session(session)

    def remove_item(self, item: int) -> None:
        """Forget an item in every source, in time proportional to their size."""
        for source in (self.index, self.covisits, self.embedding, self.trends):
            source.remove_item(item)

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
        self._candidates = loops.empty_candidates(len(self._candidates.rows), self._items)

    def nbytes(self) -> int:
        """Count the bytes of all parts, working memory included."""
        parts = (self.index, self.covisits, self.embedding, self.trends)
        arrays = [*self._clock, *self._candidates, self.blend.precision]
        return sum(part.nbytes() for part in parts) + sum(int(array.nbytes) for array in arrays)

    def _models(self) -> Models:
        return Models(
            self.index.tables,
            self.covisits.tables,
            self.covisits.recipe,
            self.embedding.tables,
            self.embedding.recipe,
            self._clock,
        )

    def _teach(self, session: int, item: int, at_ms: int) -> None:
        query = self.index.session_items(session)[-self.settings.max_query :]
        if query.size == 0:
            return
        size = self._gather(query, at_ms, self.settings.per_source, session)
        place = np.flatnonzero(self._candidates.rows[:size] == item)
        if place.size:
            self.blend.learn(self._candidates.inputs[:size], int(place[0]))

    def _gather(self, query: IntArray, now_ms: int, limit: int, exclude: int | None) -> int:
        """Collect and describe candidates; return how many there are."""
        c, most = self._candidates, self.settings.per_source
        c.number[0] += 1
        near, _ = self.index.score(query, now_ms, limit=most, exclude_session=exclude)
        around, _ = self.covisits.score(query, limit=most)
        size = loops.gather(c, 0, loops.KNN, near)
        size = loops.gather(c, size, loops.COVISIT, around)
        size = loops.gather_session(c, size, query)
        if size < limit:
            size = loops.gather(c, size, loops.TREND, self._trending(now_ms, most))
        c.score[:size, loops.KNN] = self.index.latest_scores(c.rows[:size])
        c.score[:size, loops.COVISIT] = self.covisits.latest_scores(c.rows[:size])
        if query.size:
            c.match[:size] = self.embedding.match(query, c.rows[:size])
        loops.describe(c, size, self._clock, query, self._begun)
        return size

    def _trending(self, now_ms: int, limit: int) -> IntArray:
        rows, _ = self.trends.top(0, now_ms, limit)
        return rows


def warm_up() -> None:
    """Compile (or load from disk) every loop of the recommender, so that no request waits for it."""
    settings = RecommenderSettings(knn=SessionKnnSettings(max_sessions=8), learn_every=1)
    recommender = Recommender(settings)
    for click in range(40):
        recommender.add(click // 4, click % 5, click)
    recommender.recommend([0, 1], 50, 3)
    recommender.remove_session(0)
    recommender.remove_item(0)
