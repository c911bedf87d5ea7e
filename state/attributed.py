"""Attribution counts by surface: their names in the store, and how to read those of a whole namespace."""

from collections import Counter
from typing import Any

from msgspec import Struct

from state.keys import attribution_key, subject_unit, unit_prefix
from state.settings import Settings

NO_SURFACE = "_none"
"""Where events are counted that name no surface; no surface can be called so."""
OTHER_SURFACES = "_other"
"""Where a shard counts what names one surface more than it keeps apart."""


class SurfaceCounts(Struct, kw_only=True):
    """What became of one surface's decisions and of the events that name it.

    Attributes
    ----------
    closed
        Decisions whose outcome was sent.
    pending
        Decisions, and events waiting for theirs, whose window is still open.
    unseen
        Decisions nobody was shown in time; learnt from only where the surface's rules say so.
    defaulted
        Slots of closed decisions that had no reward and got the surface's default.
    late, duplicate
        Events turned away because they were older than the watermark, or had come before.
    unattributed
        Impressions, clicks and rewarding feedback that belong to no decision, slot or window.
    forged
        Events with a decision token that is forged, foreign or expired; unattributed, too.
    """

    closed: int = 0
    pending: int = 0
    unseen: int = 0
    defaulted: int = 0
    late: int = 0
    duplicate: int = 0
    unattributed: int = 0
    forged: int = 0


KINDS_OF_COUNT = SurfaceCounts.__struct_fields__


class AttributionCounts(Struct):
    """Attribution counts of a namespace, as folded so far.

    Attributes
    ----------
    surfaces
        Surface -> its counts; ``_none`` holds events that name none, ``_other`` surfaces beyond the first 200
        of a shard.
    total
        The sum over all surfaces.
    """

    surfaces: dict[str, SurfaceCounts]
    total: SurfaceCounts


def count_field(kind: str, surface: str) -> str:
    """Return the hash field one count is stored under."""
    return f"{kind}:{surface}"


async def read_attribution(redis: Any, settings: Settings) -> AttributionCounts:
    """Return the counts of all shards, added up."""
    units = [subject_unit(number) for number in range(settings.shards)]
    keys = [attribution_key(unit_prefix(settings.namespace, unit)) for unit in units]
    totals: Counter[tuple[str, str]] = Counter()
    for key in keys:
        for name, value in (await redis.hgetall(key)).items():
            kind, _, surface = name.decode().partition(":")
            totals[surface, kind] += int(value)
    return _as_counts(totals)


def _as_counts(totals: Counter[tuple[str, str]]) -> AttributionCounts:
    surfaces = {surface: SurfaceCounts() for surface, _ in sorted(totals)}
    whole = SurfaceCounts()
    for (surface, kind), number in totals.items():
        setattr(surfaces[surface], kind, number)
        setattr(whole, kind, getattr(whole, kind) + number)
    return AttributionCounts(surfaces, whole)
