"""What a server keeps of item blocks: all shards' accumulators, and float32 rows of their moments."""

from collections.abc import Mapping, Sequence

import numpy as np

from bandits.arrays import FloatArray, IntArray, ServingArray
from bandits.fading import aged, stored
from bandits.model import Kind
from bandits.natural import doubled, moments, packed_size, triangle

UNSEEN = 0
"""Row of every item without a block: the prior."""

_FIRST_CAPACITY = 256

_STALE = 1.0 / 64.0
"""Share of a life after which a row that fades is made again: looked for twice as often."""


class _ShardRows:
    """One shard's packed blocks, stored densely for the items it has seen."""

    def __init__(self, width: int, capacity: int) -> None:
        self.values = np.zeros((_FIRST_CAPACITY, width))
        self.place = np.full(capacity, -1, np.int32)
        self.free = list(range(_FIRST_CAPACITY - 1, -1, -1))

    def grow_items(self, capacity: int) -> None:
        self.place = np.concatenate((self.place, np.full(capacity - len(self.place), -1, np.int32)))

    def put(self, row: int, block: FloatArray) -> None:
        if self.place[row] < 0:
            if not self.free:
                size = len(self.values)
                self.values = np.concatenate((self.values, np.zeros_like(self.values)))
                self.free = list(range(2 * size - 1, size - 1, -1))
            self.place[row] = self.free.pop()
        self.values[self.place[row]] = block

    def drop(self, row: int) -> None:
        if self.place[row] >= 0:
            self.free.append(int(self.place[row]))
            self.place[row] = -1


class ItemTable:
    """Item blocks by id, summed over shards in the order of their numbers, whatever the order they came in.

    Memory per item, with d dimensions, p = packed_size(d) and s shards that have seen it: 8 p s bytes of
    accumulators, 4 bytes for every shard, 4 (p - 1) to score with, 8 for its time and about 150 for its id:
    at d = 5 and one shard 420 bytes. Tables double when full, and rows of dropped items are used again:
    memory follows the largest number of items held at a time.

    Parameters
    ----------
    kind
        What items' blocks are like.
    """

    def __init__(self, kind: Kind) -> None:
        self._kind, self._now, self._looked, d = kind, 0.0, 0, kind.d
        self._places: dict[str, int] = {}
        self._shards: dict[int, _ShardRows] = {}
        self.means: ServingArray = np.zeros((_FIRST_CAPACITY, d), np.float32)
        self.covariances: ServingArray = np.zeros((_FIRST_CAPACITY, d * (d + 1) // 2), np.float32)
        self._made_at = np.zeros(_FIRST_CAPACITY)
        self._behind = np.empty(0, np.int64)
        self._refresh(np.arange(_FIRST_CAPACITY))
        self._free = list(range(_FIRST_CAPACITY - 1, UNSEEN, -1))

    def __len__(self) -> int:
        return len(self._places)

    def rows(self, item_ids: Sequence[str]) -> IntArray:
        """Return each id's row (K,), `UNSEEN` without a block; valid until the next put or drop."""
        get = self._places.get
        return np.array([get(key, UNSEEN) for key in item_ids], np.int64)

    def put(self, shard: int, blocks: Mapping[str, FloatArray]) -> None:
        """Replace the values that a shard had for these items.

        Raises
        ------
        ValueError
            If a block has another shape or is not finite; nothing is replaced then.
        """
        kind = self._kind
        checked = {
            key: stored(f"blocks[{key!r}]", block, kind.d, fades=kind.fades) for key, block in blocks.items()
        }
        rows = [self._row(key) for key in checked]
        if shard not in self._shards:
            self._shards[shard] = _ShardRows(kind.width, len(self.means))
        held = self._shards[shard]
        for row, block in zip(rows, checked.values(), strict=True):
            held.put(row, block)
        self._refresh(np.array(rows, np.int64))

    def retune(self, kind: Kind) -> None:
        """Take other priors; rows follow with `catch_up`, that of unseen items at once."""
        self._kind = kind
        self._made_at[:] = -np.inf
        self._behind = np.arange(len(self._made_at))
        self._refresh(np.array([UNSEEN]))

    def catch_up(self, now_ms: float, most: int | None = None) -> None:
        """Make rows again that have faded or whose prior has changed, the oldest first, so many at most.

        ``now_ms`` is event time; a time before an earlier one changes nothing.
        """
        self._now = max(self._now, now_ms)
        if self._kind.life_ms is not None:
            self._look(self._kind.life_ms * _STALE / 2.0)
        if len(self._behind):
            due, self._behind = np.split(self._behind, [len(self._behind) if most is None else most])
            self._refresh(due)

    def _look(self, every_ms: float) -> None:
        """Find the rows that will have faded before the next look, once in so much event time.

        When is told by the time alone, so that a table that is loaded again looks when this one does.
        """
        looked, self._looked = self._looked, int(self._now // every_ms)
        if self._looked > looked:
            stale = np.flatnonzero(self._made_at < self._now - every_ms)
            self._behind = stale[np.argsort(self._made_at[stale], kind="stable")]

    def made_at(self, item_ids: Sequence[str]) -> FloatArray:
        """Return the event times (ms) that items' rows are as of, shape (K,)."""
        return self._made_at[self.rows(item_ids)]

    def make_as_of(self, item_ids: Sequence[str], at_ms: FloatArray) -> None:
        """Make the rows of items again as of given event times (K,)."""
        self._refresh(self.rows(item_ids), at_ms)

    def drop_shard(self, shard: int) -> None:
        """Forget what a shard contributed; an unknown shard is no error."""
        held = self._shards.pop(shard, None)
        if held is not None:
            self._refresh(np.flatnonzero(held.place >= 0))

    def drop_item(self, item_id: str) -> None:
        """Forget an item: it scores as unseen; an unknown item is no error."""
        row = self._places.pop(item_id, None)
        if row is None:
            return
        for held in self._shards.values():
            held.drop(row)
        self._refresh(np.array([row]))
        self._free.append(row)

    def _row(self, item_id: str) -> int:
        row = self._places.get(item_id)
        if row is None:
            if not self._free:
                self._grow()
            row = self._places[item_id] = self._free.pop()
        return row

    def _grow(self) -> None:
        size = len(self.means)
        self.means = _twice(self.means)
        self.covariances = _twice(self.covariances)
        self._made_at = np.concatenate((self._made_at, np.full(size, self._made_at[UNSEEN])))
        self._free = list(range(2 * size - 1, size - 1, -1))
        for held in self._shards.values():
            held.grow_items(2 * size)

    def _refresh(self, rows: IntArray, at_ms: FloatArray | None = None) -> None:
        kind, size = self._kind, packed_size(self._kind.d)
        total = np.zeros((len(rows), size))
        times = np.full(len(rows), self._now) if at_ms is None else at_ms
        for _, held in sorted(self._shards.items()):
            at = held.place[rows]
            blocks = held.values[at[at >= 0]]
            if kind.fades:
                blocks = aged(blocks, kind.d, times[at >= 0], kind.life_ms)
            total[at >= 0] += blocks[:, :size]
        means, covariances = moments(total, kind.d, kind.prior)
        left, right = triangle(kind.d)
        self.means[rows] = means
        # Off the diagonal twice, so that a quadratic form is one product with what it is asked of.
        self.covariances[rows] = covariances[:, left, right] * doubled(kind.d)
        self._made_at[rows] = times


def _twice(rows: ServingArray) -> ServingArray:
    """Return the rows and as many more of the prior."""
    return np.concatenate((rows, np.tile(rows[UNSEEN], (len(rows), 1))))
