"""What another exploration rate would earn on a surface, told from the last hours before anybody turns it."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from bandits.ope.quota import forecast_quota
from bandits.ope.strata import CoinCell, Forecast, forecast, joined, unchanged
from state.control_reads import read_current
from state.evidence import HOUR_MS, Cell, read_cells
from state.exploration import Explorations, in_force, segment_rate
from state.retention import EVIDENCE_HOURS
from state.settings import Settings

LEVEL = 0.95
CountNew = Callable[[int], Awaitable[int]]
SILENT = ("greedy", "fallback")
MOST_DOUBTFUL = 0.01
"""Share of decisions whose segments cannot be told while the whole still can."""


class Interval(Struct, frozen=True):
    """A value between two bounds that hold it in 95 of 100 previews."""

    value: float
    low: float
    high: float


class SegmentPreview(Struct, frozen=True, omit_defaults=True):
    """What a change would do to one segment, or to all of them.

    Attributes
    ----------
    segment
        Its name; empty for visitors of no segment.
    decisions, explored
        Closed decisions it is told from, and those of them with an explored slot.
    share
        Of all decisions.
    rate_now, rate
        In force and as wished.
    reward_now, reward
        Expected reward of a decision at both; None where it cannot be told.
    change
        Their difference, better known than either.
    reasons
        Why it cannot be told, one sentence each.
    """

    segment: str
    decisions: int
    explored: int
    share: float
    rate_now: float
    rate: float
    reward_now: Interval | None = None
    reward: Interval | None = None
    change: Interval | None = None
    reasons: list[str] = []


class NewItems(Struct, frozen=True):
    """What becomes of new items at another rate: the scheme shows them alike, exploring fills what is owed.

    Attributes
    ----------
    items
        Available items published within the quota's hours.
    quota, hours
        Impressions each is owed, and within how many hours of publication.
    impressions_now, impressions
        Each gets in that time at the rate in force and at the wished one, on average.
    reaching_now, reaching
        Items expected to reach their quota at both.
    """

    items: int
    quota: int
    hours: float
    impressions_now: float
    impressions: float
    reaching_now: float
    reaching: float


class Preview(Struct, frozen=True, kw_only=True):
    """What a change of exploration would earn, or why nobody can tell.

    Attributes
    ----------
    surface, hours, as_of
        Whose, from how many hours of closed decisions, ms since 1970 of the asking.
    version
        Of the exploration in force.
    is_decidable
        Whether `overall` may be acted upon.
    overall
        All segments by their shares.
    segments
        Each by itself, where there are any.
    new_items
        What becomes of new items; None where the surface owes them nothing, or none is new.
    verdict
        The same in words.
    """

    surface: str
    hours: float
    as_of: int
    version: int
    is_decidable: bool
    overall: SegmentPreview
    segments: list[SegmentPreview]
    new_items: NewItems | None
    verdict: str


class PreviewReader:
    """Answers previews from what lanes have folded.

    Parameters
    ----------
    settings
        Of the namespace.
    redis
        Client of the store.
    count_new
        Tells how many available items were published since a time, ms.
    """

    def __init__(self, settings: Settings, redis: Any, count_new: CountNew) -> None:
        self._settings, self._redis, self._count_new = settings, redis, count_new

    async def read(self, surface: str, rate: float, hours: float) -> Preview:
        """Return what a rate would earn, from the last hours (at most a week)."""
        now_ms = time.time_ns() // 1_000_000
        latest = await read_current(self._redis, self._settings, f"exploration/{surface}")
        assert isinstance(latest, Explorations)
        last = now_ms // HOUR_MS
        first = max(last - EVIDENCE_HOURS + 1, round((now_ms - hours * HOUR_MS) // HOUR_MS))
        found = await read_cells(self._redis, self._settings, surface, range(first, last + 1))
        document, cells = in_force(latest, now_ms), [cell for some in found.values() for cell in some]
        documents = document, replace(document, rate=rate)
        told = preview(surface, cells, documents, (hours, now_ms))
        if document.quota is None:
            return told
        since = now_ms - round(document.quota.hours * HOUR_MS)
        seen_h = (now_ms - min(found, default=last) * HOUR_MS) / HOUR_MS
        items = new_items(cells, documents, await self._count_new(since), seen_h)
        return replace(told, new_items=items)


def preview(
    surface: str,
    cells: Sequence[Cell],
    documents: tuple[Explorations, Explorations],
    asked: tuple[float, int],
) -> Preview:
    """Return the preview of a change from one document to another.

    Parameters
    ----------
    surface
        Whose.
    cells
        What was folded of its closed decisions.
    documents
        In force, and as wished: another rate, and nothing else.
    asked
        Hours the cells are of, and the time of asking, ms.
    """
    now, wished = documents
    by_segment: dict[str, list[CoinCell]] = {}
    for cell in cells:
        by_segment.setdefault(cell.segment, []).append(_coin_cell(cell))
    total = sum(sum(cell.counts) for cell in cells)
    parts = [
        _Part(name, some, sum(float(one.counts.sum()) for one in some) / total, documents)
        for name, some in sorted(by_segment.items())
    ]
    whole = joined([part.told for part in parts], [part.share for part in parts], MOST_DOUBTFUL)
    overall = _said("", (total, 1.0), (_rate_of(now, ""), _rate_of(wished, "")), whole)
    hours, as_of = asked
    return Preview(
        surface=surface,
        hours=hours,
        as_of=as_of,
        version=now.version,
        is_decidable=not whole.reasons,
        overall=overall,
        segments=[part.said() for part in parts] if now.segments else [],
        new_items=None,
        verdict=verdict(surface, overall, hours),
    )


def new_items(
    cells: Sequence[Cell], documents: tuple[Explorations, Explorations], items: int, seen_h: float
) -> NewItems | None:
    """Return what becomes of new items; None where nothing is owed or none is new.

    Parameters
    ----------
    cells
        What was folded of closed decisions.
    documents
        In force, and as wished.
    items
        New items there are.
    seen_h
        Hours the cells span, > 0.
    """
    quota = documents[0].quota
    if quota is None or not items:
        return None
    now, then = (
        np.sum([_fresh(cell, _rate_of(document, cell.segment)) for cell in cells], axis=0)
        * (quota.hours / seen_h)
        for document in documents
    )
    told = forecast_quota(items, (now[0], then[0]), (now[1], then[1]), quota.impressions)
    return NewItems(
        items, quota.impressions, quota.hours, told.impressions_now, told.impressions, told.reaching_now,
        told.reaching,
    )  # fmt: skip


def _fresh(cell: Cell, rate: float) -> tuple[float, float]:
    """Return the impressions of new items a cell's decisions would have brought: by scheme, by exploring."""
    by_scheme = cell.fresh_else * (1.0 - rate) / (1.0 - cell.rate) if cell.rate < 1.0 else 0.0
    return by_scheme, cell.fresh * rate / cell.rate if cell.rate else 0.0


