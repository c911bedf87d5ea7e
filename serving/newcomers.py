"""What a server knows of new items and of what exploration has cost, from what the shards have folded."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
from msgspec import Struct

from bandits.arrays import FloatArray
from bandits.budgets import Quota, Spending, allowance, bucket_level
from serving.items import IntArray, ItemTable
from state.exploration import Explorations
from state.exploring import STRETCH_MS, STRETCHES, Progress, Stretch, columns_of, item_field
from state.feed import ExploringFeed

HOUR_MS = 3_600_000
REFRESH_MS = 100
HOUR_STRETCHES = HOUR_MS // STRETCH_MS
WINDOW = 10
"""New items of those that are owed which one request may meet; others meet the others."""


class Owed(Struct, frozen=True):
    """Who is owed impressions on a surface.

    Attributes
    ----------
    at_ms
        When this was so.
    deficits
        (rows + 1,) by item row; the last one, 0, is that of every item which came since.
    rows
        (m,) who has a deficit, the newest first.
    """

    at_ms: int
    deficits: FloatArray
    rows: IntArray

    def window(self, turn: int) -> IntArray:
        """Return at most `WINDOW` rows, others for another turn."""
        if len(self.rows) <= WINDOW:
            return self.rows
        begin = turn % len(self.rows)
        found = self.rows[begin : begin + WINDOW]
        return found if len(found) == WINDOW else np.concatenate([found, self.rows[: WINDOW - len(found)]])

    def of(self, rows: IntArray) -> FloatArray:
        """Return the deficits of candidates, (k,); an item that came since has none yet."""
        return self.deficits.take(rows, mode="clip")


NOBODY = Owed(0, np.zeros(1), np.empty(0, np.int64))


class Ledger:
    """Progress of new items and spending of surfaces, summed over shards.

    Parameters
    ----------
    items
        The catalogue: who is owed is told by rows.
    """

    def __init__(self, items: ItemTable) -> None:
        self._items = items
        self._progress: dict[str, dict[int, Progress]] = defaultdict(dict)
        self._impressions: dict[str, FloatArray] = {}
        self._spending: dict[str, dict[int, dict[int, Stretch]]] = defaultdict(dict)
        self._owed: dict[str, tuple[Explorations, Owed]] = {}
        self._allowed: dict[str, tuple[Explorations, float | None, int, float]] = {}

    def load(
        self, shard: int, newcomers: Mapping[str, Progress], spending: Mapping[str, dict[int, Stretch]]
    ) -> None:
        """Take in what a shard has stored."""
        for name, progress in newcomers.items():
            self._take(shard, name, progress)
        for surface, stretches in spending.items():
            self._spending[surface][shard] = stretches

    def apply(self, shard: int, entry: ExploringFeed) -> None:
        """Take in what one commit of a shard changed."""
        for name, progress in entry.newcomers:
            self._take(shard, name, progress)
        for name in entry.dropped:
            self._take(shard, name, None)
        for surface, number, stretch in entry.stretches:
            held = self._spending[surface].setdefault(shard, {})
            held[number] = stretch
            for old in [one for one in held if one < number - STRETCHES]:
                del held[old]

    def _take(self, shard: int, name: str, progress: Progress | None) -> None:
        """Put what a shard says in the place of what it said; None takes it back."""
        held = self._progress[name]
        before = held.pop(shard, None)
        if progress is not None:
            held[shard] = progress
        elif not held:
            del self._progress[name]
        surface, _, item_id = name.partition(":")
        row = self._items.row(item_id)
        self._counted(surface, row + 1)[row] += _impressions(progress) - _impressions(before)

    def _counted(self, surface: str, rows: int) -> FloatArray:
        """Return impressions by row on a surface, of at least so many rows."""
        counts = self._impressions.get(surface)
        if counts is None or len(counts) < rows:
            grown = np.zeros(2 * rows)
            if counts is not None:
                grown[: len(counts)] = counts
            counts = self._impressions[surface] = grown
        return counts

    def owed(self, surface: str, document: Explorations, now_ms: int) -> Owed:
        """Return who is owed impressions; looked at anew ten times a second."""
        held = self._owed.get(surface)
        if held is not None and held[0] is document and 0 <= now_ms - held[1].at_ms < REFRESH_MS:
            return held[1]
        found = self._find_owed(surface, document, now_ms)
        self._owed[surface] = document, found
        return found

    def _find_owed(self, surface: str, document: Explorations, now_ms: int) -> Owed:
        items, count = self._items, len(self._items)
        if document.quota is None or not count:
            return NOBODY
        quota = Quota(document.quota.impressions, document.quota.hours * HOUR_MS)
        published = items.published_at[:count]
        new = np.flatnonzero(
            items.available[:count] & (published > now_ms - quota.patience) & (published <= now_ms)
        )
        deficits = np.zeros(count + 1)
        had = self._counted(surface, count)[new]
        deficits[new] = quota.deficits(had, (now_ms - published[new]).astype(np.float64))
        rows = new[deficits[new] > 0]
        return Owed(now_ms, deficits, rows[np.argsort(-published[rows], kind="stable")])

    def progress(self, surface: str, item_id: str) -> list[Progress]:
        """Return an item's progress in each shard that met it."""
        return list(self._progress.get(item_field(surface, item_id), {}).values())

    def names(self) -> list[str]:
        """Return all there is progress of, as ``SURFACE:ITEM``."""
        return list(self._progress)

    def on_surface(self, surface: str) -> dict[str, list[Progress]]:
        """Return item -> its progress in each shard, of all items met as new on a surface."""
        begin = f"{surface}:"
        return {
            name[len(begin) :]: list(shards.values())
            for name, shards in self._progress.items()
            if name.startswith(begin)
        }

    def allowed(self, surface: str, document: Explorations, total: float | None, now_ms: int) -> float:
        """Return the share of its rate that its budget and the budget of all leave a surface.

        Parameters
        ----------
        surface, document
            Whose exploration.
        total
            What all surfaces may cost an hour; None for no bound.
        now_ms
            Decision time.
        """
        own = document.cost_per_hour
        if own is None and total is None:
            return 1.0
        held = self._allowed.get(surface)
        is_same = held is not None and held[0] is document and held[1] == total
        if held is not None and is_same and 0 <= now_ms - held[2] < REFRESH_MS:
            return held[3]
        share = min(
            1.0 if own is None else self._allowance([surface], own, now_ms),
            1.0 if total is None else self._allowance(list(self._spending), total, now_ms),
        )
        self._allowed[surface] = document, total, now_ms, share
        return share

    def _allowance(self, surfaces: Iterable[str], per_hour: float, now_ms: int) -> float:
        costs = sum((self._costs(surface, now_ms) for surface in surfaces), np.zeros(STRETCHES))
        return allowance(level_of(costs, per_hour, now_ms), per_hour)

    def _costs(self, surface: str, now_ms: int) -> FloatArray:
        return costs_of(list(self._spending.get(surface, {}).values()), now_ms)

    def spent(self, surface: str, now_ms: int) -> float:
        """Return what exploration cost on a surface in the last hour, in rewards."""
        return float(self._costs(surface, now_ms)[-HOUR_STRETCHES:].sum())


def _impressions(progress: Progress | None) -> int:
    return 0 if progress is None else progress.shown + progress.pending


def costs_of(shards: Iterable[Mapping[int, Stretch]], now_ms: int) -> FloatArray:
    """Return what exploration cost in each of the latest stretches, oldest first, (STRETCHES,)."""
    return Spending(**columns_of(shards, now_ms)).costs()


def level_of(costs: FloatArray, per_hour: float, now_ms: int) -> float:
    """Return what the bucket of a budget holds now."""
    stretch = per_hour * STRETCH_MS / HOUR_MS
    refills = np.full(len(costs), stretch)
    refills[-1] = stretch * (now_ms % STRETCH_MS) / STRETCH_MS
    return bucket_level(costs, per_hour, refills)
