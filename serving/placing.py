"""From a surface's ranking document to what a slate is drawn from, and what a log needs to draw it again."""

import numpy as np
from msgspec import Struct

from bandits.exploration import Exploration
from bandits.slates import CategoryCap, Diversity, SlateProblem
from serving.items import IntArray, ItemTable
from state.events import Placing
from state.packing import FloatArray, codes_from_base64, to_base64
from state.ranking import Rankings


class Placed(Struct, frozen=True):
    """What a slate is drawn from, and how the log says it; None where scores and law say all."""

    problem: SlateProblem
    logged: Placing | None


def freshness(ranking: Rankings, published_at: IntArray, now_ms: int) -> FloatArray:
    """Return what candidates (k,) get for being new, in logits; items of no known date get nothing."""
    age_s = np.maximum(0.0, (now_ms - published_at) / 1000.0)
    return np.where(
        published_at > 0, ranking.freshness * 2.0 ** (-age_s / ranking.freshness_half_life_s), 0.0
    )


def place(
    drawn_from: tuple[FloatArray, FloatArray | None],
    size: int,
    law: Exploration,
    given: tuple[Rankings, ItemTable, IntArray],
) -> Placed:
    """Return the problem of drawing `size` slots from candidates (rows, (k,)).

    They are drawn by scores (k,) and weights of exploration (k,), None for uniform.
    """
    ranking, items, rows = given
    logged = Placing(slots=size)
    if ranking.category_cap:
        logged.category_cap = ranking.category_cap
        logged.categories = to_base64(_compact(items.codes[rows, 0]), "<i2")
    if ranking.diversity:
        logged.diversity, logged.signatures = ranking.diversity, to_base64(items.signatures[rows], "<u8")
    is_plain = not ranking.category_cap and not ranking.diversity and law.mode == "every_slot"
    said, (scores, weights) = None if is_plain else logged, drawn_from
    return Placed(problem_of(scores, size, said, weights), said)


def problem_of(
    scores: FloatArray, slots: int, logged: Placing | None, weights: FloatArray | None = None
) -> SlateProblem:
    """Return what a slate was drawn from, by its log, and the weights of exploration that has another law."""
    if logged is None:
        return SlateProblem(scores, slots, weights)
    cap = logged.category_cap
    groups = codes_from_base64(logged.categories, "<i2").astype(np.int64) if cap else None
    signatures = codes_from_base64(logged.signatures, "<u8") if logged.diversity else None
    return SlateProblem(
        scores,
        logged.slots,
        weights,
        rule=None if groups is None else CategoryCap(groups, cap),
        diversity=None if signatures is None else Diversity(signatures, logged.diversity),
    )


def _compact(codes: IntArray) -> IntArray:
    """Return category codes as small numbers of this decision's own, -1 for none."""
    known, numbers = np.unique(codes, return_inverse=True)
    return numbers - 1 if len(known) and known[0] == -1 else numbers
