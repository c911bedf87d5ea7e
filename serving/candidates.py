"""Retrieval: which items a request could be answered with, and which source brought each."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from online_models.candidates import ELSEWHERE, EXCLUDED, SEEN, UNAVAILABLE, Wanted
from online_models.sources import KNN, LABELS, SOURCE_NAMES, Query
from serving.cuts import EARLIER, FILTERED, FIRST_RULE, HIDDEN, TOUCHED
from serving.cuts import EXCLUDED as EXCLUDED_BY
from serving.cuts import SEEN as SEEN_BEFORE
from serving.cuts import UNAVAILABLE as GONE
from serving.items import IntArray
from serving.live import LiveState
from serving.sources import LIMIT, Asked
from state.packing import FloatArray

_LETTER = {
    "knn": "n", "covisit": "v", "hop": "w", "session": "s", "history": "h", "content": "e", "new": "f",
    "trend": "t", "category_trend": "c", "surface_trend": "p",
    "segment_trend": "g", "behaviour": "b",
}  # fmt: skip
"""One letter a source, as decisions are logged."""
PINNED = "i"
LETTERS = "".join(_LETTER[label] for label in LABELS)
SOURCES = {**dict(zip(LETTERS, SOURCE_NAMES, strict=True)), PINNED: "pinned"}
_LETTERS = np.frombuffer(LETTERS.encode(), np.uint8)
_REASONS = np.zeros(max(UNAVAILABLE, SEEN, EXCLUDED, ELSEWHERE) + 1, np.uint8)
_REASONS[[UNAVAILABLE, SEEN, EXCLUDED, ELSEWHERE]] = list(b"usxc")
LOGGED_CUTS = 100
"""Of a visitor who has seen much, thousands may be cut; a logged decision has to stay readable."""
_NOTHING: IntArray = np.empty(0, dtype=np.int64)


class Found(Struct):
    """Candidates with what retrieval knows of them.

    Attributes
    ----------
    rows
        (k,) item rows, each once, by the blend.
    sources
        One letter of `SOURCES` a candidate: the first source that brought it.
    inputs, scores
        (k, F) what the blend was made of, and (k,) what it makes of it.
    has_neighbours
        Whether any session like this one brought a candidate.
    cut_rows, cuts
        At most `LOGGED_CUTS` retrieved items that were cut, and a letter for each (`serving/cuts.py`).
    uncut
        How many more were cut.
    brought_by
        (k,) all sources that brought each candidate, as bits.
    """

    rows: IntArray
    sources: str
    brought_by: IntArray
    inputs: FloatArray
    scores: FloatArray
    has_neighbours: bool
    cut_rows: IntArray
    cuts: str
    uncut: int = 0


def retrieve(live: LiveState, asked: Asked, wished: int = 1) -> Found:
    """Return at most `LIMIT` eligible candidates, and at least ``wished`` where the catalogue has them."""
    wanted = Wanted(
        asked.excluded, np.sort(asked.seen_hashes), np.array(asked.categories, dtype=np.int64), LIMIT
    )
    items = _NOTHING if asked.trend_only else asked.recent
    query = Query(items, asked.now_ms, asked.session, wanted, asked)
    found = live.recommender.retrieve(query, LIMIT, least=wished)
    cut_rows = found.cut[:LOGGED_CUTS]
    letters = _REASONS[found.reasons[:LOGGED_CUTS]]
    return Found(
        rows=found.rows,
        brought_by=found.sources,
        sources=_LETTERS[found.first].tobytes().decode(),
        inputs=found.inputs,
        scores=found.scores,
        has_neighbours=bool(np.bitwise_or.reduce(found.sources) & (1 << KNN)),
        cut_rows=cut_rows,
        cuts=_told(live, asked, cut_rows, letters).tobytes().decode() if len(cut_rows) else "",
        uncut=max(0, len(found.cut) - LOGGED_CUTS),
    )


def _told(live: LiveState, asked: Asked, rows: IntArray, letters: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the letters (m,) of what was cut, where request, visitor and rules say more than retrieval."""
    for more, letter in ((asked.touched, TOUCHED), (asked.hidden, HIDDEN)):
        if len(more):
            letters = _where(letters, EXCLUDED_BY, (rows[:, None] == more).any(axis=1), letter)
    if len(asked.earlier):
        is_earlier = np.isin(live.items.hashes[rows], asked.earlier)
        letters = _where(letters, SEEN_BEFORE, is_earlier, EARLIER)
    if asked.wishes is not None and asked.wishes.allowed is not None:
        letters = _where(letters, GONE, live.items.available[rows], FILTERED)
        for n, (_, hidden) in enumerate(asked.wishes.hidden_by):
            letters = _where(letters, FILTERED, hidden[rows], chr(ord(FIRST_RULE) + n))
    return letters


def _where(
    letters: NDArray[np.uint8], known: str, holds: NDArray[np.bool_], better: str
) -> NDArray[np.uint8]:
    return np.where(holds & (letters == ord(known)), np.uint8(ord(better)), letters)
