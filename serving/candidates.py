"""Retrieval: which items a request could be answered with, and which source brought each."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from serving.items import BoolArray, IntArray
from serving.live import LiveState
from state.packing import FloatArray

LIMIT = 200
SOURCES = {
    "n": "neighbours",
    "e": "similar content",
    "t": "trending",
    "c": "trending in category",
    "f": "new",
}
_QUOTAS = {"n": 120, "e": 60, "t": 60, "f": 10}


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
    knn
        (k,) session-kNN scores, 0 where the neighbours did not bring it.
    cuts
        Row -> letter why a retrieved item was cut: s seen, x excluded, u unavailable, c other category.
    """

    rows: IntArray
    sources: str
    knn: FloatArray
    cuts: dict[int, str]


def retrieve(live: LiveState, asked: Asked, wished: int = 1, *, trend_only: bool = False) -> Found:
    """Return at most `LIMIT` eligible candidates, and at least ``wished`` where the catalogue has them.

    ``trend_only`` brings the longest trend alone, which is what the hold-out is shown.
    """
    neighbours, knn = live.sessions.score(
        asked.recent, asked.now_ms, limit=_QUOTAS["n"], exclude_session=asked.session
    )
    brought = [("t", _trend(live, asked, -1))] if trend_only else _sources(live, asked, neighbours)
    rows, letters = _merge(brought)
    keep, cuts = _eligible(live, asked, rows)
    rows, letters = rows[keep][:LIMIT], letters[keep][:LIMIT]
    if len(rows) < wished:
        rows, letters = _topped_up(live, asked, rows, letters)
    scores = _lookup(neighbours, knn, rows)
    return Found(rows, "".join(letters.tolist()), scores, cuts)


def _sources(live: LiveState, asked: Asked, neighbours: IntArray) -> list[tuple[str, IntArray]]:
    # New items before trends: those are many, and `LIMIT` must not cut what nobody has met yet.
    return [
        ("n", neighbours),
        ("e", _similar(live, asked)),
        ("f", live.items.newest(_QUOTAS["f"])),
        ("t", _trending(live, asked)),
    ]


def _topped_up(
    live: LiveState, asked: Asked, rows: IntArray, letters: NDArray[np.str_]
) -> tuple[IntArray, NDArray[np.str_]]:
    """Add whatever the catalogue has left, newest first."""
    others = np.setdiff1d(live.items.newest(len(live.items)), rows)
    others = others[_eligible(live, asked, others)[0]]
    newest = others[np.argsort(-live.items.published_at[others], kind="stable")][: LIMIT - len(rows)]
    return np.concatenate([rows, newest]), np.concatenate([letters, np.repeat(["f"], len(newest))])


def _similar(live: LiveState, asked: Asked) -> IntArray:
    if not len(asked.recent):
        return np.empty(0, dtype=np.int64)
    return live.vectors.nearest(taste(live, asked, last=10), _QUOTAS["e"])[0]


def taste(live: LiveState, asked: Asked, last: int) -> NDArray[np.float32]:
    """Return the unit content vector (dim,) of the newest interactions; zero where nothing is known."""
    weights = asked.weights[-last:].astype(np.float32)
    total: NDArray[np.float32] = weights @ live.items.vectors[asked.recent[-last:]]
    length = float(np.sqrt(total @ total))
    return total / np.float32(length) if length > 0 else total


def _trending(live: LiveState, asked: Asked) -> IntArray:
    return np.concatenate([_trend(live, asked, index) for index in range(len(live.trends.half_lives_s))])


def _trend(live: LiveState, asked: Asked, half_life: int) -> IntArray:
    quota = _QUOTAS["t"] + len(asked.seen_hashes) // 4
    index = range(len(live.trends.half_lives_s))[half_life]
    return live.trends.top(index, asked.now_ms, quota)[0]


def _merge(brought: Sequence[tuple[str, IntArray]]) -> tuple[IntArray, NDArray[np.str_]]:
    rows = np.concatenate([part for _, part in brought])
    letters = np.repeat([letter for letter, _ in brought], [len(part) for _, part in brought])
    _, first = np.unique(rows, return_index=True)
    order = np.sort(first)
    return rows[order], letters[order]


def _eligible(live: LiveState, asked: Asked, rows: IntArray) -> tuple[BoolArray, dict[int, str]]:
    checks: list[tuple[str, BoolArray]] = [("u", ~live.items.available[rows])]
    if len(asked.seen_hashes):
        checks.append(("s", np.isin(live.items.hashes[rows], asked.seen_hashes, kind="sort")))
    if len(asked.excluded):
        checks.append(("x", np.isin(rows, asked.excluded)))
    if asked.categories:
        inside = np.isin(live.items.codes[rows], asked.categories)
        checks.append(("c", ~np.logical_or.reduce(inside, axis=1)))
    keep = np.ones(len(rows), dtype=np.bool_)
    cuts: dict[int, str] = {}
    for letter, out in checks:
        cuts |= dict.fromkeys(rows[keep & out].tolist(), letter)
        keep &= ~out
    return keep, cuts


def _lookup(keys: IntArray, values: FloatArray, wanted: IntArray) -> FloatArray:
    if not len(keys):
        return np.zeros(len(wanted))
    order = np.argsort(keys)
    at = np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)
    found = keys[order[at]] == wanted
    return np.where(found, values[order[at]], 0.0)
