"""What the recommender is made of, as one set of numbers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from online_models.blend import BlendSettings
from online_models.covisit import CoVisitSettings
from online_models.session_embedding import SessionEmbeddingSettings
from online_models.session_knn import SessionKnnSettings

_PARTS = ("knn", "covisit", "embedding", "blend")
_COUNTS = (
    "per_source",
    "room",
    "max_query",
    "learn_every",
    "learn_early",
    "early_lessons",
    "slow",
    "fast",
)


@dataclass(frozen=True, slots=True)
class RecommenderSettings:
    """What the recommender is made of.

    Parameters
    ----------
    knn, covisit, embedding, blend
        Settings of the parts.
    half_lives_s
        Of the trends, seconds; the first one ranks items where the session says nothing.
    per_source
        Candidates taken from each source that lives on clicks, > 0.
    room
        Candidates of one query at most, those of extra sources among them, > 0.
    max_query
        Clicks of the current session looked at, the latest ones, > 0.
    learn_every
        One click in so many is a lesson for the blend, > 0: a lesson costs a whole retrieval.
    learn_early, early_lessons
        The same until so many lessons were learnt, while there is much to learn, both > 0.
    slow, fast
        Sessions over which an item's lasting and recent popularity fall by e, > 0.
    """

    knn: SessionKnnSettings = field(default_factory=SessionKnnSettings)
    covisit: CoVisitSettings = field(default_factory=CoVisitSettings)
    embedding: SessionEmbeddingSettings = field(default_factory=SessionEmbeddingSettings)
    blend: BlendSettings = field(default_factory=BlendSettings)
    half_lives_s: tuple[float, ...] = (3600.0, 86_400.0, 7 * 86_400.0)
    per_source: int = 60
    room: int = 200
    max_query: int = 20
    learn_every: int = 96
    learn_early: int = 4
    early_lessons: int = 2_500
    slow: float = 60_000.0
    fast: float = 3_000.0

    def __post_init__(self) -> None:
        for name in _COUNTS:
            if not getattr(self, name) > 0:
                msg = f"{name} is {getattr(self, name)}, wanted a number > 0"
                raise ValueError(msg)

    def own(self) -> dict[str, Any]:
        """Return what does not belong to a part, JSON-ready."""
        return {name: value for name, value in asdict(self).items() if name not in _PARTS}

    @classmethod
    def of_snapshot(cls, meta: Mapping[str, Any]) -> "RecommenderSettings":
        """Read the settings of a recommender's snapshot."""
        parts, own = meta["parts"], dict(meta["settings"])
        own["half_lives_s"] = tuple(own["half_lives_s"])
        return cls(
            knn=SessionKnnSettings(**parts["index"]["settings"]),
            covisit=CoVisitSettings(**parts["covisits"]["settings"]),
            embedding=SessionEmbeddingSettings(**parts["embedding"]["settings"]),
            blend=BlendSettings(**parts["blend"]["settings"]),
            **own,
        )
