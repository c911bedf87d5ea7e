"""The loops of the session embedding (compiled)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import FloatArray, IntArray
from online_models.compiled import compiled, compiled_sums

F32 = NDArray[np.float32]

FILLED, NEXT, RANDOM = 0, 1, 2


class EmbeddingTables(NamedTuple):
    """Arrays behind `SessionEmbedding`: N item rows, D dimensions, W clicks looked at, K negatives."""

    vector: F32  # (N, D) zero until the item is met
    square: F32  # (N,) AdaGrad's mean squared gradient of the row, summed
    bias: F32  # (N,)
    bias_square: F32  # (N,)
    clicks: IntArray  # (N,) among the recent clicks
    position: F32  # (2, W) weight by clicks back, and its squared gradients
    matrix: F32  # (D, D) of the latest click
    matrix_square: F32  # (1,)
    recent: IntArray  # (R,) ring of items clicked, negatives are drawn from it
    state: IntArray  # filled and next cell of the ring, random state
    context: F32  # (D,) scratch
    gradient: F32  # (D,) scratch
    share: F32  # (K + 1,) scratch
    drawn: IntArray  # (K + 1,) scratch: the clicked item, then the negatives


class EmbeddingRecipe(NamedTuple):
    """`SessionEmbeddingSettings` as plain numbers, ready for the loops."""

    rate: float
    side_rate: float
    thin: float
    scale: float
    seed: int


@compiled
def _random(state: IntArray) -> int:
    # Knuth's MMIX generator; the high bits are the good ones.
    state[RANDOM] = state[RANDOM] * 6364136223846793005 + 1442695040888963407
    return int((state[RANDOM] >> 33) & 0x3FFFFFFF)


@compiled
def _meet(t: EmbeddingTables, r: EmbeddingRecipe, item: int) -> None:
    """Give an item met for the first time small numbers that depend on its row and the seed alone."""
    state = np.zeros(3, np.int64)
    state[RANDOM] = (item + 1) * 2654435761 + r.seed
    _random(state)
    for d in range(t.vector.shape[1]):
        t.vector[item, d] = r.scale * 3.46 * (_random(state) / 0x3FFFFFFF - 0.5)
    t.bias_square[item] = 1e-8


@compiled
def _remember(t: EmbeddingTables, item: int) -> None:
    size = t.recent.shape[0]
    at = t.state[NEXT]
    if t.state[FILLED] == size:
        t.clicks[t.recent[at]] -= 1
    else:
        t.state[FILLED] += 1
    t.recent[at] = item
    t.clicks[item] += 1
    t.state[NEXT] = (at + 1) % size


@compiled_sums
def _dot(left: F32, right: F32) -> np.float32:
    total = np.float32(0.0)
    for d in range(left.shape[0]):
        total += left[d] * right[d]
    return total


@compiled_sums
def encode(t: EmbeddingTables, items: IntArray, out: F32) -> None:
    """Write the vector of a session (item rows, oldest first, not empty) into `out`."""
    last = items.shape[0] - 1
    out[:] = 0.0
    for back in range(min(last + 1, t.position.shape[1])):
        if 0 <= items[last - back] < t.vector.shape[0]:
            weight, row = t.position[0, back], t.vector[items[last - back]]
            for d in range(out.shape[0]):
                out[d] += weight * row[d]
    if 0 <= items[last] < t.vector.shape[0]:
        row = t.vector[items[last]]
        for d in range(out.shape[0]):
            out[d] += _dot(t.matrix[d], row)


@compiled_sums
def _shares(t: EmbeddingTables) -> None:
    """Softmax over the clicked item and the negatives, corrected for how often each is drawn (logQ)."""
    c, share, drawn, vector, bias, clicks = t.context, t.share, t.drawn, t.vector, t.bias, t.clicks
    odds = (drawn.shape[0] - 1) / t.state[FILLED]
    most = np.float32(-1e30)
    for n in range(drawn.shape[0]):
        item, row = drawn[n], vector[drawn[n]]
        logit = np.float32(0.0)
        for d in range(c.shape[0]):
            logit += c[d] * row[d]
        logit += bias[item] - np.log(np.float32(odds * max(1, clicks[item])))
        share[n] = logit if n == 0 or item != drawn[0] else np.float32(-1e30)
        most = max(most, share[n])
    total = np.float32(0.0)
    for n in range(drawn.shape[0]):
        share[n] = np.exp(share[n] - most)
        total += share[n]
    for n in range(drawn.shape[0]):
        share[n] /= total


@compiled_sums
def _pull(t: EmbeddingTables, r: EmbeddingRecipe) -> None:
    """Move the drawn items' rows against their errors, and add up the gradient of the context."""
    c, g, share, drawn, state = t.context, t.gradient, t.share, t.drawn, t.state
    vector, square, bias, bias_square = t.vector, t.square, t.bias, t.bias_square
    norm = _dot(c, c) / c.shape[0]
    for n in range(drawn.shape[0]):
        item, error = drawn[n], share[n]
        if n == 0:
            error -= np.float32(1.0)
        elif error < r.thin:
            # Most negatives hardly matter: a few stand for all, right on average.
            if _random(state) * r.thin > error * 0x3FFFFFFF:
                continue
            error = np.float32(r.thin)
        row = vector[item]
        square[item] += error * error * norm
        bias_square[item] += error * error
        step = np.float32(r.rate * error / np.sqrt(square[item] + 1e-8))
        for d in range(c.shape[0]):
            g[d] += error * row[d]
            row[d] -= step * c[d]
        bias[item] -= np.float32(r.side_rate * error / np.sqrt(bias_square[item]))


