"""Exploration settings of a surface as versioned documents: what they say, and which changes are allowed."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from state.decoding import Refusal
from state.events import Name
from state.merchandising import Merchandising, check_rules
from state.model_documents import MODEL_DOCUMENTS, ModelDocument
from state.ranking import Rankings
from state.versioned import Versioned, split_name

Scheme = Literal["greedy", "epsilon", "softmax", "optimistic", "squarecb", "fallback"]
Rate = Annotated[float, Meta(ge=0.0, le=0.5)]
Temperature = Annotated[float, Meta(ge=0.001, le=10.0)]
Optimism = Annotated[float, Meta(ge=0.0, le=5.0)]
Floor = Annotated[float, Meta(ge=0.0, le=0.01)]
Gamma = Annotated[float, Meta(ge=1.0, le=1e9)]
Mode = Literal["every_slot", "single_slot"]
Facet = Annotated[str, Meta(min_length=1, max_length=64)]
Facets = Annotated[dict[Name, Facet], Meta(max_length=8)]

VISITOR = "visitor"
"""The facet every request has: ``new`` or ``returning``. All others are what the request's context says."""
STEP = 2.0
"""How many times as much as before a change may explore."""
EASY_RATE = 0.05
"""A rate that any surface may begin with, however little it explored before."""
DEEPEST = 4
"""Temporary documents on top of each other."""


