"""Likeness of candidates to those already placed, from signatures small enough to be logged."""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import FloatArray, IntArray

Signatures = NDArray[np.uint64]
_BITS: Final = 64
_LIKENESS: FloatArray = np.maximum(0.0, np.cos(np.pi * np.arange(_BITS + 1) / _BITS))
"""Estimated cosine of two vectors by the number of bits their signatures differ in."""


class Diversity:
    """Takes off a candidate's score what it has in common with the likest of those already placed.

    The slot's score is ``score - weight max(cos(candidate, placed))``, as in maximal marginal relevance;
    cosines are estimated from the angle that two signatures' differing bits stand for, negative ones as 0.

    Parameters
    ----------
    signatures
        Of the K candidates (`signature_of`), shape (K,).
    weight
        Taken off at full likeness, in units of the scores, >= 0.

    Raises
    ------
    ValueError
        If the weight is negative or not finite.

    References
    ----------
    Carbonell, Goldstein (1998), "The use of MMR, diversity-based reranking for reordering documents and
    producing summaries"; Charikar (2002), "Similarity estimation techniques from rounding algorithms".
    """

    def __init__(self, signatures: Signatures, weight: float) -> None:
        if not 0.0 <= weight < np.inf:
            msg = f"weight is {weight}, wanted a finite number >= 0"
            raise ValueError(msg)
        self.signatures, self.weight = signatures, weight
        self._last: tuple[list[int], FloatArray] = ([], np.zeros(len(signatures)))

    def penalties(self, prefix: IntArray) -> FloatArray:
        """Return what is taken off each score once those of `prefix` (j,) are placed, shape (K,)."""
        before, likest = self._last
        placed = prefix.tolist()
        if placed[: len(before)] != before:
            before, likest = [], np.zeros(len(self.signatures))
        for index in placed[len(before) :]:
            differing = np.bitwise_count(self.signatures ^ self.signatures[index])
            likest = np.maximum(likest, _LIKENESS[differing])
        # Slots ask in order, each for one more than the one before.
        self._last = placed, likest
        return self.weight * likest


def signature_of(vector: NDArray[np.floating], own: int) -> int:
    """Return 64 signs of random projections of a vector (d,), packed.

    A vector of zeros, of an item nothing is known of, has its `own` number, such as a hash of the item's id:
    its estimated likeness to others is 0.08 on average.
    """
    if not vector.any():
        return own
    signs = np.packbits(np.asarray(vector, np.float64) @ _planes(len(vector)) > 0, bitorder="little")
    return int.from_bytes(signs.tobytes(), "little")


@lru_cache(maxsize=4)
def _planes(d: int) -> FloatArray:
    """Return the planes (d, 64) whose sides are told apart: the same in every process."""
    return np.random.default_rng(_BITS).standard_normal((d, _BITS))
