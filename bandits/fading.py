"""Blocks that fade in event time: what was learnt long ago counts for less, the prior for as much as ever.

A block that fades carries one more number, the event time (ms) its values are as of. Whoever reads or learns
brings it forward: everything it has learnt is scaled by exp(-elapsed / life). Scaling commutes with adding
blocks up, so shards still sum to what one learner would have kept.
"""

import numpy as np

from bandits.arrays import FloatArray
from bandits.natural import check_block, packed_size


def aged(blocks: FloatArray, d: int, at_ms: float | FloatArray, life_ms: float | None) -> FloatArray:
    """Return blocks (..., packed_size(d) + 1) as of `at_ms`, one time or one for each (...,), a copy.

    A block without a time yet (0) begins to fade now; one from later than `at_ms` keeps its values.
    """
    out = np.array(blocks)
    size, times = packed_size(d), out[..., -1]
    if life_ms is not None:
        elapsed = np.where(times > 0, np.maximum(at_ms - times, 0.0), 0.0)
        out[..., :size] *= np.exp(-elapsed / life_ms)[..., None]
    out[..., -1] = np.maximum(times, at_ms)
    return out


def joined(block: FloatArray, other: FloatArray, d: int, life_ms: float | None) -> FloatArray:
    """Return two blocks that fade as one, as of the later of their times, shape (packed_size(d) + 1,)."""
    latest = float(max(block[-1], other[-1]))
    total = aged(block, d, latest, life_ms) + aged(other, d, latest, life_ms)
    total[-1] = latest
    return total


def stored(name: str, block: FloatArray, d: int, *, fades: bool) -> FloatArray:
    """Return a stored block as float64: with a time, 0 if it has none, where blocks fade, without elsewhere.

    So that fading may be switched on and off over blocks that are stored already.

    Raises
    ------
    ValueError
        If it has another shape or holds a number that is not finite.
    """
    size = packed_size(d)
    block = np.asarray(block, np.float64)
    if fades and block.shape == (size,):
        block = np.append(block, 0.0)
    elif not fades and block.shape == (size + 1,):
        block = block[:size]
    return check_block(name, block, d, int(fades))