@compiled_sums
def _push_positions(t: EmbeddingTables, r: EmbeddingRecipe, items: IntArray, norm: float) -> None:
    """Move the session's rows, except the latest, and the position weights against the context's gradient."""
    last = items.shape[0] - 1
    for back in range(min(last + 1, t.position.shape[1])):
        item, weight = items[last - back], t.position[0, back]
        slope = _dot(t.gradient, t.vector[item])
        if back > 0:
            row, g = t.vector[item], t.gradient
            t.square[item] += np.float32(weight * weight * norm)
            step = np.float32(r.rate * weight / np.sqrt(t.square[item] + 1e-8))
            for d in range(row.shape[0]):
                row[d] -= step * g[d]
        t.position[1, back] += slope * slope
        t.position[0, back] -= np.float32(r.side_rate * slope / np.sqrt(t.position[1, back] + 1e-8))


@compiled_sums
def _push_latest(t: EmbeddingTables, r: EmbeddingRecipe, item: int, weight: float, norm: float) -> None:
    """Move the latest click's row and the matrix against the context's gradient."""
    row, g, back = t.vector[item], t.gradient, t.context
    size = row.shape[0]
    for d in range(size):
        back[d] = np.float32(weight) * g[d]
    for a in range(size):
        line, slope = t.matrix[a], g[a]
        for d in range(size):
            back[d] += line[d] * slope
    t.matrix_square[0] += _dot(row, row) * norm / size
    step = np.float32(r.side_rate / np.sqrt(t.matrix_square[0] + 1e-8))
    for a in range(size):
        line, slope = t.matrix[a], step * g[a]
        for d in range(size):
            line[d] -= slope * row[d]
    t.square[item] += _dot(back, back) / size
    pace = np.float32(r.rate / np.sqrt(t.square[item] + 1e-8))
    for d in range(size):
        row[d] -= pace * back[d]


@compiled
def learn(t: EmbeddingTables, r: EmbeddingRecipe, before: IntArray, item: int) -> None:
    """Learn that `item` followed the session `before` (oldest first, maybe empty)."""
    if t.bias_square[item] == 0.0:
        _meet(t, r, item)
    if before.shape[0] > 0 and t.state[FILLED] > 0:
        t.drawn[0] = item
        for n in range(1, t.drawn.shape[0]):
            t.drawn[n] = t.recent[_random(t.state) % t.state[FILLED]]
        encode(t, before, t.context)
        _shares(t)
        _descend(t, r, before)
    _remember(t, item)


@compiled
def _descend(t: EmbeddingTables, r: EmbeddingRecipe, before: IntArray) -> None:
    t.gradient[:] = 0.0
    _pull(t, r)
    norm = _dot(t.gradient, t.gradient) / t.gradient.shape[0]
    weight = t.position[0, 0]
    _push_positions(t, r, before, norm)
    _push_latest(t, r, before[-1], weight, norm)


@compiled_sums
def match(t: EmbeddingTables, items: IntArray, rows: IntArray, out: FloatArray) -> None:
    """Write the log odds of each row after a session, and its cosine with the latest click, shape (n, 2)."""
    encode(t, items, t.context)
    latest = t.vector[items[-1]] if 0 <= items[-1] < t.vector.shape[0] else t.gradient * np.float32(0.0)
    length = np.sqrt(_dot(latest, latest)) + 1e-9
    for n in range(rows.shape[0]):
        if 0 <= rows[n] < t.vector.shape[0] and t.bias_square[rows[n]] > 0.0:
            row = t.vector[rows[n]]
            out[n, 0] = _dot(t.context, row) + t.bias[rows[n]]
            out[n, 1] = _dot(latest, row) / (length * (np.sqrt(_dot(row, row)) + 1e-9))
        else:
            out[n, 0], out[n, 1] = 0.0, 0.0
