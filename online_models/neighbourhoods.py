"""Items most alike in content, by item: searched for when the catalogue changes, looked up when one asks."""

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from online_models.arrays import IntArray, VectorArray
from online_models.compiled import compiled
from online_models.embeddings import ItemVectors

KEPT = 32
"""Neighbours kept of an item."""
UNKNOWN, STALE, FRESH = 0, 1, 2


class NeighbourLists(NamedTuple):
    """Lists by item row, most alike first; N = rows, C = neighbours kept."""

    rows: NDArray[np.int32]  # (N, C)
    sims: VectorArray  # (N, C) cosines
    held: NDArray[np.int32]  # (N,)
    state: NDArray[np.uint8]  # (N,) `UNKNOWN`, `STALE` or `FRESH`


@compiled
def _is_before(sim: float, row: int, other_sim: float, other: int) -> bool:
    return sim > other_sim or (sim == other_sim and row < other)


@compiled
def _insert(t: NeighbourLists, row: int, other: int, sim: float) -> None:
    """Put an item that a list does not hold at its place in it; the least alike makes room."""
    held, most = t.held[row], t.rows.shape[1]
    at = held
    if held == most:
        at = held - 1
        if not _is_before(sim, other, t.sims[row, at], t.rows[row, at]):
            return
    else:
        t.held[row] = held + 1
    while at > 0 and _is_before(sim, other, t.sims[row, at - 1], t.rows[row, at - 1]):
        t.rows[row, at], t.sims[row, at] = t.rows[row, at - 1], t.sims[row, at - 1]
        at -= 1
    t.rows[row, at], t.sims[row, at] = other, sim


@compiled
def _drop(t: NeighbourLists, row: int, other: int) -> None:
    kept = 0
    for at in range(t.held[row]):
        if t.rows[row, at] != other:
            t.rows[row, kept], t.sims[row, kept] = t.rows[row, at], t.sims[row, at]
            kept += 1
    t.held[row] = kept


@compiled
def _settle(t: NeighbourLists, row: int, found: IntArray, sims: VectorArray) -> None:
    """Take a row's neighbours as they were found, and tell each of them of the row."""
    size = 0
    for n in range(found.shape[0]):
        other = found[n]
        if other == row:
            continue
        if size < t.rows.shape[1]:
            t.rows[row, size], t.sims[row, size] = other, sims[n]
            size += 1
        if t.state[other] == FRESH:
            _drop(t, other, row)
            _insert(t, other, row, sims[n])
    t.held[row] = size
    t.state[row] = FRESH


@compiled
def _forget(t: NeighbourLists, row: int) -> None:
    """Take a row out of the lists of its own neighbours, where it mostly stands, and empty its own."""
    for n in range(t.held[row]):
        _drop(t, t.rows[row, n], row)
    t.held[row] = 0


@compiled
def _around(t: NeighbourLists, recent: IntArray, limit: int) -> IntArray:
    """Take lists in turn, the newest row's first, until there are `limit`; repeats are left to the caller."""
    out, size = np.empty(limit, np.int64), 0
    for place in range(t.rows.shape[1]):
        for back in range(recent.shape[0] - 1, -1, -1):
            row = recent[back]
            if row < t.held.shape[0] and place < t.held[row] and size < limit:
                out[size] = t.rows[row, place]
                size += 1
    return out[:size]


class Neighbourhoods:
    """For each item the items most alike in content.

    A search among vectors costs a request more than everything else together, and finds the same until the
    catalogue changes. So it is done then: a changed item looks for its neighbours and tells them of itself.
    A removed item may stay in a few lists until others push it out; who asks filters by what is available.

    Parameters
    ----------
    vectors
        Where changed items look for neighbours.
    kept
        Neighbours kept of an item, > 0.

    Examples
    --------
    >>> from online_models.embeddings import ItemVectorSettings
    >>> alike = Neighbourhoods(ItemVectors(ItemVectorSettings(dim=2)))
    >>> for row, vector in enumerate(([1.0, 0.0], [0.9, 0.1], [0.0, 1.0])):
    ...     alike.put(row, vector)
    >>> alike.around([0], 1).tolist()
    [1]
    """

    def __init__(self, vectors: ItemVectors, kept: int = KEPT) -> None:
        self.vectors, self._kept = vectors, kept
        self._lists = _empty(64, kept)
        self._stale: deque[int] = deque()

    def put(self, row: int, vector: ArrayLike) -> None:
        """Add or replace an item's vector; it is settled by `settle`, or when it is asked for."""
        self.vectors.put(row, vector)
        self._reserve(row + 1)
        if self._lists.state[row] != STALE:
            _forget(self._lists, row)
            self._lists.state[row] = STALE
            self._stale.append(row)

    def remove(self, row: int) -> None:
        """Take an item out; unknown items are no error."""
        self.vectors.remove(row)
        if row < len(self._lists.held):
            _forget(self._lists, row)
            self._lists.state[row] = UNKNOWN

    def settle(self, most: int) -> int:
        """Let at most so many changed items find their neighbours; returns how many are left."""
        while self._stale and most > 0:
            row = self._stale.popleft()
            if self._lists.state[row] == STALE:
                self._find(row)
                most -= 1
        return len(self._stale)

    def around(self, recent: ArrayLike, limit: int) -> IntArray:
        """Items alike to recent ones.

        Parameters
        ----------
        recent
            Item rows, oldest first, shape (n,). If the newest has changed and is not settled, it is now.
        limit
            Items wanted at most, > 0.

        Returns
        -------
        Item rows, shape (m,), m <= `limit`: the nearest of each recent item, the newest one's first, then the
        second nearest, and so on. An item may occur several times.
        """
        rows = np.asarray(recent, np.int64)
        if not rows.size:
            return rows
        newest = int(rows[-1])
        if newest < len(self._lists.state) and self._lists.state[newest] == STALE:
            self._find(newest)
        return _around(self._lists, rows, limit)

    def nbytes(self) -> int:
        """Count the bytes of the lists."""
        return sum(int(array.nbytes) for array in self._lists)

    def _find(self, row: int) -> None:
        vector = self.vectors.vector(row)
        if vector is not None:
            # Of a small catalogue every item hears of the new one, not only those it is likest to.
            exact = len(self.vectors) <= self.vectors.settings.exact_below
            found, sims = self.vectors.nearest(vector, len(self.vectors) if exact else self._kept + 1)
            _settle(self._lists, row, found, np.round(sims, 6).astype(np.float32))

    def _reserve(self, rows: int) -> None:
        held = len(self._lists.held)
        if rows > held:
            more = _empty(max(rows, 2 * held) - held, self._kept)
            t = self._lists
            self._lists = NeighbourLists(
                rows=np.concatenate([t.rows, more.rows]),
                sims=np.concatenate([t.sims, more.sims]),
                held=np.concatenate([t.held, more.held]),
                state=np.concatenate([t.state, more.state]),
            )


def _empty(rows: int, kept: int) -> NeighbourLists:
    return NeighbourLists(
        rows=np.zeros((rows, kept), np.int32),
        sims=np.zeros((rows, kept), np.float32),
        held=np.zeros(rows, np.int32),
        state=np.zeros(rows, np.uint8),
    )


def warm_up() -> None:
    """Compile (or load from disk) the loops of this module."""
    lists, rows = _empty(3, 1), np.arange(1, 3)
    _settle(lists, 0, rows, np.ones(2, np.float32))
    lists.state[:] = FRESH
    _settle(lists, 0, rows, np.ones(2, np.float32))
    _forget(lists, 0)
    _around(lists, rows, 1)
