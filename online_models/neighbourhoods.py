"""Items most alike by their vectors, by item: searched for when a vector changes, looked up when one asks."""

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
    """Lists, most alike first; N = item rows, S = lists, one for each item held, C = neighbours kept."""

    place: NDArray[np.int32]  # (N,) which list is the row's, where its state is not `UNKNOWN`
    state: NDArray[np.uint8]  # (N,) `UNKNOWN`, `STALE` or `FRESH`
    rows: NDArray[np.int32]  # (S, C)
    sims: VectorArray  # (S, C) cosines
    held: NDArray[np.int32]  # (S,)


@compiled
def _is_before(sim: float, row: int, other_sim: float, other: int) -> bool:
    return sim > other_sim or (sim == other_sim and row < other)


@compiled
def _insert(t: NeighbourLists, place: int, other: int, sim: float) -> None:
    """Put an item that a list does not hold at its place in it; the least alike makes room."""
    held, most = t.held[place], t.rows.shape[1]
    rows, sims, at = t.rows[place], t.sims[place], held
    if held == most:
        at = held - 1
        if not _is_before(sim, other, sims[at], rows[at]):
            return
    else:
        t.held[place] = held + 1
    while at > 0 and _is_before(sim, other, sims[at - 1], rows[at - 1]):
        rows[at], sims[at] = rows[at - 1], sims[at - 1]
        at -= 1
    rows[at], sims[at] = other, sim


@compiled
def _drop(t: NeighbourLists, place: int, other: int) -> None:
    kept, rows, sims = 0, t.rows[place], t.sims[place]
    for at in range(t.held[place]):
        if rows[at] != other:
            rows[kept], sims[kept] = rows[at], sims[at]
            kept += 1
    t.held[place] = kept


@compiled
def _settle(t: NeighbourLists, row: int, found: IntArray, sims: VectorArray) -> None:
    """Take a row's neighbours as they were found, and tell each of them of the row."""
    size, own = 0, t.place[row]
    for n in range(found.shape[0]):
        other = found[n]
        if other == row:
            continue
        if size < t.rows.shape[1]:
            t.rows[own, size], t.sims[own, size] = other, sims[n]
            size += 1
        if t.state[other] == FRESH:
            _drop(t, t.place[other], row)
            _insert(t, t.place[other], row, sims[n])
    t.held[own] = size
    t.state[row] = FRESH


@compiled
def _forget(t: NeighbourLists, row: int) -> None:
    """Take a row out of the lists of its own neighbours, where it mostly stands, and empty its own."""
    own = t.place[row]
    for n in range(t.held[own]):
        other = t.rows[own, n]
        if t.state[other] != UNKNOWN:
            _drop(t, t.place[other], row)
    t.held[own] = 0


@compiled
def _around(t: NeighbourLists, recent: IntArray, limit: int) -> IntArray:
    """Take lists in turn, the newest row's first, until there are `limit`; repeats are left to the caller."""
    out, size = np.empty(limit, np.int64), 0
    for at in range(t.rows.shape[1]):
        for back in range(recent.shape[0] - 1, -1, -1):
            row = recent[back]
            if size < limit and row < t.state.shape[0] and t.state[row] != UNKNOWN:
                place = t.place[row]
                if at < t.held[place] and t.state[t.rows[place, at]] != UNKNOWN:
                    out[size] = t.rows[place, at]
                    size += 1
    return out[:size]


class Neighbourhoods:
    """For each item the items most alike by their vectors.

    A search among vectors costs a request more than everything else together, and finds the same until one of
    them changes. So it is done then: a changed item looks for its neighbours and tells them of itself. In
    lists of items that are not among its neighbours it may stand as it was, until others push it out.

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
        self._lists = _empty(64, 64, kept)
        self._free = list(range(63, -1, -1))
        self._stale: deque[int] = deque()

    def put(self, row: int, vector: ArrayLike) -> None:
        """Add or replace an item's vector; it is settled by `settle`, or when it is asked for."""
        self.vectors.put(row, vector)
        self._reserve(row + 1)
        state = self._lists.state
        if state[row] == STALE:
            return
        if state[row] == FRESH:
            _forget(self._lists, row)
        else:
            self._lists.place[row] = self._free.pop()
        state[row] = STALE
        self._stale.append(row)

    def remove(self, row: int) -> None:
        """Take an item out; unknown items are no error."""
        self.vectors.remove(row)
        if row < len(self._lists.state) and self._lists.state[row] != UNKNOWN:
            _forget(self._lists, row)
            self._lists.state[row] = UNKNOWN
            self._free.append(int(self._lists.place[row]))

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
        t = self._lists
        if rows > len(t.state):
            more = max(rows, 2 * len(t.state)) - len(t.state)
            t = t._replace(place=np.pad(t.place, (0, more)), state=np.pad(t.state, (0, more)))
        if not self._free:
            size = len(t.held)
            t = t._replace(
                rows=np.pad(t.rows, ((0, size), (0, 0))),
                sims=np.pad(t.sims, ((0, size), (0, 0))),
                held=np.pad(t.held, (0, size)),
            )
            self._free = list(range(2 * size - 1, size - 1, -1))
        self._lists = t


def _empty(rows: int, lists: int, kept: int) -> NeighbourLists:
    return NeighbourLists(
        place=np.zeros(rows, np.int32),
        state=np.zeros(rows, np.uint8),
        rows=np.zeros((lists, kept), np.int32),
        sims=np.zeros((lists, kept), np.float32),
        held=np.zeros(lists, np.int32),
    )


def warm_up() -> None:
    """Compile (or load from disk) the loops of this module."""
    lists, rows = _empty(3, 3, 1), np.arange(1, 3)
    lists.place[:] = np.arange(3)
    _settle(lists, 0, rows, np.ones(2, np.float32))
    lists.state[:] = FRESH
    _settle(lists, 0, rows, np.ones(2, np.float32))
    _forget(lists, 0)
    _around(lists, rows, 1)
