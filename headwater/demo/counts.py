"""Counts of a namespace as its units have folded them."""

from msgspec import Struct

from state.clients import redis_client
from state.keys import CONTROL, counters_key, item_unit, lane_unit, subject_unit, unit_prefix
from state.settings import Settings


class Folded(Struct):
    """Folded counts, summed over units.

    Attributes
    ----------
    subjects
        Counters of all subject shards.
    lanes
        Counters of all model lanes.
    items
        Counters of all item shards.
    control
        Counters of the control unit.
    """

    subjects: dict[str, int]
    lanes: dict[str, int]
    items: dict[str, int]
    control: dict[str, int]

    @property
    def closed(self) -> int:
        """Decisions that were shown and whose window has closed."""
        return self.subjects.get("closed.outcome", 0)

    @property
    def learnt(self) -> int:
        """Outcomes the click models have learnt."""
        return self.lanes.get("outcomes", 0)

    @property
    def refused(self) -> int:
        """Events among the dead letters."""
        return sum(part.get("refused", 0) for part in (self.subjects, self.lanes, self.items, self.control))


async def read_folded(settings: Settings) -> Folded:
    """Return the folded counts of a namespace."""
    units = (
        [subject_unit(n) for n in range(settings.shards)],
        [lane_unit(n) for n in range(settings.lanes)],
        [item_unit(n) for n in range(settings.item_shards)],
        [CONTROL],
    )
    redis = redis_client(settings, timeout_s=5.0)
    try:
        return Folded(*[await _sum(redis, settings, names) for names in units])
    finally:
        await redis.aclose()


async def _sum(redis: object, settings: Settings, names: list[str]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for name in names:
        stored = await redis.hgetall(counters_key(unit_prefix(settings.namespace, name)))  # type: ignore[attr-defined]
        for field, value in stored.items():
            totals[field.decode()] = totals.get(field.decode(), 0) + int(value)
    return totals
