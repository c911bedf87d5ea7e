"""Session-adaptive retrieval: every source asked, one blend to rank them, all learnt from each click."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from online_models import _blend_loops as loops
from online_models._topk import Best, room_for
from online_models.arrays import FloatArray, IntArray
from online_models.blend import FEATURES, Blend, BlendSettings
from online_models.covisit import CoVisits, CoVisitSettings
from online_models.session_embedding import SessionEmbedding, SessionEmbeddingSettings
from online_models.session_knn import SessionIndex, SessionKnnSettings
from online_models.trends import Trends


@dataclass(frozen=True, slots=True)
class RecommenderSettings:
    knn: SessionKnnSettings = field(default_factory=SessionKnnSettings)
    covisit: CoVisitSettings = field(default_factory=CoVisitSettings)
    embedding: SessionEmbeddingSettings = field(default_factory=SessionEmbeddingSettings)
    blend: BlendSettings = field(default_factory=BlendSettings)
    half_lives_s: tuple[float, ...] = (3600.0, 86_400.0, 7 * 86_400.0)
    per_source: int = 40
    from_trends: int = 10
    learn_every: int = 16
    slow: float = 60_000.0
    fast: float = 3_000.0


class Recommender:
    def __init__(self, settings):
        self.settings = settings
        self.index = SessionIndex(settings.knn)
        self.covisits = CoVisits(settings.covisit)
        self.embedding = SessionEmbedding(settings.embedding)
        self.trends = Trends(settings.half_lives_s)
        self.blend = Blend(settings.blend)
        N = 65536
        M = 4 * settings.per_source + 64
        F = len(FEATURES)
        self.c = loops.Candidates(np.zeros(M, np.int64), np.zeros((M, 4)), np.zeros((M, 4)), np.zeros((M, 2)), np.zeros((M, F)), np.zeros(N, np.int64), np.zeros(N, np.int64))
        self.clock = loops.ItemClock(np.zeros(N), np.zeros(N), np.zeros(N, np.int64), np.zeros(N, np.int64))
        self.decays = np.array([settings.slow, settings.fast])
        self.begun = 0
        self.n = 0
        self.number = 0
        self.lessons = []
        self.keep = None

    def add(self, session, item, at_ms, learn=True):
        before = self.index.session_items(session)
        self.n += 1
        if before.size and learn and self.n % self.settings.learn_every == 0:
            size = self.candidates(before, at_ms, session)
            hit = np.flatnonzero(self.c.rows[:size] == item)
            if hit.size:
                self.blend.learn(self.c.inputs[:size], int(hit[0]))
            if self.keep is not None:
                self.keep.append((self.c.inputs[:size].copy(), int(hit[0]) if hit.size else -1))
        if not before.size:
            self.begun += 1
        self.index.add(session, item, at_ms)
        self.covisits.add(before, item)
        self.embedding.learn(before[-self.settings.embedding.window:], item)
        self.trends.add(item, at_ms)
        loops.tick(self.clock, item, self.begun, self.settings.slow, self.settings.fast)

    def candidates(self, items, now_ms, exclude):
        self.number += 1
        s = self.settings
        r, v = self.index.score(items, now_ms, limit=s.per_source, exclude_session=exclude)
        tops = [(0, self.index, v[:1])]
        size = loops.gather(self.c, self.number, 0, 0, Best(v, r))
        r1, v1 = self.covisits.score(items[-1:], limit=s.per_source)
        size = loops.gather(self.c, self.number, size, 3, Best(v1, r1))
        if s.from_trends:
            r3, v3 = self.trends.top(0, now_ms, s.from_trends)
            size = loops.gather(self.c, self.number, size, 2, Best(v3, r3))
        q = items[::-1]
        u = q[np.sort(np.unique(q, return_index=True)[1])][:30]
        size = loops.gather(self.c, self.number, size, 2, Best(np.zeros(len(u)) + 1e-9, u.copy())) if 0 else self._session(size, u)
        if v1.size: self.c.share[:size, 3] = self._rel(self.covisits.latest_scores(self.c.rows[:size]), items, size)
        r2, v2 = self.covisits.score(items, limit=s.per_source)
        size = loops.gather(self.c, self.number, size, 1, Best(v2, r2))
        if v2.size: self.c.share[:size, 1] = self._rel(self.covisits.latest_scores(self.c.rows[:size]), items, size)
        if v.size: self.c.share[:size, 0] = self._rel(self.index.latest_scores(self.c.rows[:size]), items, size)
        self.c.match[:size] = self.embedding.match(items, self.c.rows[:size])
        loops.describe(self.c, size, self.clock, items, self.begun, self.decays)
        return size

    def _rel(self, v, items, size):
        new = v[~np.isin(self.c.rows[:size], items)]
        top = new.max() if new.size and new.max() > 0 else v.max()
        return v / (top + 1e-12)

    def _session(self, size, u):
        c = self.c
        for row in u.tolist():
            if c.mark[row] != self.number and size < len(c.rows):
                c.mark[row] = self.number
                c.place[row] = size
                c.rows[size] = row
                c.share[size] = 0
                c.rank[size] = 0
                size += 1
        return size

    def recommend(self, items, now_ms, limit, exclude=None):
        items = np.asarray(items, np.int64)
        size = self.candidates(items, now_ms, exclude)
        best = room_for(limit)
        held = loops.rank(self.c, size, self.blend.weights, best)
        return self.c.rows[best.keys[:held]]
