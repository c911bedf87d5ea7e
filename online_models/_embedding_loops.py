"""The loops of the session embedding (compiled)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import FloatArray, IntArray
from online_models.compiled import compiled, compiled_borrowing, compiled_sums_borrowing

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

FILLED, NEXT, RANDOM, STEP = 0, 1, 2, 3
_NOBODY = -1
"""In the place of an item that is drawn twice."""
_TOO_FAR = np.float32(-20.0)
"""Log odds against the likeliest item below which all items count the same: as good as nothing."""


class EmbeddingTables(NamedTuple):
    """Arrays behind `SessionEmbedding`: N item rows, D dimensions, W clicks looked at, K items compared."""

    vector: F32  # (N, D) of length 1; zero until the item is met
    square: F32  # (N,) AdaGrad's mean squared gradient of the row, summed; 0 until the item is met
    clicks: IntArray  # (N,) among the recent clicks
    log_clicks: F32  # (N,) logarithm of `clicks`, of 1 where there are none
    position: F32  # (2, W) weight by clicks back, and its squared gradients
    latest: F32  # (D,) further weight of each number of the latest click
    latest_square: F32  # (1,)
    recent: IntArray  # (R,) ring of items clicked, random ones are drawn from it
    state: IntArray  # filled and next cell of the ring, random state, steps learnt
    context: F32  # (D,) scratch: the session's vector, of length 1
    gradient: F32  # (D,) scratch
    back: F32  # (D,) scratch
    share: F32  # (K + 1,) scratch
    drawn: IntArray  # (K + 1,) scratch: the clicked item, its rivals, then what was drawn at random
    step: IntArray  # (N,) scratch: the latest step that met the item


KEPT = EmbeddingTables._fields[: EmbeddingTables._fields.index("context")]
"""What a snapshot holds; the rest is working memory."""


class EmbeddingRecipe(NamedTuple):
    """`SessionEmbeddingSettings` as plain numbers, ready for the loops."""

    sharpness: np.float32
    rate: np.float32
    side_rate: np.float32
    thin: np.float32
    scale: np.float32
    rivals: int
    seed: int


@compiled_borrowing
def _random(state: IntArray) -> int:
    # Knuth's MMIX generator; the high bits are the good ones.
    state[RANDOM] = state[RANDOM] * 6364136223846793005 + 1442695040888963407
    return int((state[RANDOM] >> 33) & 0x3FFFFFFF)


@compiled_borrowing
def _random_below(state: IntArray, bound: int) -> int:
    # By a product and a shift: a division takes as long as a dot product.
    return (_random(state) * bound) >> 30


@compiled_sums_borrowing
def _dot(left: F32, right: F32) -> np.float32:
    total = np.float32(0.0)
    for d in range(left.shape[0]):
        total += left[d] * right[d]
    return total


@compiled_sums_borrowing
def _to_length_one(row: F32) -> np.float32:
    """Scale a vector to length 1; return the length it had."""
    length = np.float32(np.sqrt(_dot(row, row)) + np.float32(1e-9))
    by = np.float32(1.0) / length
    for d in range(row.shape[0]):
        row[d] *= by
    return length


@compiled
def _meet(t: EmbeddingTables, r: EmbeddingRecipe, item: int, near: F32) -> None:
    """Give an item met for the first time a place by the session it was met in, and by chance.

    Chance depends on its row and the seed alone.
    """
    state = np.zeros(3, np.int64)
    state[RANDOM] = (item + 1) * 2654435761 + r.seed
    _random(state)
    row = t.vector[item]
    for d in range(row.shape[0]):
        row[d] = near[d] + r.scale * np.float32(3.46) * np.float32(_random(state) / 0x3FFFFFFF - 0.5)
    _to_length_one(row)
    t.square[item] = np.float32(1e-8)


@compiled_borrowing
def _remember(t: EmbeddingTables, item: int) -> None:
    size = t.recent.shape[0]
    at = t.state[NEXT]
    if t.state[FILLED] == size:
        _count(t, t.recent[at], -1)
    else:
        t.state[FILLED] += 1
    t.recent[at] = item
    _count(t, item, 1)
    t.state[NEXT] = (at + 1) % size


@compiled_borrowing
def _count(t: EmbeddingTables, item: int, by: int) -> None:
    t.clicks[item] += by
    t.log_clicks[item] = np.float32(np.log(max(1, t.clicks[item])))


@compiled_sums_borrowing
def encode(t: EmbeddingTables, items: IntArray) -> np.float32:
    """Write the unit vector of a session (rows, oldest first) into `context`; return its length before."""
    last, out = items.shape[0] - 1, t.context
    out[:] = np.float32(0.0)
    for back in range(min(last + 1, t.position.shape[1])):
        if 0 <= items[last - back] < t.vector.shape[0]:
            weight, row = t.position[0, back], t.vector[items[last - back]]
            for d in range(out.shape[0]):
                out[d] += weight * row[d]
    if last >= 0 and 0 <= items[last] < t.vector.shape[0]:
        row = t.vector[items[last]]
        for d in range(out.shape[0]):
            out[d] += t.latest[d] * row[d]
    return _to_length_one(out)


@compiled_borrowing
def _is_met(t: EmbeddingTables, item: int) -> bool:
    """Tell whether this step has met an item, and note that it has now."""
    was = bool(t.step[item] == t.state[STEP])
    t.step[item] = t.state[STEP]
    return was


@compiled_borrowing
def _draw(t: EmbeddingTables, r: EmbeddingRecipe, before: IntArray, item: int, near: I32) -> int:
    """Fill `drawn`: the clicked item, its rivals, and random ones for all others; return how many are rivals.

    What the session holds is no rival: it fits its own session, taken again or not.
    """
    t.state[STEP] += 1
    for earlier in before:
        _is_met(t, earlier)
    _is_met(t, item)
    t.drawn[0], met = item, 0
    for other in near:
        if met < r.rivals and not _is_met(t, other) and t.square[other] > 0.0:
            met += 1
            t.drawn[met] = other
    filled = t.state[FILLED]
    for n in range(met + 1, t.drawn.shape[0]):
        other = t.recent[_random_below(t.state, filled)]
        is_gone = t.square[other] == 0.0  # removed, but still among the recent clicks
        t.drawn[n] = _NOBODY if is_gone or t.step[other] == t.state[STEP] else other
    return met


@compiled_sums_borrowing
def exponentials(values: F32) -> np.float32:
    """Replace values in [-20, 0] by their exponentials, within .02 % of each; return their sum.

    Scaling and squaring: a Taylor polynomial of value / 64, squared six times. Without a branch or a call
    the loop uses vector units, which a call of `exp` a number does not.
    """
    total = np.float32(0.0)
    for n in range(values.shape[0]):
        y = values[n] * np.float32(1 / 64)
        e = np.float32(1 / 24) + y * np.float32(1 / 120)
        e = np.float32(1.0) + y * (np.float32(1.0) + y * (np.float32(0.5) + y * (np.float32(1 / 6) + y * e)))
        e *= e
        e *= e
        e *= e
        e *= e
        e *= e
        e *= e
        values[n] = e
        total += e
    return total


@compiled_sums_borrowing
def _shares(t: EmbeddingTables, r: EmbeddingRecipe, rivals: int) -> None:
    """Softmax over all items: the clicked one and its rivals are counted, the rest estimated.

    What was drawn at random stands for as many as it is seldom drawn (logQ).
    """
    c, share, drawn, vector, log_clicks = t.context, t.share, t.drawn, t.vector, t.log_clicks
    rest = np.float32(np.log(t.state[FILLED] / max(1, drawn.shape[0] - 1 - rivals)))
    most = np.float32(-1e30)
    for n in range(drawn.shape[0]):
        item = max(0, drawn[n])
        row, logit = vector[item], np.float32(0.0)
        for d in range(c.shape[0]):
            logit += c[d] * row[d]
        logit = r.sharpness * logit + (rest - log_clicks[item] if n > rivals else np.float32(0.0))
        share[n] = np.float32(-1e30) if drawn[n] == _NOBODY else logit
        most = max(most, share[n])
    for n in range(drawn.shape[0]):
        share[n] = max(share[n] - most, _TOO_FAR)
    by = np.float32(1.0) / exponentials(share)
    for n in range(drawn.shape[0]):
        share[n] *= by


@compiled_sums_borrowing
def _pull(t: EmbeddingTables, r: EmbeddingRecipe) -> None:
    """Move the drawn items' rows against their errors, and add up the gradient of the context."""
    c, g, share, drawn, state, vector, square = (
        t.context, t.gradient, t.share, t.drawn, t.state, t.vector, t.square,
    )  # fmt: skip
    norm = r.sharpness * r.sharpness / np.float32(c.shape[0])
    for n in range(drawn.shape[0]):
        item, error = drawn[n], share[n]
        if item == _NOBODY:
            continue
        if n == 0:
            error -= np.float32(1.0)
        elif error < r.thin:
            # Most of what is compared hardly matters: a few stand for all, right on average.
            if np.float32(_random(state)) * r.thin > error * np.float32(0x3FFFFFFF):
                continue
            error = r.thin
        row = vector[item]
        square[item] += error * error * norm
        pull = error * r.sharpness
        step = r.rate * pull / np.sqrt(square[item])
        for d in range(c.shape[0]):
            g[d] += pull * row[d]
            row[d] -= step * c[d]
        _to_length_one(row)


