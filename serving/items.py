"""The live catalogue in a server's memory: ids, rows and what eligibility needs, as arrays."""

from collections import deque
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.candidates import Catalogue
from online_models.hashing import code_of
from online_models.texts import Texts
from serving.columns import Columns
from state.events import Item
from state.subject import id_hash

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
MAX_CATEGORIES = 8
CHANGES_KEPT = 4_096
"""Changed rows that are remembered one by one."""
_NEWEST_KEPT = 100
_NO_ROWS: IntArray = np.empty(0, np.int64)


class ItemTable:
    """Items by row. A row is given once to an id and kept; removed items keep theirs, unavailable.

    Parameters
    ----------
    dim
        Length of content vectors.

    Attributes
    ----------
    ids
        Item id of each row.
    available
        (rows,) whether the item is in the catalogue and may be shown.
    published_at
        (rows,) ms since 1970; 0 where unknown.
    hashes
        (rows,) 64-bit hash of the id, as seen items are remembered.
    codes
        (rows, MAX_CATEGORIES) category codes of each item, -1 where it has fewer.
    kinds
        (rows,) the first category as click models are told of it, 0 for none.
    signatures
        (rows,) what likeness of content is told by where slates are diverse.
    vectors
        (rows, dim) unit content vectors, zero where there is none.
    blocks
        (rows,) where the policy keeps each item's block, 0 where it has none.
    columns
        What expressions of filters and rules are evaluated over.
    changes
        How often an item was put or removed.
    """

    def __init__(self, dim: int) -> None:
        self.ids: list[str] = []
        self._quoted = Texts()
        self.titles: list[str] = []
        self.category_codes: dict[str, int] = {}
        self._row_of: dict[str, int] = {}
        self.available: BoolArray = np.zeros(64, dtype=np.bool_)
        self.published_at: IntArray = np.zeros(64, dtype=np.int64)
        self.hashes: NDArray[np.uint64] = np.zeros(64, dtype=np.uint64)
        self.codes: NDArray[np.int32] = np.full((64, MAX_CATEGORIES), -1, dtype=np.int32)
        self.kinds: NDArray[np.float64] = np.zeros(64)
        self.signatures: NDArray[np.uint64] = np.zeros(64, dtype=np.uint64)
        self.vectors: NDArray[np.float32] = np.zeros((64, dim), dtype=np.float32)
        self.blocks: IntArray = np.zeros(64, dtype=np.int64)
        self._catalogued: BoolArray = np.zeros(64, dtype=np.bool_)
        self._newest: IntArray | None = None
        self.columns = Columns(64)
        self.changes = 0
        self._changed: deque[int] = deque(maxlen=CHANGES_KEPT)

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, item_id: str) -> int:
        """Return an item's row, giving it one where it has none yet."""
        row = self._row_of.get(item_id)
        if row is None:
            row = self._row_of[item_id] = len(self.ids)
            self._grow(row)
            self.ids.append(item_id)
            self._quoted.append(msgspec.json.encode(item_id))
            self.titles.append("")
            self.hashes[row] = self.signatures[row] = id_hash(item_id)
        return row

    def find(self, item_id: str) -> int | None:
        """Return an item's row, or None where it is unknown."""
        return self._row_of.get(item_id)

    def is_known(self, item_id: str) -> bool:
        """Return whether the catalogue holds an item, or held it since this server started."""
        row = self._row_of.get(item_id)
        return row is not None and bool(self._catalogued[row])

    def rows(self, item_ids: Iterable[str]) -> IntArray:
        """Return the rows of the known items among these, in order."""
        known = [row for item_id in item_ids if (row := self._row_of.get(item_id)) is not None]
        return np.array(known, dtype=np.int64) if known else _NO_ROWS

    def of_category(self, category: int) -> IntArray:
        """Return the rows of a category, in order."""
        codes = self.codes[: len(self)]
        # Over all places at once: row by row it takes ten times as long.
        rows = np.flatnonzero(codes.ravel() == category) // codes.shape[1]
        is_first = np.ones(len(rows), np.bool_)
        np.not_equal(rows[1:], rows[:-1], out=is_first[1:])
        found: IntArray = rows[is_first]
        return found

    def arrays(self) -> Catalogue:
        """Return the catalogue as compiled loops take it."""
        return Catalogue(self.available, self.published_at, self.hashes, self.codes, self.vectors)

    def json_ids(self, rows: IntArray) -> msgspec.Raw:
        """Return the ids of rows as a JSON list, ready to be written into a document."""
        return msgspec.Raw(b"[%b]" % self._quoted.join(rows))

    def put(self, item: Item) -> int:
        """Take in a catalogue upsert; returns the row."""
        row = self.row(item.item_id)
        self._catalogued[row] = True
        known = self.category_codes
        codes = [known.setdefault(name, len(known)) for name in item.categories[:MAX_CATEGORIES]]
        self.titles[row] = item.title
        self.codes[row] = codes + [-1] * (MAX_CATEGORIES - len(codes))
        self.kinds[row] = code_of(item.categories[0]) if item.categories else 0
        self.published_at[row] = item.published_at or 0
        self.available[row] = item.available
        self.columns.put(row, item.attributes)
        self._has_changed(row)
        return row

    def remove(self, item_id: str) -> int | None:
        """Take an item out of the catalogue; returns its row."""
        row = self._row_of.get(item_id)
        if row is not None:
            self.available[row] = False
            self._has_changed(row)
        return row

    def _has_changed(self, row: int) -> None:
        self._newest = None
        self.changes += 1
        self._changed.append(row)

    def changed_since(self, changes: int) -> IntArray | None:
        """Return the rows put or removed since there had been so many changes; None for too many to tell."""
        count = self.changes - changes
        if count > len(self._changed):
            return None
        return np.array([self._changed[-n] for n in range(1, count + 1)], np.int64)

    def codes_of(self, categories: Sequence[str]) -> list[int]:
        """Return the codes of the known categories among these."""
        return [self.category_codes[c] for c in categories if c in self.category_codes]

    def count_since(self, since_ms: int) -> int:
        """Return how many available items were published at or after a time, ms."""
        count = len(self)
        return int(np.count_nonzero(self.available[:count] & (self.published_at[:count] >= since_ms)))

    def newest(self, limit: int) -> IntArray:
        """Return the rows of the items published last, newest first; ranked anew only after changes."""
        wished = min(limit, len(self))
        if self._newest is None or len(self._newest) < wished:
            self._newest = self._latest(min(len(self), max(wished, _NEWEST_KEPT)))
        return self._newest[:limit]

    def newest_of(self, allowed: BoolArray) -> IntArray:
        """Return the rows of all available items among those allowed (rows,), newest first."""
        rows = np.flatnonzero(self.available & allowed)
        return rows[np.argsort(-self.published_at[rows], kind="stable")]

    def _latest(self, count: int) -> IntArray:
        """Return so many rows, newest first; sorting all of them would take longer than a request may."""
        published = np.where(self.available[: len(self)], self.published_at[: len(self)], -1)
        rows = np.arange(len(published))
        if count < len(published):
            rows = np.sort(np.argpartition(-published, count - 1)[:count])
        return rows[np.argsort(-published[rows], kind="stable")]

    def _grow(self, row: int) -> None:
        size = len(self.available)
        if row < size:
            return
        self.available = np.pad(self.available, (0, size))
        self._catalogued = np.pad(self._catalogued, (0, size))
        self.published_at = np.pad(self.published_at, (0, size))
        self.hashes = np.pad(self.hashes, (0, size))
        self.signatures = np.pad(self.signatures, (0, size))
        self.kinds = np.pad(self.kinds, (0, size))
        self.blocks = np.pad(self.blocks, (0, size))
        self.columns.grow(2 * size)
        self.codes = np.pad(self.codes, ((0, size), (0, 0)), constant_values=-1)
        self.vectors = np.pad(self.vectors, ((0, size), (0, 0)))
