"""Item vectors searchable by similarity the moment they are put: hnswlib, updated in place."""

from dataclasses import dataclass

import hnswlib
import numpy as np
from numpy.typing import ArrayLike

from online_models.arrays import FloatArray, IntArray, VectorArray
from online_models.content import unit


@dataclass(frozen=True, slots=True)
class ItemVectorSettings:
    """Shape and effort of the index.

    Parameters
    ----------
    dim
        Length of every vector, > 0.
    links, build_effort, search_effort
        `M`, `ef_construction` and `ef` of HNSW (Malkov, Yashunin 2016), > 0.
    exact_below
        Up to this many items every vector is compared, which is exact and quicker there.
    built_at
        The graph is built when there are more items than this, of all of them at once, >= 0: late, it is not
        built at all for few; early, no single item waits for the others.
    seed
        Seed of the graph's levels.
    """

    dim: int = 64
    links: int = 16
    build_effort: int = 100
    search_effort: int = 150
    exact_below: int = 2_000
    built_at: int = 2_000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("dim", "links", "build_effort", "search_effort"):
            if getattr(self, name) < 1:
                msg = f"{name} is {getattr(self, name)}, wanted a whole number > 0"
                raise ValueError(msg)


class ItemVectors:
    """Unit vectors of items, with nearest-neighbour search by cosine.

    Parameters
    ----------
    settings
        See `ItemVectorSettings`.

    Examples
    --------
    >>> vectors = ItemVectors(ItemVectorSettings(dim=2))
    >>> vectors.put(5, [1.0, 0.0])
    >>> vectors.put(9, [0.0, 3.0])
    >>> rows, sims = vectors.nearest([0.1, 1.0], 1)
    >>> int(rows[0]), round(float(sims[0]), 3)
    (9, 0.995)
    """

    def __init__(self, settings: ItemVectorSettings) -> None:
        self.settings = settings
        self._label_of: dict[int, int] = {}
        self._row_of = np.full(64, -1, np.int64)
        self._vectors = np.zeros((64, settings.dim), np.float32)
        self._free: list[int] = []
        self._used = 0
        self._graph: hnswlib.Index | None = None

    def __len__(self) -> int:
        return len(self._label_of)

    def __contains__(self, row: int) -> bool:
        return row in self._label_of

    def put(self, item_row: int, vector: ArrayLike) -> None:
        """Add or replace an item's vector; the next search sees it.

        Parameters
        ----------
        item_row
            Row of the item, >= 0.
        vector
            Shape (dim,), any length but zero.

        Raises
        ------
        ValueError
            If the vector has another shape, is zero or not finite.
        """
        value = unit(vector)
        if value.shape != (self.settings.dim,) or not value.any():
            length = float(np.linalg.norm(value))
            msg = f"vector has shape {value.shape} and length {length:g}, wanted ({self.settings.dim},), > 0"
            raise ValueError(msg)
        label = self._label_of.get(item_row)
        fresh = label is None
        if label is None:
            label = self._label_of[item_row] = self._next_label()
            self._row_of[label] = item_row
        self._vectors[label] = value
        self._link(label, fresh=fresh)

    def remove(self, item_row: int) -> None:
        """Take an item out; unknown items are no error."""
        label = self._label_of.pop(item_row, None)
        if label is None:
            return
        self._row_of[label] = -1
        self._free.append(label)
        if self._graph is not None:
            self._graph.mark_deleted(label)

    def vector(self, row: int) -> VectorArray | None:
        """Give an item's unit vector, shape (dim,), or None when it has none."""
        label = self._label_of.get(row)
        return None if label is None else self._vectors[label].copy()

    def profile(self, rows: ArrayLike, weights: ArrayLike) -> VectorArray:
        """Weighted sum of items' vectors as a unit vector, shape (dim,); items without one are skipped.

        Parameters
        ----------
        rows, weights
            Item rows and how much each counts, both of shape (n,).
        """
        total = np.zeros(self.settings.dim)
        for row, weight in zip(np.asarray(rows).tolist(), np.asarray(weights).tolist(), strict=True):
            label = self._label_of.get(row)
            if label is not None:
                total += weight * self._vectors[label]
        return unit(total)

    def similarities(self, vector: ArrayLike, rows: ArrayLike) -> FloatArray:
        """Cosine of each item with a vector, shape (len(rows),); 0 for items without one."""
        labels = np.array([self._label_of.get(row, -1) for row in np.asarray(rows).tolist()], np.int64)
        return np.where(labels >= 0, self._vectors[labels] @ unit(vector), 0.0).astype(np.float64)

    def nearest(self, vector: ArrayLike, limit: int) -> tuple[IntArray, FloatArray]:
        """Items closest to a vector.

        Parameters
        ----------
        vector
            Shape (dim,); a zero vector has no neighbours.
        limit
            Items wanted at most, > 0.

        Returns
        -------
        Item rows and cosines in [-1, 1], best first, shape (m,) with m <= `limit`.
        """
        value, limit = unit(vector), min(limit, len(self))
        if limit == 0 or not value.any():
            return np.zeros(0, np.int64), np.zeros(0)
        labels, sims = self._search(value, limit)
        rows = self._row_of[labels]
        order = np.lexsort((rows, -sims))
        return rows[order], sims[order]

    def nbytes(self) -> int:
        """Bytes of vectors and links, Python's own index of rows left out."""
        links = (
            0
            if self._graph is None
            else self._graph.max_elements * (self.settings.links * 8 + self.settings.dim * 4)
        )
        return self._vectors.nbytes + self._row_of.nbytes + links

    def _next_label(self) -> int:
        if self._free:
            return self._free.pop()
        if self._used == len(self._row_of):
            self._row_of = np.concatenate([self._row_of, np.full(self._used, -1, np.int64)])
            self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
            if self._graph is not None:
                self._graph.resize_index(len(self._row_of))
        self._used += 1
        return self._used - 1

    def _link(self, label: int, *, fresh: bool) -> None:
        if self._graph is None:
            if len(self) > self.settings.built_at:
                self._build()
            return
        if fresh and label < self._graph.element_count:
            self._graph.unmark_deleted(label)
        self._graph.add_items(self._vectors[label : label + 1], [label], num_threads=1)

    def _build(self) -> None:
        self._graph = hnswlib.Index(space="ip", dim=self.settings.dim)
        self._graph.init_index(
            max_elements=len(self._row_of),
            ef_construction=self.settings.build_effort,
            M=self.settings.links,
            random_seed=self.settings.seed,
        )
        # Labels must be dense and in order: a label below the element count is one the graph knows.
        self._graph.add_items(self._vectors[: self._used], np.arange(self._used), num_threads=1)
        for label in self._free:
            self._graph.mark_deleted(label)

    def _search(self, value: VectorArray, limit: int) -> tuple[IntArray, FloatArray]:
        if self._graph is not None and len(self) > self.settings.exact_below:
            self._graph.set_ef(max(self.settings.search_effort, limit))
            try:
                labels, distances = self._graph.knn_query(value, k=limit, num_threads=1)
                return labels[0].astype(np.int64), 1.0 - distances[0].astype(np.float64)
            except RuntimeError:
                # Many deletions can leave fewer than `limit` items within reach of the graph's walk.
                pass
        sims = np.where(self._row_of[: self._used] >= 0, self._vectors[: self._used] @ value, -np.inf)
        best = np.argpartition(-sims, limit - 1)[:limit].astype(np.int64)
        return best, sims[best].astype(np.float64)
