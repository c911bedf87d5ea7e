"""The features a served slate is ranked by, and the weights a model begins with before it has learnt."""

import numpy as np

from online_models._ranking_loops import Visit, Votes, describe, example, taste
from online_models.blend import Blend, BlendSettings
from online_models.candidates import Wanted, empty_marks, gather, look_up
from online_models.click import ClickModel, ClickModelSettings
from online_models.features import Feature, FeatureRegistry
from online_models.heads import HeadModels
from online_models.scorer import CompiledScorer

__all__ = [
    "BLEND_WEIGHTS", "PRIOR_INTERCEPT", "PRIOR_WEIGHTS", "Visit", "Votes", "blend_scorer", "describe",
    "prior_blend", "prior_model", "ranking_registry", "taste", "warm_up",
]  # fmt: skip


def ranking_registry() -> FeatureRegistry:
    """Return the features of the decision path, in the order they are logged and learnt in."""
    features = [
        Feature("position", "count", 0.0, "context", "now", "0-based place in the slate"),
        Feature("knn", "ratio", 0.0, "session", "session", "session-kNN score over the best candidate's"),
        Feature(
            "knn_rank", "ratio", 0.0, "session", "session", "1 / sqrt(1 + rank among session neighbours)"
        ),
        Feature("content", "score", 0.0, "profile", "last 50", "cosine of item and recent interactions"),
        Feature("content_last", "score", 0.0, "session", "session", "cosine of item and newest interaction"),
        Feature(
            "trend_fast", "ratio", 0.0, "item", "decayed", "shortest half-life, over the best candidate's"
        ),
        Feature("trend_mid", "ratio", 0.0, "item", "decayed", "middle half-life, over the best candidate's"),
        Feature(
            "trend_slow", "ratio", 0.0, "item", "decayed", "longest half-life, over the best candidate's"
        ),
        Feature("rising", "score", 0.0, "item", "decayed", "log of fast over slow popularity share"),
        Feature(
            "affinity", "ratio", 0.0, "profile", "last 50", "share of recent interactions in its categories"
        ),
        Feature("novelty", "ratio", 0.0, "item", "all time", "1 / (1 + times learnt from)"),
        Feature("item_age", "seconds", 0.0, "item", "since published", "age of the item in days"),
        Feature("repeat", "flag", 0.0, "profile", "last 50", "interacted with before"),
        Feature("session_length", "count", 0.0, "session", "session", "interactions so far"),
        Feature("new_user", "flag", 0.0, "profile", "all time", "no interaction known"),
        Feature("covisit", "ratio", 0.0, "session", "session", "co-visitation over the best candidate's"),
        Feature("covisit_rank", "ratio", 0.0, "session", "session", "1 / sqrt(1 + rank of co-visitation)"),
        Feature("blend", "score", 0.0, "session", "session", "blend of the others, less the best's"),
    ]
    crosses = [
        ("new_user", "trend_fast"),
        ("new_user", "trend_slow"),
        ("session_length", "knn"),
        ("session_length", "content"),
        ("knn", "trend_mid"),
        ("content", "affinity"),
    ]
    return FeatureRegistry(features, crosses)


BLEND_WEIGHTS = {
    "knn": 1.5,
    "knn_rank": 1.0,
    "covisit": 1.0,
    "covisit_rank": 0.5,
    "trend_fast": 0.4,
    "trend_mid": 0.6,
    "content": 0.3,
    "affinity": 0.2,
}
"""What the blend begins with: what goes with the session first, then what is popular now."""

PRIOR_WEIGHTS = {"blend": 1.0, "position": -0.3}
"""What a click model begins with: the order of the blend; learning moves on from here."""

PRIOR_INTERCEPT = -3.5


def prior_blend(registry: FeatureRegistry) -> Blend:
    """Return a blend of a registry's columns that begins with `BLEND_WEIGHTS`.

    Its own column is 0 in what it learns from, and stays without weight.
    """
    return Blend(BlendSettings(prior=10.0), BLEND_WEIGHTS, registry.columns)


def blend_scorer(registry: FeatureRegistry, blend: Blend) -> CompiledScorer:
    """Return the blend as the compiled sum it is."""
    weights, crosses = blend.weights.copy(), registry.cross_places
    width = len(registry)
    return CompiledScorer(weights[:width], weights[width:], crosses, 0.0, registry.fingerprint())


def prior_model(registry: FeatureRegistry, settings: ClickModelSettings | None = None) -> ClickModel:
    """Return a click model that begins with the prior weights and moves on from them as it learns."""
    return ClickModel.begin(registry, settings or ClickModelSettings(), PRIOR_WEIGHTS, PRIOR_INTERCEPT)


def warm_up() -> None:
    """Compile (or load from disk) the loops of the decision path, so that no request waits for them."""
    catalogue, counts, visit = example()
    rows, one = np.zeros(1, np.int64), np.ones(1)
    wanted = Wanted(rows[:0], np.zeros(0, np.uint64), rows[:0], 1)
    gathered = gather(catalogue, empty_marks(1), rows, np.ones(1, np.int64), wanted)
    taste(catalogue.vectors, visit.recent, visit.weights, 1)
    votes = Votes(look_up(rows, one, rows), one)
    inputs = describe(catalogue, counts, visit, gathered.rows, votes, 1)
    registry = ranking_registry()
    blend = prior_blend(registry)
    blend.learn(registry.expand(inputs), 0)
    blend_scorer(registry, blend).logits(inputs)
    HeadModels(prior_model(registry)).ranker({}).logits(inputs)
