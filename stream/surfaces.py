"""Attribution counts of one shard by surface, and what of a closed decision counts for nothing."""

from collections.abc import Collection, Iterator, Mapping

from state.attributed import NO_SURFACE, OTHER_SURFACES, count_field
from state.events import Click, Decision, Feedback, Impression
from stream.attribution import Attribution, Closed
from stream.effects import Counters

MAX_SURFACES = 200
_PENDING = "pending"


class SurfaceCounters:
    """Running counts by surface; a shard keeps a bounded number of surfaces apart.

    Parameters
    ----------
    stored
        The attribution hash as loaded.
    """

    def __init__(self, stored: dict[bytes, bytes]) -> None:
        self._counters = Counters(stored)
        self._known = {name.partition(":")[2] for name in self._counters.totals}

    @property
    def totals(self) -> Mapping[str, int]:
        """Counts by field name."""
        return self._counters.totals

    def add(self, kind: str, surface: str | None, amount: int = 1) -> None:
        """Add to one count; without a surface, to that of events that name none."""
        self._counters.add(count_field(kind, self._place(surface or NO_SURFACE)), amount)

    def _place(self, surface: str) -> str:
        if surface not in self._known:
            if surface != NO_SURFACE and len(self._known) >= MAX_SURFACES:
                return OTHER_SURFACES
            self._known.add(surface)
        return surface

    def follow(self, attribution: Attribution) -> None:
        """Take over by how much the numbers of open decisions moved."""
        for surface, by in attribution.take_moved().items():
            self.add(_PENDING, surface, by)

    def take_moved(self) -> dict[str, bytes]:
        """Return the moved counts as hash fields and forget that they moved."""
        return self._counters.take_moved()


def surface_of(event: object) -> str | None:
    """Return the surface an event names, if any."""
    return event.surface if isinstance(event, Impression | Click | Feedback | Decision) else None


def strays(closed: Closed, judged: Collection[str]) -> Iterator[str]:
    """Yield the surface of each impression and reward of a closed decision that counts for none of its slots.

    Parameters
    ----------
    closed
        The decision.
    judged
        Items of its slots that were judged; none where it sends no outcome.
    """
    entry, is_shown = closed.entry, closed.verdict == "outcome"
    if entry.shown_at and not is_shown:
        yield entry.shown_on
    yield from (surface for at_ms, surface in entry.again if not is_shown or at_ms > closed.until)
    for item_id, rewards in entry.rewards.items():
        last = closed.until if item_id in judged else 0
        yield from (reward.surface for reward in rewards if reward.at_ms > last)
