"""What rules and a request's own wishes make of one slate: who may appear, what is lifted, what is pinned."""

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from serving.filters import Filters
from serving.items import BoolArray, IntArray, ItemTable
from serving.requests import RecommendationRequest
from state.merchandising import Merchandising, Rule
from state.packing import FloatArray

Hashes = NDArray[np.uint64]
NO_HASHES: Hashes = np.zeros(0, np.uint64)


class Wishes(Struct, frozen=True):
    """What holds for one slate beside models and exploration.

    Attributes
    ----------
    allowed
        (rows,) what may appear; None for everything.
    hidden_by
        Each rule that hides, by name, and (rows,) what it hides.
    boosts
        (rows,) whom each boost lifts, and by how many logits.
    pins
        Item row and position of each pin, by position.
    has_filter
        Whether the request has a filter of its own, which may leave few items.
    """

    allowed: BoolArray | None = None
    hidden_by: tuple[tuple[str, BoolArray], ...] = ()
    boosts: tuple[tuple[BoolArray, float], ...] = ()
    pins: tuple[tuple[int, int], ...] = ()
    has_filter: bool = False

    def lifts(self, rows: IntArray) -> FloatArray | None:
        """Return what the boosts put on candidates (k,), in logits; None for nothing."""
        if not self.boosts:
            return None
        lifts = np.zeros(len(rows))
        for lifted, by in self.boosts:
            lifts += by * lifted[rows]
        return lifts

    def pin_rows(self) -> IntArray:
        """Return the rows of the pins."""
        return np.array([row for row, _ in self.pins], np.int64)


class SurfaceRules:
    """The rules of one surface, sorted out by what they do.

    Parameters
    ----------
    document
        As stored.
    """

    def __init__(self, document: Merchandising) -> None:
        self.document = document
        by_name = sorted(document.rules.items())
        self.hides = [(name, rule) for name, rule in by_name if rule.action == "hide"]
        self.boosts = [rule for _, rule in by_name if rule.action in ("boost", "bury")]
        self.pins = sorted(
            [rule for _, rule in by_name if rule.action == "pin"], key=lambda rule: rule.position or 0
        )

    def __bool__(self) -> bool:
        return bool(self.document.rules)


NO_RULES = SurfaceRules(Merchandising())


def wishes_of(
    rules: SurfaceRules,
    request: RecommendationRequest,
    catalogue: tuple[ItemTable, Filters],
    now_ms: int,
    *,
    is_holdout: bool,
) -> Wishes | None:
    """Return what holds for a slate; None where there are neither rules nor wishes.

    What may not appear appears for nobody; boosts and pins are kept from the hold-out.
    """
    asks = request.filter is not None or bool(request.boost) or bool(request.pin)
    if not rules and not asks:
        return None
    items, filters = catalogue
    hides = [(name, _where(one)) for name, one in rules.hides if one.holds_at(now_ms)]
    hidden_by = tuple((name, filters.mask(where)) for name, where in hides)
    allowed = filters.allowed(request.filter, [where for _, where in hides])
    if is_holdout:
        return Wishes(allowed, hidden_by, has_filter=request.filter is not None)
    boosts = [(_where(one), _logits(one)) for one in rules.boosts if one.holds_at(now_ms)]
    boosts += [(one.where, math.log(one.factor)) for one in request.boost]
    return Wishes(
        allowed,
        hidden_by,
        tuple((filters.mask(where), by) for where, by in boosts),
        tuple(_pins(rules, request, items, now_ms)),
        request.filter is not None,
    )


def _pins(
    rules: SurfaceRules, request: RecommendationRequest, items: ItemTable, now_ms: int
) -> list[tuple[int, int]]:
    """Return row and position of each pin: the request's before the rules', an item once."""
    wished = [(one.item_id, one.position) for one in request.pin]
    wished += [(one.item_id or "", one.position or 0) for one in rules.pins if one.holds_at(now_ms)]
    found: dict[int, int] = {}
    for item_id, position in wished:
        row = items.find(item_id)
        if row is not None and position < request.k:
            found.setdefault(row, position)
    return sorted(found.items(), key=lambda pin: pin[1])


def _where(rule: Rule) -> str:
    return rule.where or ""


def _logits(rule: Rule) -> float:
    by = math.log(rule.factor or 1.0)
    return by if rule.action == "boost" else -by


def interleaved(drawn: int, positions: list[int]) -> IntArray:
    """Return which of `drawn` slots and pins (numbered after them) stands at each place, shape (places,).

    A pin whose place is taken, or lies beyond the end, takes the nearest free one: after it, else before.
    """
    size = drawn + len(positions)
    at: dict[int, int] = {}
    for n, position in enumerate(positions):
        wanted = min(position, size - 1)
        free = [place for place in range(size) if place not in at]
        at[next((place for place in free if place >= wanted), free[-1])] = drawn + n
    rest = iter(range(drawn))
    return np.array([at[place] if place in at else next(rest) for place in range(size)], np.int64)
