"""What clients send and get: the HTTP bodies of the recommendation, event and exploration routes."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from state.events import Id, Name
from state.exploration import (
    Facets,
    Floor,
    Gamma,
    Guardrail,
    Mode,
    Optimism,
    Quota,
    Rate,
    Scheme,
    Segment,
    Temperature,
)
from state.merchandising import MOST_PINS, Expression, Place, Rule

Count = Annotated[int, Meta(ge=1, le=50)]
Ids = Annotated[list[Id], Meta(max_length=500)]
_PLACE = r"[^\s/,]+/[0-9]{1,9}/[0-9]{1,19}"
After = Annotated[
    str,
    Meta(
        pattern=rf"^([\s\S]{{1,128}}|{_PLACE}(,{_PLACE}){{0,7}})$",
        max_length=512,
        description="A freshness token.",
    ),
]


class Boost(Struct, frozen=True, forbid_unknown_fields=True):
    """A request's own boost: the odds of items an expression holds for, times ``factor``; below 1 buries."""

    where: Expression
    factor: Annotated[float, Meta(ge=0.01, le=100.0)]


class Pin(Struct, frozen=True, forbid_unknown_fields=True):
    """A request's own pin: an item at a position, from 0."""

    item_id: Id
    position: Place


class RecommendationRequest(Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A request for a slate.

    Attributes
    ----------
    session_id
        The visitor's session.
    user_id
        Where the visitor is known.
    surface
        Where the slate will be shown.
    k
        Slots wanted.
    exclude
        Items that must not appear.
    recent_items
        Items touched in this session, oldest first; used where the engine does not know better.
    categories
        Categories to stay within.
    context
        What else is known of the visit, such as device or country: values that segments of exploration name.
    filter
        What every item has to fulfil, an expression over its attributes.
    boost, pin
        Boosts and pins of this request, beside those of the surface's rules.
    seed_items
        Items to start from, such as the one on the page: they count as the session's newest, and do not
        appear themselves.
    page
        ``first`` for a slate that goes on, then ``next_page`` of the answer before: it goes on where that one
        ended, and repeats nothing.
    after, wait_ms
        A freshness token of the gateway, an event id, or ``TOPIC/PARTITION/OFFSET`` of an event published to
        Kafka (several with commas): the answer waits up to ``wait_ms`` for the engine to have folded it, and
        says ``stale`` where it has not.
    """

    session_id: Id
    user_id: Id | None = None
    surface: Name = "home"
    k: Count = 10
    exclude: Ids = []
    recent_items: Annotated[list[Id], Meta(max_length=50)] = []
    categories: Annotated[list[Id], Meta(max_length=20)] = []
    context: Facets = {}
    filter: Expression | None = None
    boost: Annotated[list[Boost], Meta(max_length=10)] = []
    pin: Annotated[list[Pin], Meta(max_length=MOST_PINS)] = []
    seed_items: Annotated[list[Id], Meta(max_length=20)] = []
    page: Annotated[str, Meta(max_length=12_000)] | None = None
    after: After | None = None
    wait_ms: Annotated[int, Meta(ge=0, le=1000)] = 50


class RecommendedItem(Struct):
    """One slot of an answer."""

    item_id: str
    position: int
    title: str
    reason: str
    propensity: float
    explored: bool = False


class RecommendationAnswer(Struct):
    """A slate, never empty while the catalogue is not.

    ``rung`` names the step of the ladder it came from; ``decision`` goes back with impressions and clicks.
    ``knows_visitor`` is false where the store did not answer in time: what the visitor has hidden and seen is
    then only left out as far as this server read it in the last ten minutes. ``next_page`` is there where the
    request has a ``page`` and more may follow.
    """

    decision_id: str
    decision: str
    surface: str
    rung: str
    items: list[RecommendedItem]
    exploration_version: int
    model_version: int
    state_as_of: int
    staleness_ms: int
    holdout: bool = False
    stale: bool = False
    waited_ms: float = 0.0
    next_page: str | None = None
    knows_visitor: bool = True


class EventEnvelope(Struct, forbid_unknown_fields=True):
    """One event for the gateway: its topic kind and its body."""

    kind: Literal["impressions", "clicks", "feedback", "items", "users"]
    event: dict[str, Any]


class EventBatch(Struct, forbid_unknown_fields=True):
    """Events for the gateway, at most 500."""

    events: Annotated[list[EventEnvelope], Meta(min_length=1, max_length=500)]


class Verdict(Struct, omit_defaults=True):
    """What became of one event: accepted and where it stands, or why it was refused.

    ``token`` is what to ask ``after`` for answers that contain the event's effect.
    """

    accepted: bool
    event_id: str = ""
    token: str = ""
    reason: str = ""
    field: str = ""
    detail: str = ""


class EventVerdicts(Struct):
    """One verdict an event, in order."""

    verdicts: list[Verdict]


class Reasons(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who changes something, and why."""

    changed_by: Annotated[str, Meta(max_length=128)] = ""
    why: Annotated[str, Meta(max_length=512)] = ""


class ExplorationChange(Reasons, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A wished exploration setting; what is left out stays as it is, but ``ttl_s``: it is of one change.

    ``forced`` sets the bounds of steps aside, and needs a ``why``.
    """

    rate: Rate | UnsetType = UNSET
    scheme: Scheme | UnsetType = UNSET
    temperature: Temperature | UnsetType = UNSET
    optimism: Optimism | UnsetType = UNSET
    floor: Floor | UnsetType = UNSET
    gamma: Gamma | UnsetType = UNSET
    mode: Mode | UnsetType = UNSET
    rate_cap: Rate | UnsetType = UNSET
    segments: list[Segment] | UnsetType = UNSET
    quota: Quota | UnsetType | None = UNSET
    cost_per_hour: float | UnsetType | None = UNSET
    guardrails: list[Guardrail] | UnsetType = UNSET
    ttl_s: float | UnsetType | None = UNSET
    forced: bool = False


class RankingChange(Reasons, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A wished setting of how slates are put together; what is left out stays as it is."""

    category_cap: Annotated[int, Meta(ge=0, le=50)] | UnsetType = UNSET
    diversity: Annotated[float, Meta(ge=0.0, le=20.0)] | UnsetType = UNSET
    freshness: Annotated[float, Meta(ge=0.0, le=10.0)] | UnsetType = UNSET
    freshness_half_life_s: Annotated[float, Meta(ge=60.0, le=31_536_000.0)] | UnsetType = UNSET
    no_repeat_s: Annotated[float, Meta(ge=0.0)] | UnsetType = UNSET


class RuleChange(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A wished rule, and who wishes it and why."""

    changed_by: Annotated[str, Meta(max_length=128)] = ""
    why: Annotated[str, Meta(max_length=512)] = ""

    def rule(self) -> Rule:
        """Return the rule alone."""
        return Rule(**{name: getattr(self, name) for name in Rule.__struct_fields__})


class Stop(Reasons, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A kill switch: ``greedy`` serves the best-scored slate, ``fallback`` the trend."""

    scheme: Literal["greedy", "fallback"] = "greedy"


class Rollback(Reasons, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The version whose settings shall come back; 0 for the defaults."""

    version: Annotated[int, Meta(ge=0)]


class BudgetChange(Reasons, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Rewards an hour that exploration may cost on all surfaces together; None for no bound."""

    cost_per_hour: Annotated[float, Meta(ge=0.0, le=1e9)] | None
