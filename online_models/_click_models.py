"""What the recommender learns from clicks alone: session index, co-visits, session embedding, popularity."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_models._click_loop import Models, fold, fold_many
from online_models._item_clock import empty_clock
from online_models._snapshots import Arrays, copied, filled, part_of, within
from online_models.arrays import IntArray
from online_models.compiled import Held, hold
from online_models.covisit import CoVisits
from online_models.retrieval_settings import RecommenderSettings
from online_models.session_embedding import SessionEmbedding
from online_models.session_knn import SessionIndex

_FIRST_ITEMS = 1024
_PARTS = ("index", "covisits", "embedding")


class ClickModels:
    """The models that every click changes, in step with each other.

    Parameters
    ----------
    settings
        See `RecommenderSettings`.
    """

    def __init__(self, settings: RecommenderSettings) -> None:
        self.settings = settings
        self.index = SessionIndex(settings.knn)
        self.covisits = CoVisits(settings.covisit)
        self.embedding = SessionEmbedding(settings.embedding)
        self.items = _FIRST_ITEMS
        self.clock = empty_clock(self.items, settings.slow, settings.fast)
        self._tables = self.arrays()
        self._held: Held = hold(self._tables)

    def fold(self, session: int, item: int, at_ms: int) -> None:
        """Learn one click on a row there is room for."""
        while not fold(self.held(), session, item, at_ms):
            self.index.rebuild()

    def fold_many(self, keys: IntArray, rows: IntArray, times: IntArray) -> None:
        """Learn clicks on rows there is room for, in order."""
        done = 0
        while (done := done + fold_many(self.held(), keys[done:], rows[done:], times[done:])) < len(keys):
            self.index.rebuild()

    def held(self) -> Held:
        """Give the arrays as compiled loops take them; anew where one of them was replaced."""
        old, index, covisits, embedding = self._tables, self.index, self.covisits, self.embedding
        if not (
            old.sessions is index.tables
            and old.covisits is covisits.tables
            and old.embedding is embedding.tables
            and old.clock is self.clock
        ):
            self._tables = self.arrays()
            self._held = hold(self._tables)
        return self._held

    def arrays(self) -> Models:
        """Give the arrays a click changes."""
        return Models(
            self.index.tables,
            self.index.most,
            self.covisits.tables,
            self.covisits.recipe,
            self.embedding.tables,
            self.embedding.recipe,
            self.clock,
        )

    def reserve(self, items: int) -> bool:
        """Make room for item rows 0..`items` - 1; tell whether there was none."""
        if items <= self.items:
            return False
        self.items = max(items, 2 * self.items)
        for source in (self.index, self.covisits, self.embedding):
            source.reserve(self.items)
        old, held = self.clock, len(self.clock.slow)
        self.clock = empty_clock(self.items, self.settings.slow, self.settings.fast)
        for new, counts in zip(self.clock[:4], old[:4], strict=True):
            new[:held] = counts
        return True

    def remove_item(self, item: int) -> None:
        """Forget an item in every model, in time proportional to their size."""
        for source in (self.index, self.covisits, self.embedding):
            source.remove_item(item)
        if item < self.items:
            for counts in self.clock[:4]:
                counts[item] = 0

    def snapshot(self) -> tuple[Arrays, dict[str, Any]]:
        """State as arrays and JSON-ready values, by part."""
        arrays, metas = within("clock", copied(self.clock, self.clock._fields)), {}
        for name in _PARTS:
            held, metas[name] = getattr(self, name).snapshot()
            arrays |= within(name, held)
        return arrays, metas

    def take(self, arrays: Mapping[str, NDArray[Any]], metas: Mapping[str, Any]) -> None:
        """Take in the state of a snapshot of the same settings.

        Raises
        ------
        ValueError
            If an array is missing or of another kind.
        """
        for name in _PARTS:
            kind = type(getattr(self, name))
            setattr(self, name, kind.restore(part_of(arrays, name), metas[name]))
        self.clock = filled(self.clock, part_of(arrays, "clock"), self.clock._fields)
        self.items = len(self.clock.slow)

    def nbytes(self) -> int:
        """Count the bytes of all parts."""
        parts = (self.index, self.covisits, self.embedding)
        counts: list[NDArray[np.generic]] = list(self.clock)
        return sum(part.nbytes() for part in parts) + sum(int(array.nbytes) for array in counts)
