"""Randomness by counter: the i-th number is a pure function of seed and i, on any machine and numpy."""

from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import FloatArray

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_SHIFTS = np.array([30, 27, 31, 12], np.uint64)
_MASK = (1 << 64) - 1


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
    z = _counter(n) + np.uint64(seed & _MASK)
    z ^= z >> _SHIFTS[0]
    z *= _MIX_1
    z ^= z >> _SHIFTS[1]
    z *= _MIX_2
    z ^= z >> _SHIFTS[2]
    # Half a step up keeps both ends out: log(u) and log(1 - u) are always finite.
    z >>= _SHIFTS[3]
    out = z.astype(np.float64)
    out += 0.5
    out *= 2.0**-52
    return out


@lru_cache(maxsize=256)
def _counter(n: int) -> NDArray[np.uint64]:
    return np.arange(1, n + 1, dtype=np.uint64) * _GAMMA
