"""Which law of exploration a request is under: by surface, segment and decision time."""

from collections.abc import Mapping

from msgspec import Struct

from bandits.exploration import Exploration
from state.exploration import Explorations, Segment, segment_rate


class Chosen(Struct, frozen=True):
    """The exploration of one request.

    Attributes
    ----------
    document
        In force on the surface.
    segment
        Name of the segment that matched; empty for none.
    law
        Of each slot.
    is_fallback
        Whether the trend is served instead, and no policy learns from it.
    is_held_back
        Whether a budget made the rate lower.
    """

    document: Explorations
    segment: str
    law: Exploration
    is_fallback: bool
    is_held_back: bool = False


class Laws:
    """The laws of one document: the surface's own, those of its segments, and what comes back after it.

    Parameters
    ----------
    document
        As stored.
    """

    def __init__(self, document: Explorations) -> None:
        self.document = document
        self._own = Chosen(document, "", to_law(document), document.scheme == "fallback")
        self._segments = [(one.when.items(), _of_segment(document, one)) for one in document.segments]
        self._later = Laws(document.before) if document.before is not None else None

    def at(self, now_ms: int) -> "Laws":
        """Return the laws in force at a time."""
        if self._later is None or now_ms < self.document.until:
            return self
        return self._later.at(now_ms)

    def of(self, facets: Mapping[str, str]) -> Chosen:
        """Return the exploration of visitors with these facets."""
        for when, chosen in self._segments:
            if all(facets.get(name) == value for name, value in when):
                return chosen
        return self._own


def to_law(document: Explorations) -> Exploration:
    """Return the policy room's form of a surface's own exploration."""
    return Exploration(
        scheme="greedy" if document.scheme == "fallback" else document.scheme,
        rate=min(document.rate, document.rate_cap),
        temperature=document.temperature,
        optimism=document.optimism,
        floor=document.floor,
        gamma=document.gamma,
        mode=document.mode,
    )


def _of_segment(document: Explorations, segment: Segment) -> Chosen:
    scheme = document.scheme if segment.scheme is None else segment.scheme
    law = Exploration(
        scheme="greedy" if scheme == "fallback" else scheme,
        rate=segment_rate(document, segment),
        temperature=document.temperature if segment.temperature is None else segment.temperature,
        optimism=document.optimism if segment.optimism is None else segment.optimism,
        floor=document.floor if segment.floor is None else segment.floor,
        gamma=document.gamma,
        mode=document.mode,
    )
    return Chosen(document, segment.name, law, scheme == "fallback")
