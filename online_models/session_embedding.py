"""Vectors of items and sessions, learnt online from which click follows which.

A session is the sum of its latest items' vectors, weighted by position, the latest one also number by number;
the next item is the one whose vector points the same way. All vectors have length 1 (NISER, Gupta et al.
2019): how popular an item is has no say in them. One table serves both sides (tied), learning is AdaGrad by
rows, one step a click, on a softmax over all items. Of that sum the items near the session, which make
most of it, are counted, and the rest is estimated from random clicks with logQ correction (Bengio, Senecal
2008; Yi et al. 2019): a stratified sample, whose variance is a fraction of a random one's.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from online_models import _embedding_loops as loops
from online_models._snapshots import Arrays, copied, filled
from online_models.arrays import FloatArray, IntArray, VectorArray, on_cache_lines


@dataclass(frozen=True, slots=True)
class SessionEmbeddingSettings:
    """Shape and pace of the embedding.

    Parameters
    ----------
    dim
        Numbers per item, > 0.
    window
        Clicks of a session looked at, the latest ones, > 0.
    others
        Items a click is compared with, > 0: more learn better and cost more.
    rivals
        So many of them at most are named by the caller, >= 0 and < `others`; the rest is drawn from recent
        clicks.
    recent
        Clicks the rest is drawn from, > 0.
    sharpness
        Log odds of an item that points exactly where the session does, against one at a right angle, > 0.
    rate, side_rate
        AdaGrad's rate for vectors, and for weights of positions and of the latest click, > 0.
    thin
        Others with a smaller probability are learnt from at random, as often as is right on average.
    scale
        Spread of chance in a new item's numbers, beside the vector of the session it was met in, > 0.
    seed
        Of new vectors and of the draws.
    """

    dim: int = 128
    window: int = 8
    others: int = 256
    rivals: int = 128
    recent: int = 100_000
    sharpness: float = 10.0
    rate: float = 0.05
    side_rate: float = 0.01
    thin: float = 0.05
    scale: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("dim", "window", "others", "recent", "sharpness", "rate", "side_rate", "scale"):
            if not getattr(self, name) > 0:
                msg = f"{name} is {getattr(self, name)}, wanted a number > 0"
                raise ValueError(msg)
        if not 0 <= self.rivals < self.others:
            msg = f"rivals is {self.rivals}, wanted 0..{self.others - 1}, less than others"
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
            np.float32(settings.sharpness),
            np.float32(settings.rate),
            np.float32(settings.side_rate),
            np.float32(settings.thin),
            np.float32(settings.scale),
            settings.rivals,
            settings.seed,
        )
        self.tables = _empty(settings, 1024)

    def learn(self, before: ArrayLike, item: int, near: ArrayLike = ()) -> None:
        """Learn one click.

        Parameters
        ----------
        before
            Item rows clicked before it in its session, oldest first, each learnt before; shape (n,).
        item
            Row of the item clicked, >= 0.
        near
            Item rows that might have been clicked as well, such as what is seen with the latest click, each
            with room (`reserve`), shape (m,): told apart from the item before anything drawn at random is.

        Raises
        ------
        ValueError
            If `item` is negative, or there is no room for a row of the others.
        """
        if item < 0:
            msg = f"item is {item}, wanted a row >= 0"
            raise ValueError(msg)
        self.reserve(item + 1)
        room = len(self.tables.square)
        earlier, rivals = _with_room("before", before, room), _with_room("near", near, room)
        loops.learn(self.tables, self.recipe, earlier, item, rivals.astype(np.int32))

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
        loops.match(self.tables, self.recipe, np.asarray(items, np.int64), asked, out)
        return out

    def vector(self, row: int) -> VectorArray | None:
        """Give an item's vector, shape (dim,), or None when it has not been met."""
        if row >= len(self.tables.square) or self.tables.square[row] == 0:
            return None
        return np.array(self.tables.vector[row], np.float32)

    def met(self) -> IntArray:
        """Give the rows that have a vector, those clicked most of late first, shape (m,)."""
        rows = np.flatnonzero(self.tables.square)
        return rows[np.argsort(-self.tables.clicks[rows], kind="stable")]

    def remove_item(self, row: int) -> None:
        """Forget an item's numbers; its clicks among the recent ones stay as draws without effect."""
        if row < len(self.tables.square):
            self.tables.vector[row] = 0.0
            self.tables.square[row] = 0.0

    def reserve(self, items: int) -> None:
        """Make room for item rows 0..`items` - 1."""
        held = len(self.tables.square)
        if items > held:
            more = max(items, 2 * held) - held
            t = self.tables
            self.tables = t._replace(
                vector=on_cache_lines(t.vector, held + more),
                square=_taller(t.square, more),
                clicks=_taller(t.clicks, more),
                log_clicks=_taller(t.log_clicks, more),
                step=_taller(t.step, more),
            )

    def snapshot(self) -> tuple[Arrays, dict[str, Any]]:
        """State as arrays and JSON-ready values."""
        return copied(self.tables, loops.KEPT), {"settings": asdict(self.settings)}

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        """Rebuild the vectors of a snapshot; they match and learn as those that were copied.

        Raises
        ------
        ValueError
            If an array is missing or of another kind.
        """
        embedding = cls(SessionEmbeddingSettings(**meta["settings"]))
        kept = filled(embedding.tables, arrays, loops.KEPT)
        room = len(kept.square)
        embedding.tables = kept._replace(
            vector=on_cache_lines(kept.vector, room), step=np.zeros(room, np.int64)
        )
        return embedding

    def nbytes(self) -> int:
        """Count the bytes of all arrays."""
        arrays: list[Any] = list(self.tables)
        return sum(int(array.nbytes) for array in arrays)


def _with_room(name: str, given: ArrayLike, room: int) -> IntArray:
    rows = np.asarray(given, np.int64)
    if rows.size and not 0 <= rows.min() <= rows.max() < room:
        msg = f"{name} has rows {rows.min()}..{rows.max()}, wanted 0..{room - 1}"
        raise ValueError(msg)
    return rows


def _taller(array: NDArray[Any], more: int) -> NDArray[Any]:
    return np.concatenate([array, np.zeros((more, *array.shape[1:]), array.dtype)])


def _empty(settings: SessionEmbeddingSettings, items: int) -> loops.EmbeddingTables:
    f32 = np.float32
    position = np.stack([0.7 ** np.arange(settings.window), np.zeros(settings.window)]).astype(f32)
    return loops.EmbeddingTables(
        vector=on_cache_lines(np.zeros((0, settings.dim), f32), items),
        square=np.zeros(items, f32),
        clicks=np.zeros(items, np.int64),
        log_clicks=np.zeros(items, f32),
        position=position,
        latest=np.zeros(settings.dim, f32),
        latest_square=np.zeros(1, f32),
        recent=np.zeros(settings.recent, np.int64),
        state=np.array([0, 0, settings.seed, 0], np.int64),
        context=np.zeros(settings.dim, f32),
        gradient=np.zeros(settings.dim, f32),
        back=np.zeros(settings.dim, f32),
        share=np.zeros(settings.others + 1, f32),
        drawn=np.zeros(settings.others + 1, np.int64),
        step=np.zeros(items, np.int64),
    )


def warm_up() -> None:
    """Compile (or load from disk) the loops of this module."""
    embedding = SessionEmbedding(SessionEmbeddingSettings(dim=8, others=4, rivals=2, recent=8))
    embedding.learn([], 0)
    embedding.learn([0], 1)
    embedding.match([0], [1])
