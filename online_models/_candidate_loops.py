"""Merging what the sources bring into candidates, and keeping what may be shown (compiled)."""

from typing import NamedTuple

import numpy as np

from online_models._door import BARRED, MARK, Door, reason_against
from online_models.arrays import FloatArray, IntArray
from online_models.candidates import Catalogue, Wanted
from online_models.compiled import compiled, compiled_borrowing
from online_models.sources import SOURCE_NAMES

SCORED = 4
"""Scores of a candidate: of the first three sources, then of sequential rules."""
_BROUGHT = 2
_PLACE = 1
"""Column of a row's place among the candidates, `_NOWHERE` where cut."""
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
    met: IntArray  # (N, 2) in columns `MARK` and `_PLACE`: see there
    number: IntArray  # (1,) of the query


class Merged(NamedTuple):
    """How many candidates were kept, and what was cut."""

    size: int
    cut: IntArray  # (m,) rows, by reason, then in the order they were brought
    reasons: IntArray  # (m,)


class Tally(NamedTuple):
    """What a query has cut so far, and how many candidates it has."""

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
        met=np.zeros((items, 2), np.int64),
        number=np.zeros(1, np.int64),
    )


@compiled
def open_door(c: Candidates, catalogue: Catalogue, w: Wanted) -> Door:
    """Begin a query: know what may be shown."""
    c.number[0] += 1
    fresh = c.number[0] << 2
    for row in w.excluded:
        if 0 <= row < c.met.shape[0]:
            c.met[row, MARK] = fresh | BARRED
    available, hashes, codes = catalogue.available, catalogue.hashes, catalogue.codes
    everything = available.shape[0] == 0 and w.excluded.shape[0] == 0
    return Door(available, hashes, codes, w.seen, w.categories, c.met, fresh, everything)


@compiled
def begin(c: Candidates, w: Wanted, most_cut: int) -> Tally:
    """Begin to merge what may cut so many rows."""
    most, counts = min(w.limit, c.rows.shape[0]), np.zeros(2, np.int64)
    return Tally(most, np.empty(most_cut, np.int64), np.empty(most_cut, np.int64), counts)


@compiled_borrowing
def take(c: Candidates, d: Door, s: Tally, rows: IntArray, source: int) -> None:
    """Take a source's rows, best first, as far as they may be shown and there is room."""
    met, ranks, taken = c.met, c.rank, c.rows
    fresh, size, out = d.fresh, s.counts[0], s.counts[1]
    for n in range(rows.shape[0]):
        row = rows[n]
        if not 0 <= row < met.shape[0]:
            continue
        if met[row, MARK] < fresh or not met[row, MARK] & _BROUGHT:
            reason = 0 if d.everything else reason_against(d, row)
            met[row, MARK], met[row, _PLACE] = max(met[row, MARK], fresh) | _BROUGHT, _NOWHERE
            if reason != 0:
                s.cut[out], s.why[out] = row, reason
                out += 1
            elif size < s.most:
                met[row, _PLACE], taken[size], c.first[size], c.sources[size] = size, row, source, 0
                ranks[size, :] = 0.0
                size += 1
        at = met[row, _PLACE]
        if at != _NOWHERE:
            c.sources[at] |= 1 << source
            ranks[at, source] = max(ranks[at, source], 1.0 / np.sqrt(1.0 + n))
    s.counts[0], s.counts[1] = size, out


@compiled
def finish(s: Tally) -> Merged:
    """Say how many candidates there are, and what was cut, by reason."""
    size, out = s.counts
    order = np.argsort(s.why[:out], kind="mergesort")
    return Merged(size, s.cut[:out][order], s.why[:out][order])
