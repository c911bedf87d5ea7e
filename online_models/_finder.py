"""Which items a session could be answered with: all sources asked, merged and described."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from online_models import _find_loops as loops
from online_models._blend_loops import FEATURES
from online_models._candidate_loops import Merged, empty_candidates
from online_models._click_models import ClickModels
from online_models._door import selection_of
from online_models._machine import Brought, Machine
from online_models.arrays import FloatArray, IntArray
from online_models.candidates import NO_CATALOGUE, Wanted
from online_models.compiled import Held, hold
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

_NO_ROWS = np.zeros(0, np.int64)
_EVERYTHING = Wanted(_NO_ROWS, np.zeros(0, np.uint64), _NO_ROWS, 1 << 30)
_NOTHING = Brought(_NO_ROWS, _NO_ROWS, _NO_ROWS)
RANKS = tuple(f"{label}_rank" for label in LABELS[HISTORY:])
"""Inputs made of the places extra sources give an item."""
_OWN = len(FEATURES)


class Finder:
    """Candidates of a session, with what the blend ranks them by.

    Parameters
    ----------
    models
        What clicks have taught.
    trends
        What answers where the session says nothing and there are no `extras`.
    extras
        What a root adds; None where every item known from clicks may be shown.

    Attributes
    ----------
    names
        Inputs of the blend, F of them, in order.
    """

    def __init__(self, models: ClickModels, trends: Trends, extras: ExtraSources | None) -> None:
        self.models, self._trends, self._extras = models, trends, extras
        self.names: tuple[str, ...] = FEATURES
        if extras is not None:
            self.names += (*RANKS, *extras.names)
        self.asked = np.ones(len(LABELS), np.bool_)
        self._machine = self._made()
        self._held: Held = hold(self._machine)

    @property
    def rows(self) -> IntArray:
        """Rows of the latest candidates, shape (room,)."""
        return self._machine.candidates.rows

    @property
    def inputs(self) -> FloatArray:
        """Inputs of the latest candidates, shape (room, F)."""
        return self._machine.candidates.inputs

    def held(self) -> Held:
        """Give models and working memory as compiled loops take them; anew where a part was replaced."""
        m, index = self._machine.models, self.models.index
        if not (
            m.sessions is index.tables
            and self._machine.scratch is index.scratch
            and m.covisits is self.models.covisits.tables
            and m.embedding is self.models.embedding.tables
            and m.clock is self.models.clock
        ):
            self._machine = self._made()
            self._held = hold(self._machine)
        return self._held

    def find(self, query: Query, least: int) -> Merged:
        """Collect and describe candidates, `least` or more where the last resort has them."""
        held, extras = self.held(), self._extras
        parts: Sequence[Part] = ()
        catalogue, wanted = NO_CATALOGUE, query.wanted or _EVERYTHING
        if extras is not None:
            parts, catalogue = extras.parts(query), extras.catalogue(query)
            wanted = query.wanted or extras.wanted(query)
        merged = loops.find(held, query.items, self._moment(query), _flat(parts), catalogue, wanted)
        if merged.size < least and (more := self._last_resort(query)):
            merged = loops.merge(held, query.items, _flat([*parts, *more]), catalogue, wanted)
        if extras is not None:
            c, size = self._machine.candidates, merged.size
            c.inputs[:size, _OWN : _OWN + len(RANKS)] = c.rank[:size, HISTORY:]
            c.inputs[:size, _OWN + len(RANKS) :] = extras.inputs(query, c.rows[:size])
        return merged

    def parts(self, query: Query) -> list[Part]:
        """Give what each source brings, the last resort left out."""
        loops.ask(self.held(), query.items, self._moment(query))
        m = self._machine
        found = ((KNN, m.near), (COVISIT, m.around), (HOP, m.further))
        parts = [Part(code, one.best.keys[: one.sizes[0]].copy()) for code, one in found]
        parts.append(Part(SESSION, query.items[::-1]))
        return parts if self._extras is None else [*parts, *self._extras.parts(query)]

    def nbytes(self) -> int:
        """Count the bytes of working memory."""
        return sum(int(array.nbytes) for array in self._machine.candidates)

    def _moment(self, query: Query) -> tuple[int, int, bool]:
        oldest = query.now_ms - self.models.index.max_age_ms
        return (oldest, 0, False) if query.session is None else (oldest, query.session, True)

    def _last_resort(self, query: Query) -> Sequence[Part]:
        if self._extras is not None:
            return self._extras.last_resort(query)
        return [Part(TREND, self._trends.top_rows(0, self.models.settings.per_source))]

    def _made(self) -> Machine:
        settings = self.models.settings
        return Machine(
            self.models.arrays(),
            self.models.index.recipe,
            self.models.index.scratch,
            settings.covisit.hops,
            empty_candidates(settings.room, self.models.items, len(self.names)),
            self.asked,
            *(selection_of(settings.per_source) for _ in range(3)),
        )


def _flat(parts: Sequence[Part]) -> Brought:
    if not parts:
        return _NOTHING
    codes, rows = zip(*parts, strict=True)
    ends = np.fromiter(accumulate(map(len, rows)), np.int64, len(rows))
    return Brought(np.concatenate(rows), ends, np.array(codes, np.int64))
