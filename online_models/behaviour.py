"""Items that sessions treat alike: nearest neighbours among vectors that clicks never cease to move."""

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from online_models.arrays import IntArray, VectorArray
from online_models.embeddings import ItemVectors, ItemVectorSettings
from online_models.neighbourhoods import Neighbourhoods

STILL = 0.97
"""Cosine of a vector with what the index holds of it above which it has not moved enough to be put again."""
_LOOKS = 16
"""Moved items looked at for one that is put: a look costs a hundredth of it."""


class Learnt(Protocol):
    """Where vectors are learnt, such as `SessionEmbedding`."""

    def vector(self, row: int) -> VectorArray | None:
        """Give an item's unit vector, shape (dim,), or None when it has not been met."""


class BehaviourNeighbours:
    """For each item the items whose behaviour vectors are nearest, kept up with at a pace of one's own.

    A click moves the vectors of dozens of items a little. To put them all again would cost a hundred times
    what the click does, so only the clicked item is noted, and put again when somebody has time for it
    (`settle`) and it has moved by more than `STILL` allows. In the list of one that it has moved away from it
    may stand as it was until that one is put again or others push it out.

    Parameters
    ----------
    settings
        Of the index (hnswlib) in which items look for neighbours; as many numbers as the vectors have.

    Examples
    --------
    >>> from online_models.embeddings import ItemVectorSettings
    >>> from online_models.session_embedding import SessionEmbedding, SessionEmbeddingSettings
    >>> learnt = SessionEmbedding(SessionEmbeddingSettings(dim=8, others=4, rivals=0))
    >>> alike = BehaviourNeighbours(ItemVectorSettings(dim=8))
    >>> for row in (0, 1):
    ...     learnt.learn([], row)
    >>> alike.note([0, 1])
    >>> alike.settle(learnt, 2), alike.around([0], 1).tolist()
    (0, [1])
    """

    def __init__(self, settings: ItemVectorSettings) -> None:
        self._settings = settings
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._before: Neighbourhoods | None = None
        self.vectors = ItemVectors(self._settings)
        self._alike = Neighbourhoods(self.vectors)
        self._noted: dict[int, None] = {}

    def renew(self) -> None:
        """Begin anew, as other vectors take the place of those before; lists last until nothing waits."""
        before = self._before or (self._alike if len(self.vectors) else None)
        self.clear()
        self._before = before

    def note(self, rows: ArrayLike) -> None:
        """Say that items (n,) were clicked, so that their vectors have moved; they wait for `settle`."""
        self._noted |= dict.fromkeys(np.asarray(rows, np.int64).tolist())

    def settle(self, learnt: Learnt, most: int) -> int:
        """Put at most so many items that have moved, those first that wait longest.

        Parameters
        ----------
        learnt
            Where the vectors are learnt.
        most
            Items put at most, >= 0; some more are looked at and found still.

        Returns
        -------
        How many wait on.
        """
        looks = most * _LOOKS
        while self._noted and most > 0 and looks > 0:
            row = next(iter(self._noted))
            del self._noted[row]
            looks -= 1
            vector = learnt.vector(row)
            if vector is None:
                self._alike.remove(row)
            elif not self._is_still(row, vector):
                self._alike.put(row, vector)
                self._alike.settle(1)
                most -= 1
        if not self._noted:
            self._before = None
        return len(self._noted)

    def remove(self, row: int) -> None:
        """Take an item out; unknown items are no error."""
        self._noted.pop(row, None)
        for lists in (self._alike, self._before):
            if lists is not None:
                lists.remove(row)

    def around(self, recent: ArrayLike, limit: int) -> IntArray:
        """Rows treated as recent ones are, as of when each was last put; see `Neighbourhoods.around`."""
        return (self._before or self._alike).around(recent, limit)

    def nbytes(self) -> int:
        """Count the bytes of vectors, links and lists."""
        lists = self._alike.nbytes() + (self._before.nbytes() if self._before else 0)
        return self.vectors.nbytes() + lists

    def _is_still(self, row: int, vector: VectorArray) -> bool:
        held = self.vectors.vector(row)
        return held is not None and float(np.dot(held, vector)) >= STILL
