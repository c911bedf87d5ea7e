"""What a lane does when it is told to: shadows begin and end, champions change, versions are named."""

from collections.abc import Callable, Mapping

import msgspec

from online_models.click import ClickModel, ClickModelSettings
from online_models.evidence import Interval
from online_models.features import FeatureRegistry
from online_models.heads import HeadModels
from online_models.ranking import prior_model
from state.events import Directive
from state.model_documents import MODEL_DOCUMENTS, Comeback, ModelPolicy, Naming, Promotion, Shadowing
from state.models import Shadow, Step, Version
from state.retention import MOST_SHADOWS
from state.versioned import split_name
from stream.surface_models import Challenger, SurfaceModels

DECLARED, NONE = "declared", "none"
Said = tuple[str, bool, str]
"""What was asked for, whether it was done, and in words."""


class RefusedError(ValueError):
    """A directive that is not followed; the message says why."""


def follow(models: SurfaceModels, directive: Directive, registry: FeatureRegistry) -> bool:
    """Do what a directive says and note it; returns whether it was done."""
    kind, _ = split_name(directive.name)
    act = _ACTS[kind]
    try:
        document = msgspec.convert(directive.document, MODEL_DOCUMENTS[kind])
        detail, done = act(models, document, directive, registry), True
    except (ValueError, msgspec.ValidationError) as error:
        detail, done = str(error), False
    models.note(
        Step(
            directive.occurred_at, kind, done, detail, directive.changed_by, directive.why, directive.event_id
        )
    )
    return done


def _policy(models: SurfaceModels, document: ModelPolicy, *_: object) -> str:
    models.lifecycle.promotes = document.promote
    return f"shadows are promoted by {document.promote} decision"


def _name(models: SurfaceModels, document: Naming, directive: Directive, _: object) -> str:
    if not document.label:
        raise RefusedError("the version has no name; wished: one")
    version = models.keep(directive.occurred_at, directive.why or "named", document.label)
    return f"version {version.number} is named {version.label}"


def _shadow(
    models: SurfaceModels, document: Shadowing, directive: Directive, registry: FeatureRegistry
) -> str:
    name = document.shadow
    if not name:
        raise RefusedError("the shadow has no name; wished: one")
    if document.stop:
        if name not in models.shadows:
            raise RefusedError(f"no shadow {name} runs; wished: one of {sorted(models.shadows)}")
        models.stop(name)
        return f"shadow {name} ended"
    if name not in models.shadows and len(models.shadows) >= MOST_SHADOWS:
        raise RefusedError(
            f"{len(models.shadows)} shadows run; wished: fewer than {MOST_SHADOWS}, end one first"
        )
    heads = HeadModels(shadow_model(models.heads.click, document, registry))
    about = Shadow(directive.document, directive.occurred_at, directive.changed_by, directive.why)
    models.start(name, Challenger(heads), about)
    return f"shadow {name} began"


def shadow_model(champion: ClickModel, document: Shadowing, registry: FeatureRegistry) -> ClickModel:
    """Return the click model a shadow begins with.

    Raises
    ------
    ValueError
        If it names a feature that does not exist, or one that cannot be crossed so.
    """
    crosses = None if document.crosses == DECLARED else _pairs(document.crosses)
    hashed = None if document.hashed == DECLARED else _parts(document.hashed)
    own = registry.variant(crosses, hashed)
    settings = ClickModelSettings(
        learning_rate=document.learning_rate,
        l2=document.l2,
        memory_rows=document.memory_rows,
        kind=document.kind,
        factors=document.factors,
        latent_rate=document.latent_rate,
    )
    if document.begin == "prior":
        return prior_model(own, settings)
    return ClickModel.warm(own, settings, *champion.snapshot())


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs = [tuple(parts) for parts in _parts(text)]
    odd = ["*".join(pair) for pair in pairs if len(pair) != 2]
    if odd:
        raise RefusedError(f"crosses are {odd}; wished: two features each, such as knn*trend_mid")
    return [(pair[0], pair[1]) for pair in pairs]


def _parts(text: str) -> list[list[str]]:
    return [] if text == NONE else [one.strip().split("*") for one in text.split(",")]


def _promotion(models: SurfaceModels, document: Promotion, directive: Directive, _: object) -> str:
    name = document.shadow
    if name not in models.shadows:
        raise RefusedError(f"no shadow {name} runs; wished: one of {sorted(models.shadows)}")
    found = models.shadows[name].comparison.interval()
    said = in_words(found)
    is_shown = found.high < 0 or (document.pooled_high is not None and document.pooled_high < 0)
    if not is_shown and not directive.forced:
        raise RefusedError(f"{name} is not shown to be better: {said}; wished: an interval below 0, or force")
    return promoted(models, name, directive.occurred_at, said)


def in_words(found: Interval) -> str:
    """Return how a shadow compares with the champion."""
    ends = f"[{found.low:+.5f}, {found.high:+.5f}]"
    return f"{found.mean:+.5f} nats a slot {ends} over {found.outcomes} outcomes"


def promoted(models: SurfaceModels, name: str, at_ms: int, said: str) -> str:
    """Promote a shadow; returns it in words."""
    before = models.keep(at_ms, f"before {name} was promoted")
    version = models.promote(name, at_ms)
    return f"{name} is champion as version {version.number}, in place of {before.number}: {said}"


def promote_shown(models: SurfaceModels, at_ms: int) -> None:
    """Promote the best of the shadows that are shown to be better, where the surface says so."""
    if models.lifecycle.promotes != "automatic":
        return
    found = {name: shadow.comparison.interval() for name, shadow in models.shadows.items()}
    best = min(found, key=lambda name: found[name].high, default=None)
    if best is not None and found[best].high < 0:
        detail = promoted(models, best, at_ms, in_words(found[best]))
        models.note(Step(at_ms, "promotion", done=True, detail=detail, by="automatic"))


def _rollback(
    models: SurfaceModels, document: Comeback, directive: Directive, registry: FeatureRegistry
) -> str:
    version = _found(models, document.to)
    raw = models.versions[version.number]
    models.keep(directive.occurred_at, f"before rollback to {document.to}")  # this may make room of the other
    models.put_back(version, raw, registry)
    return f"version {version.number} is champion again"


def _found(models: SurfaceModels, to: str) -> Version:
    versions = models.lifecycle.versions
    for version in reversed(versions):
        if to == version.label or to == str(version.number):
            return version
    known = ", ".join([f"{one.number} {one.label}".strip() for one in versions])
    raise RefusedError(f"no version {to} is kept; wished: one of {known}")


Act = Callable[..., str]
_ACTS: Mapping[str, Act] = {
    "models": _policy,
    "version": _name,
    "challenger": _shadow,
    "promotion": _promotion,
    "rollback": _rollback,
}
