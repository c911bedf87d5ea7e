"""Session-based nearest neighbours over an index that learns from every click.

The family is V-SKNN (Ludewig, Jannach 2018), STAN (Garg et al. 2019) and VMIS-kNN (Kersbergen et al. 2022):
sessions that share items with the current one vote for the other items they hold.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from online_models import _session_tables as tables
from online_models import _session_votes as scoring
from online_models._snapshots import Arrays, copied, filled
from online_models._topk import room_for
from online_models.arrays import FloatArray, IntArray, as_clicks

_AGE_BITS = 12
_FIRST_ITEMS = 1024
_FIRST_POOL = 16_384


@dataclass(frozen=True, slots=True)
class SessionKnnSettings:
    """How sessions are kept and compared.

    Parameters
    ----------
    max_sessions
        Sessions kept; the one that began longest ago makes room for the next, > 0.
    max_length
        Clicks kept of a session, the latest ones, > 0.
    max_query
        Clicks of the current session that are looked at, the latest ones, > 0.
    neighbours
        Sessions that vote, > 0.
    sample
        Sessions looked at per item, the latest ones, > 0; rounded up to a power of two for storage.
    max_age_s
        Sessions without a click for longer than this do not vote, seconds of event time.
    query_decay, match_decay
        Clicks back from the end of the current session over which the weight of an item, and of a neighbour
        by its latest shared item, falls by e.
    session_decay
        Sessions begun since, over which a neighbour's weight falls by e.
    position_decay
        Clicks away from the shared item over which an item of a neighbour loses a factor e.
    backward
        Factor for items clicked before the shared item.
    idf_power
        Power of the inverse document frequency in an item's weight.
    idf_weight
        An item's score is multiplied by 1 + `idf_weight` x idf.
    length_power
        Power of a neighbour's length its weight is divided by.
    in_session
        Factor for items already in the current session; 0 leaves only novel ones.
    """

    max_sessions: int = 250_000
    max_length: int = 50
    max_query: int = 20
    neighbours: int = 300
    sample: int = 512
    max_age_s: float = 90 * 86_400.0
    query_decay: float = 2.0
    match_decay: float = 5.0
    session_decay: float = 120_000.0
    position_decay: float = 10.0
    backward: float = 0.8
    idf_power: float = 3.0
    idf_weight: float = 1.0
    length_power: float = 0.3
    in_session: float = 2.0

    def __post_init__(self) -> None:
        for name in ("max_sessions", "max_length", "max_query", "neighbours", "sample"):
            if getattr(self, name) < 1:
                msg = f"{name} is {getattr(self, name)}, wanted a whole number > 0"
                raise ValueError(msg)
        for name in ("max_age_s", "query_decay", "match_decay", "session_decay", "position_decay"):
            if not getattr(self, name) > 0:
                msg = f"{name} is {getattr(self, name)}, wanted a number > 0"
                raise ValueError(msg)


def _recipe(settings: SessionKnnSettings) -> scoring.Recipe:
    back = np.arange(settings.max_query, dtype=np.float64)
    positions = np.arange(settings.max_length + 1, dtype=np.float64)
    age_shift = max(0, settings.max_sessions.bit_length() - _AGE_BITS)
    ages = np.arange((settings.max_sessions >> age_shift) + 2) << age_shift
    lengths = np.maximum(positions, 1.0) ** -settings.length_power
    lengths[0] = 0.0
    return scoring.Recipe(
        query_decay=np.exp(-back / settings.query_decay),
        match_decay=np.exp(-back / settings.match_decay),
        position_decay=np.exp(-positions / settings.position_decay),
        length_factor=lengths,
        age_factor=np.exp(-ages / settings.session_decay),
        age_shift=age_shift,
        neighbours=settings.neighbours,
        sample=settings.sample,
        idf_power=settings.idf_power,
        backward=settings.backward,
        idf_weight=settings.idf_weight,
        in_session=settings.in_session,
    )


class SessionIndex:
    """Sessions and their clicks, searchable the moment a click is added.

    Memory is bounded by `max_sessions`: when a session begins beyond it, the one that began longest ago is
    forgotten. Not thread-safe: queries share working memory.

    Parameters
    ----------
    settings
        See `SessionKnnSettings`.

    Examples
    --------
    >>> index = SessionIndex(SessionKnnSettings())
    >>> index.add_many([1, 1, 2], [10, 11, 10], [0, 1000, 2000])
    >>> rows, scores = index.score([10], 3000, limit=5, exclude_session=2)
    >>> [int(row) for row in rows]
    [10, 11]
    """

    def __init__(self, settings: SessionKnnSettings) -> None:
        self.settings = settings
        self.most = 1 << (settings.sample - 1).bit_length()
        self.recipe = _recipe(settings)
        self.max_age_ms = int(min(settings.max_age_s * 1000, 2**62))
        self.tables = tables.empty_tables(
            settings.max_sessions, settings.max_length, _FIRST_ITEMS, _FIRST_POOL
        )
        self.scratch = scoring.empty_scratch(self.tables.seq_at.shape[0], _FIRST_ITEMS)

    @property
    def sessions(self) -> int:
        """Sessions held now."""
        return int(self.tables.counters[tables.LIVE])

    def nbytes(self) -> int:
        """Bytes of all arrays."""
        groups: list[Any] = [self.tables, self.scratch]
        return sum(int(array.nbytes) for group in groups for array in group)

    def add(self, session: int, item: int, at_ms: int) -> None:
        """Fold one click.

        Parameters
        ----------
        session
            Key of the session, any int64.
        item
            Item row, >= 0.
        at_ms
            Event time of the click, milliseconds.

        Raises
        ------
        ValueError
            If `item` is negative.
        """
        if item < 0:
            msg = f"item is {item}, wanted a row >= 0"
            raise ValueError(msg)
        self.reserve(item + 1)
        while not tables.add_click(self.tables, session, item, at_ms, self.most):
            self.rebuild()

    def add_many(self, sessions: ArrayLike, items: ArrayLike, at_ms: ArrayLike) -> None:
        """Fold clicks in the order given; the same result as `add` one by one.

        Parameters
        ----------
        sessions, items, at_ms
            Keys, item rows and event times (ms), each of shape (n,).

        Raises
        ------
        ValueError
            If an item is negative or the shapes differ.
        """
        keys, rows, times = as_clicks(sessions, items, at_ms)
        self.reserve(int(rows.max(initial=-1)) + 1)
        done = 0
        while done < keys.size:
            done += tables.add_clicks(self.tables, keys[done:], rows[done:], times[done:], self.most)
            if done < keys.size:
                self.rebuild()

    def remove_session(self, session: int) -> None:
        """Forget a session and its clicks; unknown sessions are no error."""
        seq = tables.find(self.tables, session)
        if seq >= 0:
            tables.drop_slot(self.tables, self._slot(seq))

    def remove_item(self, item: int) -> None:
        """Take an item out of every session, in time proportional to the sessions held."""
        if 0 <= item < self.tables.df.shape[0]:
            tables.drop_item(self.tables, item)

    def session_items(self, session: int) -> IntArray:
        """Clicks kept of a session, oldest first, shape (n,); empty when unknown."""
        seq = tables.find(self.tables, session)
        if seq < 0:
            return np.zeros(0, np.int64)
        slot = self._slot(seq)
        return self.tables.rows[slot, : self.tables.length[slot]].astype(np.int64)

    def score(
        self, items: ArrayLike, now_ms: int, *, limit: int, exclude_session: int | None = None
    ) -> tuple[IntArray, FloatArray]:
        """Rank items for a session.

        Parameters
        ----------
        items
            Item rows of the current session, oldest first, shape (n,); rows never seen are skipped.
        now_ms
            Event time of the request, milliseconds.
        limit
            Items wanted at most, > 0.
        exclude_session
            A session that must not vote: the current one, where it is in the index.

        Returns
        -------
        Item rows and their scores (> 0), best first, shape (m,) with m <= `limit`.
        """
        clicked = np.asarray(items, dtype=np.int64)[-self.settings.max_query :]
        skip = -1 if exclude_session is None else tables.find(self.tables, exclude_session)
        query = scoring.Query(clicked, now_ms - self.max_age_ms, skip)
        best = room_for(limit)
        size = scoring.score_any(self.tables, self.scratch, self.recipe, query, best)
        return best.keys[:size], best.values[:size]

    def latest_scores(self, rows: ArrayLike) -> FloatArray:
        """Scores the latest `score` gave to any rows, within its limit or not; 0 for none; shape (m,)."""
        asked = np.asarray(rows, np.int64)
        out = np.empty(asked.size)
        scoring.recall(self.tables, self.scratch, self.recipe, asked, out)
        return out

    def _slot(self, seq: int) -> int:
        return seq & (len(self.tables.seq_at) - 1)

    def reserve(self, items: int) -> None:
        """Make room for item rows 0..`items` - 1."""
        held = len(self.tables.df)
        if items <= held:
            return
        more = max(items, 2 * held) - held
        t, s = self.tables, self.scratch
        self.tables = t._replace(
            start=_longer(t.start, more),
            room=_longer(t.room, more),
            posted=_longer(t.posted, more),
            df=_longer(t.df, more),
        )
        self.scratch = s._replace(
            item=_longer(s.item, more),
            item_list=_longer(s.item_list, more),
        )

    def snapshot(self) -> tuple[Arrays, dict[str, Any]]:
        """State as arrays and JSON-ready values."""
        return copied(self.tables, self.tables._fields), {"settings": asdict(self.settings)}

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        """Rebuild the index of a snapshot; it answers and learns as the one that was copied.

        Raises
        ------
        ValueError
            If an array is missing or of another kind.
        """
        index = cls(SessionKnnSettings(**meta["settings"]))
        index.tables = filled(index.tables, arrays, index.tables._fields)
        index.scratch = scoring.empty_scratch(len(index.tables.seq_at), len(index.tables.df))
        return index

    def rebuild(self) -> None:
        """Copy all postings into fresh room; `add` and `add_many` do so when room runs out."""
        pool = np.zeros_like(self.tables.pool)
        end = tables.rebuild_pool(self.tables, pool)
        if 2 * end > pool.size:
            pool = _longer(pool, pool.size)
        self.tables.counters[tables.POOL_END] = end
        self.tables = self.tables._replace(pool=pool)


def _longer(array: NDArray[Any], more: int) -> NDArray[Any]:
    return np.concatenate([array, np.zeros((more, *array.shape[1:]), array.dtype)])


def warm_up() -> None:
    """Compile (or load from disk) every loop of the index, so that no request waits for it."""
    index = SessionIndex(SessionKnnSettings(max_sessions=2, max_length=2, sample=4, neighbours=2))
    for n in range(6):
        index.add(n, n % 2, n)
    index.add_many([7, 7, 7], [0, 1, 0], [7, 8, 9])
    index.score([0, 1], 9, limit=2, exclude_session=7)
    index.rebuild()
    index.remove_item(0)
    index.remove_session(7)