@compiled_sums_borrowing
def _push_positions(t: EmbeddingTables, r: EmbeddingRecipe, items: IntArray, norm: np.float32) -> None:
    """Move the session's rows, except the latest, and the position weights against the context's gradient."""
    last, g = items.shape[0] - 1, t.gradient
    for back in range(min(last + 1, t.position.shape[1])):
        item, weight = items[last - back], t.position[0, back]
        row = t.vector[item]
        slope = _dot(g, row)
        if back > 0:
            t.square[item] += weight * weight * norm
            step = r.rate * weight / np.sqrt(t.square[item])
            for d in range(row.shape[0]):
                row[d] -= step * g[d]
            _to_length_one(row)
        t.position[1, back] += slope * slope
        t.position[0, back] -= r.side_rate * slope / np.sqrt(t.position[1, back] + np.float32(1e-8))


@compiled_sums_borrowing
def _push_latest(
    t: EmbeddingTables, r: EmbeddingRecipe, item: int, weight: np.float32, norm: np.float32
) -> None:
    """Move the latest click's row and its weights against the context's gradient."""
    row, g, back, latest = t.vector[item], t.gradient, t.back, t.latest
    size = row.shape[0]
    t.latest_square[0] += norm
    step = r.side_rate / np.sqrt(t.latest_square[0] + np.float32(1e-8))
    for d in range(size):
        back[d] = (weight + latest[d]) * g[d]
        latest[d] -= step * g[d] * row[d]
    t.square[item] += _dot(back, back) / np.float32(size)
    pace = r.rate / np.sqrt(t.square[item])
    for d in range(size):
        row[d] -= pace * back[d]
    _to_length_one(row)


