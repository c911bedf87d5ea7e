"""Randomness by counter: the i-th number is a pure function of seed and i, on any machine and numpy."""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import FloatArray

_STEP = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_UNIT = 2.0**-52
# Arrays without dimensions: numpy takes twice as long with scalars.
_ROUNDS = tuple(
    (np.array(shift, np.uint64), np.array(factor, np.uint64))
    for shift, factor in ((30, _MIX_1), (27, _MIX_2))
)
_LAST_SHIFT, _TO_52_BITS = np.array(31, np.uint64), np.array(12, np.uint64)
_HALF, _UNITS = np.array(0.5), np.array(_UNIT)
_MASK = (1 << 64) - 1
_FEW = 3
"""So many numbers and fewer are made one by one: a microsecond less than a pass over an array."""


def decision_seed(decision_id: str, salt: str) -> int:
    """Return the seed of a decision's draw, in [0, 2**63): a hash of its id and a salt (surface, experiment).

    Parameters
    ----------
    decision_id, salt
        Any text; a change of either gives an unrelated seed.
    """
    key = f"{len(decision_id)}|{decision_id}|{salt}".encode()
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big") >> 1


def uniforms(seed: int, n: int) -> FloatArray:
    """Return n numbers in the open interval (0, 1), 52 bits each, shape (n,).

    Notes
    -----
    SplitMix64, which is a counter passed through a mixer, so whole arrays are made at once.

    References
    ----------
    Steele, Lea, Flood (2014), "Fast splittable pseudorandom number generators".
    """
    if n <= _FEW:
        return np.array([_mixed(seed + count * _STEP) for count in range(1, n + 1)])
    return _finished(_counter(n) + np.uint64(seed & _MASK))


def uniforms_of(seeds: Sequence[int], n: int) -> FloatArray:
    """Return the first n numbers of each seed, shape (len(seeds), n)."""
    return _finished(np.array(seeds, np.uint64)[:, None] + _counter(n))


def _finished(z: NDArray[np.uint64]) -> FloatArray:
    """Return the numbers that counts (any shape) are mixed into; the counts are used up."""
    for shift, factor in _ROUNDS:
        z ^= z >> shift
        z *= factor
    z ^= z >> _LAST_SHIFT
    z >>= _TO_52_BITS
    out = z.astype(np.float64)
    # Half a step up keeps both ends out: log(u) and log(1 - u) are always finite.
    out += _HALF
    out *= _UNITS
    return out


def uniform(seed: int, place: int) -> float:
    """Return the number that stands at a place (from 0) of `uniforms`."""
    return _mixed(seed + (place + 1) * _STEP)


def _mixed(count: int) -> float:
    """Return what `uniforms` makes of one count: arrays cost more where only a few are wanted."""
    z = count & _MASK
    z = ((z ^ (z >> 30)) * _MIX_1) & _MASK
    z = ((z ^ (z >> 27)) * _MIX_2) & _MASK
    return (((z ^ (z >> 31)) >> 12) + 0.5) * _UNIT


@lru_cache(maxsize=256)
def _counter(n: int) -> NDArray[np.uint64]:
    return np.arange(1, n + 1, dtype=np.uint64) * np.uint64(_STEP)
