"""A live state without one source or one family of features; everything else learns and serves as ever."""

from collections.abc import Sequence

from msgspec import Struct

from online_models._candidate_loops import Merged
from online_models.retrieval import Recommender, RecommenderSettings
from online_models.sources import LABELS, ExtraSources, Part, Query
from serving.live import LiveState

FAMILIES: dict[str, tuple[str, ...]] = {
    "session neighbours": ("knn_", "both_ranks", "repeat_knn"),
    "co-visitation": ("covisit_", "both_ranks"),
    "two steps of co-visitation": ("hop_",),
    "sequential rules": ("rule_",),
    "session embedding": ("embedding", "behaviour_rank"),
    "content": ("content", "history_rank"),
    "popularity and trends": (
        "popular",
        "recent",
        "rising",
        "trend_",
        "category_trend_",
        "surface_trend",
        "segment_trend",
    ),
    "age and novelty": ("age", "item_age", "novelty", "new_rank"),
    "repetition": ("repeat",),
    "taste of categories": ("affinity",),
}
"""Family of inputs -> how their names begin, where the blend has such; a product of two belongs to both."""


class Without(Struct, frozen=True):
    """What is left out: sources by code, and families of inputs."""

    sources: frozenset[int] = frozenset()
    families: frozenset[str] = frozenset()


def inputs_of(without: Without, names: Sequence[str]) -> list[int]:
    """Return the columns, out of all names, that say nothing any more."""
    starts = [f"{LABELS[code]}_rank" for code in without.sources]
    starts += [start for family in without.families for start in FAMILIES[family]]
    return [column for column, name in enumerate(names) if name.startswith(tuple(starts))]


class CutRecommender(Recommender):
    """The recommender with sources that bring nothing and inputs that are always 0, in lessons too."""

    def __init__(self, settings: RecommenderSettings, extras: ExtraSources, without: Without) -> None:
        super().__init__(settings, _CutSources(extras, without.sources))
        self._gone = inputs_of(without, self.names)
        self._finder.asked[list(without.sources)] = False

    def _gather(self, query: Query, least: int) -> Merged:
        merged = super()._gather(query, least)
        self._finder.inputs[: merged.size, self._gone] = 0.0
        return merged


class _CutSources:
    """A catalogue's sources, some of which bring nothing."""

    def __init__(self, whole: ExtraSources, gone: frozenset[int]) -> None:
        self._gone = gone
        self.names, self.first_weights = whole.names, whole.first_weights
        self.catalogue, self.wanted = whole.catalogue, whole.wanted
        self.last_resort, self.inputs = whole.last_resort, whole.inputs
        self._parts = whole.parts

    def parts(self, query: Query) -> list[Part]:
        """Give the parts that are left."""
        return [part for part in self._parts(query) if part.source not in self._gone]


class CutLive(LiveState):
    """A live state like another that knows nothing yet, whose recommender lacks something."""

    def __init__(self, whole: LiveState, without: Without) -> None:
        self._without = without
        super().__init__(whole._policy, whole.recommender.settings)

    def fresh_recommender(self) -> Recommender:
        """Return a recommender of this catalogue, without what is left out, that has met no click yet."""
        fresh = CutRecommender(self._retrieval, self.sources(), self._without)
        fresh.reserve(len(self.items))
        return fresh
