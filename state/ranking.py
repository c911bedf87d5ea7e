"""How the slates of a surface are put together, as a versioned document: variety, repetition, freshness."""

from typing import Annotated

from msgspec import Meta

from state.retention import SEEN_MAX_AGE_MS
from state.versioned import Versioned

SEEN_MAX_AGE_S = SEEN_MAX_AGE_MS / 1000


class Rankings(Versioned, kw_only=True, forbid_unknown_fields=True):
    """The ranking document of one surface, ``ranking/home`` for example.

    Attributes
    ----------
    category_cap
        Slots of one slate that may share a category, an item's first one; 0 for no cap.
    diversity
        What full likeness of content to an item placed before takes off a score, in logits; 0 for nothing.
    freshness
        What an item published this moment gets on top of its score, in logits; 0 for nothing.
    freshness_half_life_s
        Age at which half of that is left, seconds.
    no_repeat_s
        How long an item is not shown again to who interacted with it, seconds; at most the 90 days that seen
        items are remembered.
    """

    category_cap: Annotated[int, Meta(ge=0, le=50)] = 0
    diversity: Annotated[float, Meta(ge=0.0, le=20.0)] = 0.0
    freshness: Annotated[float, Meta(ge=0.0, le=10.0)] = 0.0
    freshness_half_life_s: Annotated[float, Meta(ge=60.0, le=31_536_000.0)] = 604_800.0
    no_repeat_s: Annotated[float, Meta(ge=0.0, le=SEEN_MAX_AGE_S)] = SEEN_MAX_AGE_S
