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

Count = Annotated[int, Meta(ge=1, le=50)]
Ids = Annotated[list[Id], Meta(max_length=500)]
After = Annotated[str, Meta(min_length=1, max_length=512, description="A freshness token.")]


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


class Stop(Reasons, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A kill switch: ``greedy`` serves the best-scored slate, ``fallback`` the trend."""

    scheme: Literal["greedy", "fallback"] = "greedy"


class Rollback(Reasons, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The version whose settings shall come back; 0 for the defaults."""

    version: Annotated[int, Meta(ge=0)]


class BudgetChange(Reasons, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Rewards an hour that exploration may cost on all surfaces together; None for no bound."""

    cost_per_hour: Annotated[float, Meta(ge=0.0, le=1e9)] | None
