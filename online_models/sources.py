"""Where candidates come from: codes and names of the sources, what they are asked, and what a root adds."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from online_models.arrays import FloatArray, IntArray
from online_models.candidates import Catalogue, Wanted

(
    KNN, COVISIT, HOP, SESSION,
    HISTORY, CONTENT, NEW, TREND, CATEGORY_TREND, SURFACE_TREND, SEGMENT_TREND, BEHAVIOUR,
) = range(12)  # fmt: skip
"""Codes of the sources; bit `1 << code` of `Recommendation.sources` tells that a source brought an item."""

LABELS = (
    "knn",
    "covisit",
    "hop",
    "session",
    "history",
    "content",
    "new",
    "trend",
    "category_trend",
    "surface_trend",
    "segment_trend",
    "behaviour",
)
"""Short names by code, as inputs of the blend are called by: `content_rank`."""

SOURCE_NAMES = (
    "neighbours",
    "seen together",
    "seen with those",
    "session",
    "history",
    "similar content",
    "new",
    "trending",
    "trending in category",
    "trending on surface",
    "trending in segment",
    "treated alike",
)
"""What people read as the reason, by code."""


class Query(NamedTuple):
    """A session that asks for items."""

    items: IntArray
    """Item rows of the session, oldest first, shape (n,); empty for a session without a click."""
    now_ms: int
    """Event time of the request, milliseconds."""
    session: int | None = None
    """Key of the session where its clicks have been added: it must not vote for itself."""
    wanted: Wanted | None = None
    """What may be shown; None, as in lessons of the blend, for what `ExtraSources` says."""
    visit: object = None
    """What the root knows of the visitor, handed to its `ExtraSources`; None in lessons of the blend."""


class Part(NamedTuple):
    """Rows one source brings."""

    source: int
    """Code of the source; a source may bring several parts."""
    rows: IntArray
    """Item rows, best first, shape (n,); repeats are allowed, rows nobody knows are passed over."""


class ExtraSources(Protocol):
    """What a root adds to sources that live on clicks alone: its catalogue, further parts, further inputs.

    Requests and lessons of the blend ask the same object, so that what is learnt from is what is served.
    """

    names: tuple[str, ...]
    """Names of the further inputs of the blend, X of them."""
    first_weights: Mapping[str, float]
    """Weights the blend begins with, of the further inputs and of ranks (`content_rank`, `new_rank`, ...)."""

    def catalogue(self, query: Query) -> Catalogue:
        """Give the live catalogue as far as it is open to a query, by item row."""

    def wanted(self, query: Query) -> Wanted:
        """Say what may be shown where the query does not: in lessons of the blend as in requests."""

    def parts(self, query: Query) -> Sequence[Part]:
        """Give further candidates, in the order in which they are to be taken while there is room."""

    def last_resort(self, query: Query) -> Sequence[Part]:
        """Give candidates for an answer that would otherwise be too short."""

    def inputs(self, query: Query, rows: IntArray) -> FloatArray:
        """Describe candidates (m,) by the further inputs, about -3 to 3 each, shape (m, X)."""
