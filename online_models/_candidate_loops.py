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


class Merged(NamedTuple):
    """How many candidates were kept, and what was cut."""

    size: int
    cut: IntArray  # (m,) rows, by reason, then in the order they were brought
    reasons: IntArray  # (m,)


class Sieve(NamedTuple):
    """What lets rows of one query through, and what it has cut."""

    available: NDArray[np.bool_]  # of the catalogue, as are the next two
    hashes: NDArray[np.uint64]
    codes: NDArray[np.int32]
    seen: NDArray[np.uint64]
    categories: IntArray
    fresh: int  # number of the query times 4
    most: int  # candidates at most
    cut: IntArray  # rows, in the order they were brought
    why: IntArray
    counts: IntArray  # (2,) candidates kept, rows cut


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
def begin(c: Candidates, catalogue: Catalogue, w: Wanted, most_cut: int) -> Sieve:
    """Begin a query that may cut so many rows."""
    return Sieve(
        catalogue.available,
        catalogue.hashes,
        catalogue.codes,
        w.seen,
        w.categories,
        _bar(c, w.excluded),
        min(w.limit, c.rows.shape[0]),
        np.empty(most_cut, np.int64),
        np.empty(most_cut, np.int64),
        np.zeros(2, np.int64),
    )


@compiled
def take(c: Candidates, s: Sieve, rows: IntArray, source: int) -> None:
    """Take a source's rows, best first, as far as they may be shown and there is room."""
    mark, place, ranks, taken = c.mark, c.place, c.rank, c.rows
    fresh, size, out, is_open = s.fresh, s.counts[0], s.counts[1], s.available.shape[0] == 0
    for n in range(rows.shape[0]):
        row = rows[n]
        if not 0 <= row < mark.shape[0]:
            continue
        met = max(mark[row], fresh)
        if not met & _BROUGHT:
            mark[row], place[row] = met | _BROUGHT, _NOWHERE
            reason = 0 if is_open else _unfit(s.available, s.hashes, s.codes, s.seen, s.categories, row)
            if met & _BARRED and reason in (0, ELSEWHERE):
                reason = EXCLUDED
            if reason != 0:
                s.cut[out], s.why[out] = row, reason
                out += 1
            elif size < s.most:
                place[row], taken[size], c.first[size], c.sources[size] = size, row, source, 0
                ranks[size, :] = 0.0
                size += 1
        at = place[row]
        if at != _NOWHERE:
            c.sources[at] |= 1 << source
            ranks[at, source] = max(ranks[at, source], 1.0 / np.sqrt(1.0 + n))
    s.counts[0], s.counts[1] = size, out


@compiled
def finish(s: Sieve) -> Merged:
    """Say how many candidates there are, and what was cut, by reason."""
    size, out = s.counts
    order = np.argsort(s.why[:out], kind="mergesort")
    return Merged(size, s.cut[:out][order], s.why[:out][order])
