"""Retrieval: which items a request could be answered with, and which source brought each."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from online_models.candidates import ELSEWHERE, EXCLUDED, SEEN, UNAVAILABLE, Gathered, Wanted, gather, look_up
from online_models.ranking import Votes
from serving.items import IntArray
from serving.live import LiveState
from state.packing import FloatArray

LIMIT = 200
SOURCES = {
    "n": "neighbours",
    "v": "seen together",
    "e": "similar content",
    "t": "trending",
    "c": "trending in category",
    "f": "new",
}
_QUOTAS = {"n": 100, "v": 60, "e": 30, "t": 60, "f": 10}
_REASONS = {UNAVAILABLE: "u", SEEN: "s", EXCLUDED: "x", ELSEWHERE: "c"}
_NOBODY: IntArray = np.empty(0, dtype=np.int64)
_ASKED_BACK = 3
"""Interactions, the newest ones, around which similar content is looked for."""


class Asked(Struct, frozen=True):
    """What retrieval is asked, in rows.

    Attributes
    ----------
    recent
        (n,) rows interacted with, oldest first.
    weights
        (n,) their interest, decayed by age of position.
    session
        Session hash, which must not vote for itself.
    excluded
        (m,) rows that must not appear.
    seen_hashes
        Hashes of items that must not appear again.
    categories
        Category codes to stay within; empty for all.
    now_ms
        Event time of the request.
    """

    recent: IntArray
    weights: FloatArray
    session: int
    excluded: IntArray
    seen_hashes: NDArray[np.uint64]
    categories: tuple[int, ...]
    now_ms: int


class Found(Struct):
    """Candidates with what retrieval knows of them.

    Attributes
    ----------
    rows
        (k,) item rows, each once.
    sources
        One letter of `SOURCES` a candidate: the first source that brought it.
    votes
        What session neighbours and co-visitation say of each, 0 where they did not bring it.
    cuts
        Row -> letter why a retrieved item was cut: s seen, x excluded, u unavailable, c other category.
    """

    rows: IntArray
    sources: str
    votes: Votes
    cuts: dict[int, str]


def retrieve(
    live: LiveState, asked: Asked, wished: int = 1, *, owed: IntArray = _NOBODY, trend_only: bool = False
) -> Found:
    """Return at most `LIMIT` eligible candidates, and at least ``wished`` where the catalogue has them.

    ``owed`` are rows of new items to bring along; ``trend_only`` brings the longest trend alone, which is
    what the hold-out is shown.
    """
    neighbours, knn = live.sessions.score(
        asked.recent, asked.now_ms, limit=_QUOTAS["n"], exclude_session=asked.session
    )
    together, covisit = live.covisits.score(asked.recent, limit=_QUOTAS["v"])
    brought = [("t", _trend(live, asked, -1))] if trend_only else [("n", neighbours), ("v", together)]
    brought += [] if trend_only else _sources(live, asked, owed)
    wanted = _wanted(asked)
    gathered = _gather(live, brought, wanted)
    cuts = dict(zip(gathered.cut.tolist(), map(_REASONS.__getitem__, gathered.reasons.tolist()), strict=True))
    if len(gathered.rows) < wished:
        brought.append(("f", live.items.newest(len(live.items))))
        gathered = _gather(live, brought, wanted)
    letters = np.frombuffer("".join(letter for letter, _ in brought).encode(), np.uint8)
    sources = letters[gathered.parts].tobytes().decode()
    votes = Votes(look_up(neighbours, knn, gathered.rows), look_up(together, covisit, gathered.rows))
    return Found(gathered.rows, sources, votes, cuts)


def _sources(live: LiveState, asked: Asked, owed: IntArray) -> list[tuple[str, IntArray]]:
    # New items before trends: those are many, and `LIMIT` must not cut what nobody has met yet.
    return [
        ("e", _similar(live, asked)),
        ("f", np.concatenate((owed, live.items.newest(_QUOTAS["f"])))),
        *(("t", _trend(live, asked, index)) for index in range(len(live.trends.half_lives_s))),
    ]


def _wanted(asked: Asked) -> Wanted:
    categories = np.array(asked.categories, dtype=np.int64)
    return Wanted(asked.excluded, np.sort(asked.seen_hashes), categories, LIMIT)


def _gather(live: LiveState, brought: Sequence[tuple[str, IntArray]], wanted: Wanted) -> Gathered:
    rows = np.concatenate([part for _, part in brought])
    ends = np.array([*accumulate(len(part) for _, part in brought)])
    return gather(live.items.arrays(), live.items.marks, rows, ends, wanted)


def _similar(live: LiveState, asked: Asked) -> IntArray:
    return live.alike.around(asked.recent[-_ASKED_BACK:], _QUOTAS["e"])


def _trend(live: LiveState, asked: Asked, half_life: int) -> IntArray:
    index = range(len(live.trends.half_lives_s))[half_life]
    return live.trends.top_rows(index, _QUOTAS["t"] + len(asked.seen_hashes) // 4)
