"""The features a served slate is ranked by, and the weights a model begins with before it has learnt."""

from dataclasses import replace

import numpy as np

from online_models._ranking_loops import PROFILE, Visit, click_inputs, describe, example, taste
from online_models.arrays import FloatArray, IntArray
from online_models.click import ClickModel, ClickModelSettings
from online_models.features import Feature, FeatureRegistry
from online_models.heads import HeadModels

__all__ = [
    "PRIOR_INTERCEPT", "PRIOR_WEIGHTS", "PROFILE", "PROFILE_WEIGHTS", "ClickInputs", "Visit", "describe",
    "prior_model", "ranking_registry", "taste", "warm_up",
]  # fmt: skip


def ranking_registry() -> FeatureRegistry:
    """Return the features of the decision path, in the order they are logged and learnt in."""
    features = [
        Feature("position", "count", 0.0, "context", "now", "0-based place in the slate"),
        Feature("knn", "ratio", 0.0, "session", "session", "session-kNN score over the best new candidate's"),
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
        Feature("covisit", "ratio", 0.0, "session", "session", "co-visitation over the best new candidate's"),
        Feature("covisit_rank", "ratio", 0.0, "session", "session", "1 / sqrt(1 + rank of co-visitation)"),
        Feature(
            "blend_share",
            "offset",
            0.0,
            "session",
            "session",
            "log of the blend's share of all candidates",
        ),
        Feature("embedding", "score", 0.0, "session", "session", "log odds of the session embedding / 10"),
        Feature("embedding_rank", "ratio", 0.0, "session", "session", "1 / sqrt(1 + rank of the embedding)"),
        Feature("content_rank", "ratio", 0.0, "session", "session", "1 / sqrt(1 + rank of similar content)"),
        Feature("category", "code", 0.0, "item", "now", "first category of the item"),
    ]
    crosses = [
        ("new_user", "trend_fast"),
        ("new_user", "trend_slow"),
        ("session_length", "content"),
        ("content", "affinity"),
    ]
    sourced = [replace(one, source=_SOURCES[one.name]) for one in features]
    return FeatureRegistry(sourced, crosses)


_SOURCES = dict.fromkeys(("knn", "knn_rank"), "session index")
_SOURCES |= dict.fromkeys(("content", "content_last", "content_rank"), "catalogue and recent interactions")
_SOURCES |= dict.fromkeys(("trend_fast", "trend_mid", "trend_slow", "rising", "novelty"), "trends")
_SOURCES |= dict.fromkeys(("affinity", "repeat", "session_length", "new_user"), "subject record")
_SOURCES |= dict.fromkeys(("covisit", "covisit_rank"), "co-visitation")
_SOURCES |= dict.fromkeys(("embedding", "embedding_rank"), "session embedding")
_SOURCES |= {"position": "slate", "item_age": "catalogue", "category": "catalogue", "blend_share": "blend"}


PROFILE_WEIGHTS = {
    "content": 0.3, "trend_fast": 0.4, "trend_mid": 0.2, "affinity": 0.2,
    "surface_trend": 0.2, "segment_trend": 0.2, "segment_trend_rank": 2.0,
}  # fmt: skip
"""What the blend begins with beside the session's own sources: what is popular, or like what was liked."""

_FROM_BLEND = {
    "knn": "knn_share",
    "covisit": "covisit_share",
    "rising": "trend_rising",
}
"""Features whose column has another name in the blend; the others are called the same there."""

_OWN = ("position", "session_length", "new_user", "blend_share", "category")


class ClickInputs:
    """The click model's inputs out of what the blend was made of: the same numbers, so that nothing skews.

    Parameters
    ----------
    registry
        Of the click model.
    names
        Inputs of the blend, F of them, in order.

    Raises
    ------
    ValueError
        If a feature is in neither.
    """

    def __init__(self, registry: FeatureRegistry, names: tuple[str, ...]) -> None:
        wished = [_FROM_BLEND.get(name, name) for name in registry.names]
        missing = [name for name in wished if name not in names and name not in _OWN]
        if missing:
            msg = f"the blend has no inputs {missing}, wanted one for each feature but {_OWN}"
            raise ValueError(msg)
        self._columns: IntArray = np.array([names.index(n) if n in names else -1 for n in wished])
        self._places: IntArray = np.array([registry.place(name) for name in _OWN])

    def of(
        self, inputs: FloatArray, scores: FloatArray, session_length: float, *, is_new: bool
    ) -> FloatArray:
        """Return the inputs (k, f) of candidates at position 0.

        Parameters
        ----------
        inputs, scores
            Of the blend, shapes (k, F) and (k,).
        session_length
            Interactions of the session so far.
        is_new
            Whether nothing is known of the visitor.
        """
        return click_inputs(
            inputs, scores, self._columns, self._places, np.array([np.log1p(session_length), float(is_new)])
        )


PRIOR_WEIGHTS = {"position": -0.3}
"""What a click model begins with beside its offset: what the blend says, and learning moves on from here."""

PRIOR_INTERCEPT = 0.0
"""Of a catalogue whose visitors always take one of the candidates, wherever it is shown."""

PRIOR_SETTINGS = ClickModelSettings(first_squares=5.0)
"""Of models that begin with the blend, which has learnt more than their first steps' noise may undo."""


def prior_model(registry: FeatureRegistry, settings: ClickModelSettings | None = None) -> ClickModel:
    """Return a click model that begins with the order of the blend and moves on from it as it learns."""
    return ClickModel.begin(registry, settings or PRIOR_SETTINGS, PRIOR_WEIGHTS, PRIOR_INTERCEPT)


def warm_up() -> None:
    """Compile (or load from disk) the loops of the decision path, so that no request waits for them."""
    catalogue, counts, visit = example()
    rows = np.zeros(1, np.int64)
    taste(catalogue.vectors, visit.recent, visit.weights, 1)
    described = describe(catalogue, counts, visit, rows, 1)
    registry = ranking_registry()
    names = tuple(name for name in registry.names if name not in (*_OWN, *_FROM_BLEND))
    inputs = ClickInputs(registry, (*names, *_FROM_BLEND.values()))
    wide = np.zeros((1, len(registry)))
    wide[:, : described.shape[1]] = described
    rows_of = inputs.of(wide, np.ones(1), 1.0, is_new=False)
    HeadModels(prior_model(registry)).ranker({}).logits(rows_of)
