"""Merging what the sources bring into candidates, and keeping what may be shown (compiled)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import FloatArray, IntArray
from online_models.candidates import (
    ELSEWHERE,
    EXCLUDED,
    SEEN,
    UNAVAILABLE,
    Catalogue,
    Wanted,
    is_among,
    is_inside,
)
from online_models.compiled import compiled
from online_models.sources import SOURCE_NAMES

SCORED = 4
"""Scores of a candidate: of the first three sources, then of sequential rules."""
_BROUGHT, _BARRED = 1, 2
_NOWHERE = -1


class Candidates(NamedTuple):
    """Candidates of one query; M = room, S = sources, F = inputs of the blend, N = item rows."""

    rows: IntArray  # (M,)
    first: IntArray  # (M,) code of the source that brought the row first
    sources: IntArray  # (M,) bits of all that brought it
    score: FloatArray  # (M, SCORED) 0 where there is none
    rank: FloatArray  # (M, S) 1 / sqrt(1 + rank), 0 where the source does not list the row
    match: FloatArray  # (M, 2) of the embedding
    inputs: FloatArray  # (M, F)
    mark: IntArray  # (N,) number of the query that met the row times 4, plus `_BROUGHT` and `_BARRED`
    place: IntArray  # (N,) among the candidates, `_NOWHERE` where cut
    number: IntArray  # (1,) of the query


class Brought(NamedTuple):
    """Rows of all parts, one part after the other."""

    rows: IntArray  # (n,)
    ends: IntArray  # (parts,)
    codes: IntArray  # (parts,) of the sources


class Merged(NamedTuple):
    """How many candidates were kept, and what was cut."""

    size: int
    cut: IntArray  # (m,) rows, by reason, then in the order they were brought
    reasons: IntArray  # (m,)


def empty_candidates(room: int, items: int, inputs: int) -> Candidates:
    """Make working memory for `room` candidates out of `items` rows, described by `inputs` numbers."""
    return Candidates(
        rows=np.zeros(room, np.int64),
        first=np.zeros(room, np.int64),
        sources=np.zeros(room, np.int64),
        score=np.zeros((room, SCORED)),
        rank=np.zeros((room, len(SOURCE_NAMES))),
        match=np.zeros((room, 2)),
        inputs=np.zeros((room, inputs)),
        mark=np.zeros(items, np.int64),
        place=np.zeros(items, np.int64),
        number=np.zeros(1, np.int64),
    )


@compiled
def _bar(c: Candidates, rows: IntArray) -> int:
    c.number[0] += 1
    fresh = c.number[0] << 2
    for row in rows:
        if 0 <= row < c.mark.shape[0]:
            c.mark[row] = fresh | _BARRED
    return int(fresh)


@compiled
def _unfit(
    available: NDArray[np.bool_],
    hashes: NDArray[np.uint64],
    codes: NDArray[np.int32],
    seen: NDArray[np.uint64],
    categories: IntArray,
    row: int,
) -> int:
    """Why the catalogue and the visitor rule a row out, 0 where they do not; arrays, as tuples cost more."""
    if row >= available.shape[0] or not available[row]:
        return UNAVAILABLE
    if seen.shape[0] > 0 and is_among(seen, hashes[row]):
        return SEEN
    return 0 if is_inside(codes, row, categories) else ELSEWHERE


@compiled
def gather(c: Candidates, brought: Brought, catalogue: Catalogue, w: Wanted) -> Merged:
    """Merge parts, drop what may not be shown, keep the first `w.limit`, or as many as there is room for."""
    fresh, most = _bar(c, w.excluded), min(w.limit, c.rows.shape[0])
    cut, why = np.empty_like(brought.rows), np.empty_like(brought.rows)
    available, hashes, codes = catalogue.available, catalogue.hashes, catalogue.codes
    seen, categories, items = w.seen, w.categories, catalogue.available.shape[0]
    size, out, part, begin = 0, 0, 0, 0
    for n in range(brought.rows.shape[0]):
        while n >= brought.ends[part]:
            begin = brought.ends[part]
            part += 1
        row, source = brought.rows[n], brought.codes[part]
        if not 0 <= row < c.mark.shape[0]:
            continue
        mark = max(c.mark[row], fresh)
        if not mark & _BROUGHT:
            c.mark[row], c.place[row] = mark | _BROUGHT, _NOWHERE
            reason = 0 if items == 0 else _unfit(available, hashes, codes, seen, categories, row)
            if mark & _BARRED and reason in (0, ELSEWHERE):
                reason = EXCLUDED
            if reason != 0:
                cut[out], why[out] = row, reason
                out += 1
            elif size < most:
                c.place[row], c.rows[size], c.first[size], c.sources[size] = size, row, source, 0
                c.rank[size, :] = 0.0
                size += 1
        at = c.place[row]
        if at != _NOWHERE:
            c.sources[at] |= 1 << source
            c.rank[at, source] = max(c.rank[at, source], 1.0 / np.sqrt(1.0 + n - begin))
    order = np.argsort(why[:out], kind="mergesort")
    return Merged(size, cut[:out][order], why[:out][order])