class Segment(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who is explored otherwise: visitors all of whose named facets have these values.

    Attributes
    ----------
    name
        As decisions log it.
    when
        Facet -> value: ``visitor`` (``new``, ``returning``), and what requests say in their ``context``.
    multiplier
        Of the surface's rate, where the segment has none of its own.
    rate, scheme, temperature, optimism, floor
        Instead of the surface's; None for the same.
    """

    name: Name
    when: Annotated[dict[Name, Facet], Meta(min_length=1, max_length=8)]
    multiplier: Annotated[float, Meta(ge=0.0, le=10.0)] = 1.0
    rate: Rate | None = None
    scheme: Scheme | None = None
    temperature: Temperature | None = None
    optimism: Optimism | None = None
    floor: Floor | None = None


class Quota(Struct, frozen=True, forbid_unknown_fields=True):
    """What exploration owes a new item: so many eligible impressions within so many hours of publication."""

    impressions: Annotated[int, Meta(ge=1, le=10_000)] = 10
    hours: Annotated[float, Meta(ge=0.01, le=720.0)] = 72.0


class Guardrail(Struct, frozen=True, forbid_unknown_fields=True):
    """What ends a version by itself: the version before it comes back.

    Attributes
    ----------
    metric
        ``reward`` a decision, ``explored_reward`` a slot that explored, ``fallback`` share of decisions, or
        ``cost`` of exploration an hour.
    worse_by
        How much worse than the version before, as a share of it, is too much; for ``fallback`` and ``cost``
        the most there may be.
    alpha
        Chance that a version no worse than that is ended, however often it is looked at.
    """

    metric: Literal["reward", "explored_reward", "fallback", "cost"]
    worse_by: Annotated[float, Meta(ge=0.0, le=1e6)]
    alpha: Annotated[float, Meta(ge=1e-6, le=0.2)] = 0.05


class Explorations(Versioned, kw_only=True, forbid_unknown_fields=True):
    """The exploration document of one surface.

    Attributes
    ----------
    scheme
        How probability is spread over scores; ``greedy`` does not explore, ``fallback`` serves the trend.
    rate
        Share of slots drawn from the exploring distribution, 0 to 0.5.
    temperature
        Of the softmax over scores, at least 0.001.
    optimism
        Standard deviations added to a score before the softmax.
    floor
        Least propensity of any eligible candidate.
    gamma
        Of "squarecb".
    mode
        ``every_slot`` has a coin of its own, or at most a ``single_slot`` of a slate explores, whose share of
        slates the rate then is: weights stay bounded, and previews exact.
    rate_cap
        No segment explores more than this.
    segments
        The first that fits a visitor says how it is explored.
    quota
        What new items are owed; None for nothing: exploration is then uniform.
    cost_per_hour
        Rewards an hour exploration may cost on this surface; None for no bound.
    guardrails
        What brings the version before back.
    ttl_s
        Seconds of event time after which the version before is in force again; None for a lasting change.
    until, before
        When that is, ms (0 for never), and the document that comes back; the engine adds them.
    """

    scheme: Scheme = "epsilon"
    rate: Rate = 0.05
    temperature: Temperature = 0.05
    optimism: Optimism = 0.3
    floor: Floor = 0.0
    gamma: Gamma = 1000.0
    mode: Mode = "every_slot"
    rate_cap: Rate = 0.5
    segments: Annotated[list[Segment], Meta(max_length=32)] = field(default_factory=list)
    quota: Quota | None = Quota()
    cost_per_hour: Annotated[float, Meta(ge=0.0, le=1e9)] | None = None
    guardrails: Annotated[list[Guardrail], Meta(max_length=8)] = field(default_factory=list)
    ttl_s: Annotated[float, Meta(ge=1.0, le=2_592_000.0)] | None = None
    until: int = 0
    before: "Explorations | None" = None


class Budgets(Versioned, kw_only=True, forbid_unknown_fields=True):
    """The document ``budget/all``: rewards an hour that exploration may cost on all surfaces together."""

    cost_per_hour: Annotated[float, Meta(ge=0.0, le=1e9)] | None = None


class Shadow(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A policy that only watches.

    Attributes
    ----------
    scheme, rate, temperature, optimism, floor, gamma, mode
        As of an exploration in force.
    ranks_by
        Whose scores it draws by: the ``policy``'s own, the ``click`` model's alone or the ``trend``'s.
    """

    scheme: Literal["greedy", "epsilon", "softmax", "optimistic", "squarecb"] = "epsilon"
    rate: Rate = 0.05
    temperature: Temperature = 0.05
    optimism: Optimism = 0.3
    floor: Floor = 0.0
    gamma: Gamma = 1000.0
    mode: Mode = "every_slot"
    ranks_by: Literal["policy", "click", "trend"] = "policy"

    def settings(self) -> dict[str, Any]:
        """Return the exploration settings that would put it in force."""
        names = ("scheme", "rate", "temperature", "optimism", "floor", "gamma", "mode")
        return {name: getattr(self, name) for name in names}


class Shadows(Versioned, kw_only=True, forbid_unknown_fields=True):
    """The document ``shadows/SURFACE``: its shadow policies by name; a change begins the sums of all anew."""

    policies: Annotated[dict[Name, Shadow], Meta(max_length=8)] = msgspec.field(default_factory=dict)


Document = Explorations | Budgets | Rankings | Merchandising | Shadows | ModelDocument
DOCUMENT_TYPES: Mapping[str, type[Document]] = {
    "exploration": Explorations,
    "budget": Budgets,
    "ranking": Rankings,
    "rules": Merchandising,
    "shadows": Shadows,
    **MODEL_DOCUMENTS,
}
ENGINE_FIELDS = (*Versioned.__struct_fields__, "until", "before")
_decoders = {kind: msgspec.json.Decoder(type_) for kind, type_ in DOCUMENT_TYPES.items()}


def settings_of(document: Document) -> dict[str, Any]:
    """Return what a document says, without what the engine added."""
    plain: dict[str, Any] = msgspec.to_builtins(document)
    return {name: value for name, value in plain.items() if name not in ENGINE_FIELDS}


def is_known_kind(name: str) -> bool:
    """Return whether this release knows the kind of a document."""
    return split_name(name)[0] in DOCUMENT_TYPES


def kind_of(name: str) -> type[Document]:
    """Return the type of a document of a known kind."""
    return DOCUMENT_TYPES[split_name(name)[0]]


def decode_document(name: str, raw: bytes) -> Document:
    """Return a stored document; of one that a later release wrote, what this one understands."""
    try:
        return _decoders[split_name(name)[0]].decode(raw)
    except msgspec.ValidationError:
        return msgspec.convert(_understood(msgspec.json.decode(raw), kind_of(name)), kind_of(name))


def _understood(said: Mapping[str, Any], kind: type[Document]) -> dict[str, Any]:
    """Return the fields of a document that a kind has, with values it allows; others have their defaults."""
    kept: dict[str, Any] = {}
    for name, value in said.items():
        known = _understood(value, kind) if name == "before" and isinstance(value, dict) else value
        try:
            msgspec.convert({name: known}, kind)
        except msgspec.ValidationError:
            continue
        kept[name] = known
    return kept


def read_document(name: str, said: Mapping[str, Any]) -> Document:
    """Return the document that settings make.

    Raises
    ------
    Refusal
        If the kind is unknown, a setting is unknown or out of bounds, or two segments share a name.
    """
    kind, known = DOCUMENT_TYPES.get(split_name(name)[0]), ", ".join(DOCUMENT_TYPES)
    if kind is None:
        raise Refusal("unknown_control", "name", name, f"one of {known}, then / and a name")
    given = [one for one in ENGINE_FIELDS if one in said]
    if given:
        raise Refusal("bad_document", given[0], said[given[0]], "nothing: the engine fills it in")
    try:
        document = msgspec.convert(dict(said), kind)
    except msgspec.ValidationError as error:
        raise Refusal("bad_document", "document", said, str(error)) from None
    if isinstance(document, Explorations):
        _check_segments(document)
    if isinstance(document, Merchandising):
        check_rules(document.rules)
    return document


def _check_segments(document: Explorations) -> None:
    names = [one.name for one in document.segments]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Refusal("bad_document", "segments", twice, "segments with names of their own")
    for one in document.segments:
        visitor = one.when.get(VISITOR, "new")
        if visitor not in ("new", "returning"):
            raise Refusal("bad_document", f"segments.{one.name}.when.{VISITOR}", visitor, "new or returning")


def in_force(document: Explorations, at_ms: int) -> Explorations:
    """Return what is in force at a time: the document, or where its time is up, what was before it."""
    while document.until and at_ms >= document.until and document.before is not None:
        document = document.before
    return document


def segment_rate(document: Explorations, segment: Segment) -> float:
    """Return the rate of one segment."""
    rate = document.rate * segment.multiplier if segment.rate is None else segment.rate
    return min(rate, document.rate_cap)


def most_explored(document: Explorations) -> float:
    """Return the largest rate of any visitor; 0 where nothing is explored."""
    schemes = [(document.scheme, min(document.rate, document.rate_cap))]
    schemes += [(one.scheme or document.scheme, segment_rate(document, one)) for one in document.segments]
    return max(rate if scheme not in ("greedy", "fallback") else 0.0 for scheme, rate in schemes)


def check_depth(wished: Explorations, now: Explorations) -> None:
    """Refuse one temporary change more than may lie on top of each other.

    Raises
    ------
    Refusal
        Saying how many may.
    """
    if wished.ttl_s is not None and _depth(now) >= DEEPEST:
        raise Refusal("too_deep", "ttl_s", wished.ttl_s, f"at most {DEEPEST} temporary changes at a time")


def _depth(document: Explorations) -> int:
    return 0 if document.before is None else 1 + _depth(document.before)


def check_step(now: Explorations, wished: Explorations, at_ms: int, dwell_ms: int) -> None:
    """Refuse a change that explores much more at once, or comes too soon after the one before.

    Raises
    ------
    Refusal
        Saying the largest rate, or how long to wait.
    """
    rate, most = most_explored(wished), max(STEP * most_explored(now), EASY_RATE)
    if rate > most:
        raise Refusal("step_too_large", "rate", rate, f"at most {most:g} now, or a forced change with a why")
    waits = now.at + dwell_ms - at_ms
    if now.version and waits > 0 and rate > 0:
        raise Refusal(
            "too_soon", "at", at_ms, f"a change {waits / 1000:.0f} s later, or a forced one with a why"
        )