class _Part:
    """One segment of a preview."""

    def __init__(
        self, name: str, cells: list[CoinCell], share: float, documents: tuple[Explorations, Explorations]
    ) -> None:
        self._name, self.share, self._count = name, share, sum(int(one.counts.sum()) for one in cells)
        self._rates = _rate_of(documents[0], name), _rate_of(documents[1], name)
        before, after = self._rates
        self.told = unchanged(cells) if before == after else forecast(cells, after, before)

    def said(self) -> SegmentPreview:
        return _said(self._name, (self._count, self.share), self._rates, self.told)


def _said(name: str, size: tuple[int, float], rates: tuple[float, float], told: Forecast) -> SegmentPreview:
    count, share = size
    now, rate = rates
    if told.reasons:
        return SegmentPreview(name, count, told.explored, share, now, rate, reasons=list(told.reasons))
    before, after, change = (
        Interval(value, value - half, value + half)
        for value, half in zip((told.now, told.value, told.change), told.half_widths(LEVEL), strict=True)
    )
    return SegmentPreview(name, count, told.explored, share, now, rate, before, after, change)


def _coin_cell(cell: Cell) -> CoinCell:
    return CoinCell(
        cell.rate, cell.is_single, *(np.array(v, float) for v in (cell.counts, cell.sums, cell.squares))
    )


def _rate_of(document: Explorations, name: str) -> float:
    """Return the rate of a segment, 0 where it does not explore; a segment that is gone is the surface's."""
    segment = next((one for one in document.segments if one.name == name), None)
    scheme = document.scheme if segment is None or segment.scheme is None else segment.scheme
    if scheme in SILENT:
        return 0.0
    return min(document.rate, document.rate_cap) if segment is None else segment_rate(document, segment)


def verdict(surface: str, told: SegmentPreview, hours: float) -> str:
    """Return a preview in words."""
    basis = f"{told.decisions:,} decisions of the last {hours:g} hours, {told.explored:,} of which explored"
    if told.change is None or told.reward_now is None:
        return f"cannot be told from {basis}: {'; '.join(told.reasons)}"
    now, change = told.reward_now.value, told.change
    if told.rate == told.rate_now:
        return f"{surface} explores at {told.rate:g} already and earns {now:.4g} a decision ({basis})"
    shares = [value / now if now else 0.0 for value in (change.value, change.low, change.high)]
    effect = "earns more" if change.low > 0 else "earns less" if change.high < 0 else "may earn more or less"
    return (
        f"from {told.rate_now:g} to {told.rate:g}, {surface} {effect}: {change.value:+.4g} a decision, "
        f"between {change.low:+.4g} and {change.high:+.4g} ({shares[0]:+.1%}, {shares[1]:+.1%} to "
        f"{shares[2]:+.1%} of {now:.4g}; {basis})"
    )