@compiled
def learn(t: EmbeddingTables, r: EmbeddingRecipe, before: IntArray, item: int, near: I32) -> None:
    """Learn that `item` followed the session `before` (oldest first, maybe empty), and not what is `near`."""
    length = encode(t, before)
    if t.square[item] == 0.0:
        _meet(t, r, item, t.context)
    if before.shape[0] > 0 and t.state[FILLED] > 0:
        _shares(t, r, _draw(t, r, before, item, near))
        _descend(t, r, before, length)
    _remember(t, item)


@compiled_sums_borrowing
def _descend(t: EmbeddingTables, r: EmbeddingRecipe, before: IntArray, length: np.float32) -> None:
    g = t.gradient
    g[:] = np.float32(0.0)
    _pull(t, r)
    # Of the gradient only what turns the session's vector counts: its length does not.
    along, by = _dot(g, t.context), np.float32(1.0) / length
    for d in range(g.shape[0]):
        g[d] = (g[d] - along * t.context[d]) * by
    norm = _dot(g, g) / np.float32(g.shape[0])
    weight = t.position[0, 0]
    _push_positions(t, r, before, norm)
    _push_latest(t, r, before[-1], weight, norm)


@compiled_sums_borrowing
def match(t: EmbeddingTables, r: EmbeddingRecipe, items: IntArray, rows: IntArray, out: FloatArray) -> None:
    """Write the log odds of each row after a session, and its cosine with the latest click, shape (n, 2)."""
    encode(t, items)
    is_known = 0 <= items[-1] < t.vector.shape[0]
    latest = t.vector[items[-1]] if is_known else t.context
    for n in range(rows.shape[0]):
        if 0 <= rows[n] < t.vector.shape[0]:
            row = t.vector[rows[n]]
            out[n, 0] = r.sharpness * _dot(t.context, row)
            out[n, 1] = _dot(latest, row) if is_known else 0.0
        else:
            out[n, 0], out[n, 1] = 0.0, 0.0
