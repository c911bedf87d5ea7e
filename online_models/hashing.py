"""Hashed features: categories and their crosses as weights in one bounded table (Weinberger et al. 2009)."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import FloatArray, IntArray
from online_models.compiled import compiled, compiled_borrowing

BUCKETS = 4_096
"""Weights of the table: a power of two. Of 400 joint values one in ten shares its weight with another."""
MOST_PARTS = 3
"""Features one hashed cross may join."""
MOST_CODES = 2**32 - 1
"""Codes have 32 bits, which float64 keeps exactly."""
_SHIFT = np.uint64(64 - (BUCKETS.bit_length() - 1))
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def code_of(name: str) -> int:
    """Return a category's code, 1 to 2**32 - 1, the same on every machine; 0 stands for none.

    >>> code_of(""), code_of("drama") == code_of("drama")
    (0, True)
    """
    if not name:
        return 0
    digest = hashlib.blake2b(name.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") or 1


class Hashing(NamedTuple):
    """Hashed crosses as compiled loops take them."""

    places: IntArray  # (h, MOST_PARTS) input columns of each cross, -1 where it has fewer
    is_code: NDArray[np.bool_]  # (h, MOST_PARTS) whether 0 stands for an unknown category there
    seeds: NDArray[np.uint64]  # (h,) what tells the crosses' buckets apart

    @classmethod
    def of(cls, crosses: Sequence[Sequence[tuple[int, str, bool]]]) -> Self:
        """Make it of each cross's parts: column, name, and whether it is a code.

        Raises
        ------
        ValueError
            If a cross joins no feature or too many.
        """
        places = np.full((len(crosses), MOST_PARTS), -1, np.int64)
        is_code = np.zeros((len(crosses), MOST_PARTS), np.bool_)
        names = ["*".join(name for _, name, _ in parts) for parts in crosses]
        for number, parts in enumerate(crosses):
            if not 0 < len(parts) <= MOST_PARTS:
                msg = f"hashed cross {names[number]!r} has {len(parts)} parts, wanted 1 to {MOST_PARTS}"
                raise ValueError(msg)
            places[number, : len(parts)] = [place for place, _, _ in parts]
            is_code[number, : len(parts)] = [code for _, _, code in parts]
        return cls(places, is_code, np.array([code_of(name) for name in names], np.uint64))


@compiled_borrowing
def bucket(x: FloatArray, hashing: Hashing, cross: int) -> int:
    """Give a row's bucket for one hashed cross; -1 where a category of it is unknown."""
    mixed = hashing.seeds[cross]
    for part in range(hashing.places.shape[1]):
        place = hashing.places[cross, part]
        if place < 0:
            break
        value = min(max(x[place], 0.0), 4294967295.0)
        if value == 0.0 and hashing.is_code[cross, part]:
            return -1
        mixed = (mixed ^ np.uint64(value)) + np.uint64(_GOLDEN)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(_FIRST)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(_SECOND)
        mixed ^= mixed >> np.uint64(31)
    return int(np.int64(mixed >> _SHIFT))


@compiled
def buckets(inputs: FloatArray, hashing: Hashing) -> IntArray:
    """Give each row's bucket for each hashed cross, (n, f) by `FeatureRegistry.matrix` -> (n, h)."""
    out = np.empty((inputs.shape[0], hashing.seeds.shape[0]), np.int64)
    for n in range(inputs.shape[0]):
        for cross in range(hashing.seeds.shape[0]):
            out[n, cross] = bucket(inputs[n], hashing, cross)
    return out
