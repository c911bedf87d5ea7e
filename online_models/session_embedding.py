"""Vectors of items and sessions, learnt online from which click follows which.

A session is the sum of its latest items' vectors, weighted by position, plus a matrix times the vector of the
latest one; the next item is the one whose vector agrees most. One table serves both sides (tied), learning is
a sampled softmax with logQ correction (Bengio, Senecal 2008; Yi et al. 2019) and AdaGrad by rows, one step a
click.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from online_models import _embedding_loops as loops
from online_models.arrays import FloatArray, VectorArray


@dataclass(frozen=True, slots=True)
class SessionEmbeddingSettings:
    """Shape and pace of the embedding.

    Parameters
    ----------
    dim
        Numbers per item, > 0.
    window
        Clicks of a session looked at, the latest ones, > 0.
    negatives
        Items a click is compared with, drawn from recent clicks, > 0: more learn better and cost more.
    recent
        Clicks the negatives are drawn from, > 0.
    rate, side_rate
        AdaGrad's rate for vectors, and for biases, positions and the matrix, > 0.
    thin
        Negatives with a smaller probability are learnt from at random, as often as is right on average.
    scale
        Spread of a new item's numbers, > 0.
    seed
        Of new vectors and of the draws.
    """

    dim: int = 64
    window: int = 8
    negatives: int = 64
    recent: int = 100_000
    rate: float = 0.05
    side_rate: float = 0.015
    thin: float = 0.02
    scale: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("dim", "window", "negatives", "recent", "rate", "side_rate", "scale"):
            if not getattr(self, name) > 0:
                msg = f"{name} is {getattr(self, name)}, wanted a number > 0"
                raise ValueError(msg)


class SessionEmbedding:
    """Which item fits a session, by vectors learnt from every click.

    Parameters
    ----------
    settings
        See `SessionEmbeddingSettings`.
    """

    def __init__(self, settings: SessionEmbeddingSettings) -> None:
        self.settings = settings
        self.recipe = loops.EmbeddingRecipe(
            settings.rate, settings.side_rate, settings.thin, settings.scale, settings.seed
        )
        self.tables = _empty(settings, 1024)

    def learn(self, before: ArrayLike, item: int) -> None:
        """Learn one click.

        Parameters
        ----------
        before
            Item rows clicked before it in its session, oldest first, each learnt before; shape (n,).
        item
            Row of the item clicked, >= 0.

        Raises
        ------
        ValueError
            If `item` is negative.
        """
        if item < 0:
            msg = f"item is {item}, wanted a row >= 0"
            raise ValueError(msg)
        self.reserve(item + 1)
        loops.learn(self.tables, self.recipe, np.asarray(before, np.int64), item)

    def match(self, items: ArrayLike, rows: ArrayLike) -> FloatArray:
        """How well items fit a session.

        Parameters
        ----------
        items
            Item rows of the session, oldest first, shape (n,), not empty.
        rows
            Candidates, shape (m,).

        Returns
        -------
        Log odds (up to a constant) and cosine with the latest click, shape (m, 2); 0 for items never met.
        """
        asked = np.asarray(rows, np.int64)
        out = np.zeros((asked.size, 2))
        loops.match(self.tables, np.asarray(items, np.int64), asked, out)
        return out

    def vector(self, row: int) -> VectorArray | None:
        """Give an item's vector, shape (dim,), or None when it has not been met."""
        if row >= len(self.tables.bias) or self.tables.bias_square[row] == 0:
            return None
        return np.array(self.tables.vector[row], np.float32)

    def remove_item(self, row: int) -> None:
        """Forget an item's numbers; its clicks among the recent ones stay as draws without effect."""
        if row < len(self.tables.bias):
            for array in (self.tables.vector, self.tables.square, self.tables.bias, self.tables.bias_square):
                array[row] = 0.0

    def reserve(self, items: int) -> None:
        """Make room for item rows 0..`items` - 1."""
        held = len(self.tables.bias)
        if items > held:
            more = max(items, 2 * held) - held
            t = self.tables
            self.tables = t._replace(
                vector=_taller(t.vector, more),
                square=_taller(t.square, more),
                bias=_taller(t.bias, more),
                bias_square=_taller(t.bias_square, more),
                clicks=_taller(t.clicks, more),
            )

    def nbytes(self) -> int:
        """Count the bytes of all arrays."""
        arrays: list[Any] = list(self.tables)
        return sum(int(array.nbytes) for array in arrays)


def _taller(array: NDArray[Any], more: int) -> NDArray[Any]:
    return np.concatenate([array, np.zeros((more, *array.shape[1:]), array.dtype)])


def _empty(settings: SessionEmbeddingSettings, items: int) -> loops.EmbeddingTables:
    f32 = np.float32
    position = np.stack([0.7 ** np.arange(settings.window), np.zeros(settings.window)]).astype(f32)
    return loops.EmbeddingTables(
        vector=np.zeros((items, settings.dim), f32),
        square=np.zeros(items, f32),
        bias=np.zeros(items, f32),
        bias_square=np.zeros(items, f32),
        clicks=np.zeros(items, np.int64),
        position=position,
        matrix=np.zeros((settings.dim, settings.dim), f32),
        matrix_square=np.zeros(1, f32),
        recent=np.zeros(settings.recent, np.int64),
        state=np.array([0, 0, settings.seed], np.int64),
        context=np.zeros(settings.dim, f32),
        gradient=np.zeros(settings.dim, f32),
        share=np.zeros(settings.negatives + 1, f32),
        drawn=np.zeros(settings.negatives + 1, np.int64),
    )


def warm_up() -> None:
    """Compile (or load from disk) the loops of this module."""
    embedding = SessionEmbedding(SessionEmbeddingSettings(dim=8, negatives=4, recent=8))
    embedding.learn([], 0)
    embedding.learn([0], 1)
    embedding.match([0], [1])
