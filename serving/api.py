"""HTTP routes; handlers hand over to services and do nothing else."""

import time
from typing import Any

from litestar import MediaType, Request, Response, Router, get, post
from litestar.datastructures import State
from litestar.status_codes import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE
from prometheus_client import generate_latest

from serving.audit_routes import get_audit
from serving.callers import caller_of
from serving.dashboard import dashboard_page
from serving.decision_routes import DECISION_ROUTES
from serving.ledger import exploration_cost
from serving.models import MODEL_ROUTES
from serving.preview_routes import PREVIEW_ROUTES
from serving.privacy import delete_user, get_receipt, get_user
from serving.producers import ProducersAnswer
from serving.queries import Pairs, Wished, Words, pairs_of, request_of, words_of
from serving.requests import (
    EventBatch,
    EventVerdicts,
    RecommendationAnswer,
    RecommendationRequest,
)
from serving.rules_routes import RULES_ROUTES
from serving.similar import get_similar
from serving.stats import Stats
from serving.store import from_store
from serving.tuning_routes import TUNING_ROUTES
from state.attributed import AttributionCounts

EVENTS_A_TOKEN = 10
"""Events of a batch that cost as much as one request more."""


@get("/v1/recommendations", summary="A slate for a visitor, by query")
async def get_recommendations(
    request: Request[Any, Any, State],
    session_id: str,
    user_id: str | None = None,
    surface: str = "home",
    k: int = 10,
    exclude: Words = "",
    recent_items: Words = "",
    categories: Words = "",
    context: Pairs = "",
    filter: Wished = None,  # noqa: A002 - the name of the parameter
    seed_items: Words = "",
    page: str | None = None,
    after: str | None = None,
    wait_ms: int = 50,
) -> RecommendationAnswer:
    """Return session-adaptive recommendations."""
    given: dict[str, Any] = {
        "session_id": session_id,
        "user_id": user_id,
        "surface": surface,
        "k": k,
        "exclude": words_of(exclude),
        "recent_items": words_of(recent_items),
        "categories": words_of(categories),
        "context": pairs_of(context),
        "filter": filter,
        "seed_items": words_of(seed_items),
        "page": page,
        "after": after,
        "wait_ms": wait_ms,
    }
    answer: RecommendationAnswer = await request.app.state.recommender.recommend(request_of(given))
    return answer


@post("/v1/recommendations", status_code=HTTP_200_OK, summary="A slate for a visitor")
async def post_recommendations(
    data: RecommendationRequest, request: Request[Any, Any, State]
) -> RecommendationAnswer:
    """Return session-adaptive recommendations."""
    answer: RecommendationAnswer = await request.app.state.recommender.recommend(data)
    return answer


@post("/v1/events", status_code=HTTP_200_OK, summary="Publish events without Kafka")
async def post_events(data: EventBatch, request: Request[Any, Any, State]) -> EventVerdicts:
    """Validate and publish events; the answer has one verdict for each, in order."""
    caller = caller_of(request)
    caller.charge(len(data.events) / EVENTS_A_TOKEN)
    return EventVerdicts(await request.app.state.gateway.publish(data.events, caller))


@get("/v1/attribution", summary="What became of decisions and their events")
async def get_attribution(request: Request[Any, Any, State]) -> AttributionCounts:
    """Return attribution counts by surface, over all shards."""
    counts: AttributionCounts = await request.app.state.attribution.read()
    return counts


@get("/v1/producers", summary="Whether each producer's events are understood")
async def get_producers(request: Request[Any, Any, State]) -> ProducersAnswer:
    """Return the health of every producer, with a verdict in words."""
    answer: ProducersAnswer = await from_store(request.app.state.producers.read())
    return answer


@get("/v1/stats", summary="Live figures of this server")
async def get_stats(request: Request[Any, Any, State]) -> Stats:
    """Return what the dashboard shows."""
    stats: Stats = await request.app.state.stats.read()
    return stats


@get("/healthz", summary="Whether the process runs")
async def healthz() -> dict[str, str]:
    """Return that the process answers."""
    return {"status": "ok"}


@get("/readyz", summary="Whether this server should get requests")
async def readyz(request: Request[Any, Any, State]) -> Response[dict[str, Any]]:
    """Return whether the live state was loaded and the server goes on, and how old the state is."""
    sync = request.app.state.sync
    ready = sync.ready.is_set() and not request.app.state.guard.is_draining
    body = {"ready": ready, "staleness_ms": sync.staleness_ms(), "items": len(sync.live.items)}
    return Response(body, status_code=HTTP_200_OK if ready else HTTP_503_SERVICE_UNAVAILABLE)


@get("/metrics", media_type=MediaType.TEXT, summary="Prometheus metrics")
async def metrics(request: Request[Any, Any, State]) -> bytes:
    """Return the metrics of this process."""
    held = request.app.state.metrics
    held.staleness.set(request.app.state.sync.staleness_ms() / 1000)
    live, now_ms = request.app.state.sync.live, time.time_ns() // 1_000_000
    for surface, states in request.app.state.new_items.states.items():
        held.note_exploration(surface, states, exploration_cost(live, surface, now_ms))
    return generate_latest(held.registry)


@get("/openapi.json", include_in_schema=False)
async def openapi(request: Request[Any, Any, State]) -> dict[str, Any]:
    """Return the OpenAPI document, generated from these routes."""
    return request.app.openapi_schema.to_schema()


@get("/", media_type=MediaType.HTML, include_in_schema=False)
async def dashboard() -> str:
    """Return the dashboard page."""
    return dashboard_page()


def routes() -> Router:
    """Return every route of the server."""
    handlers: list[Any] = [
        get_recommendations, post_recommendations, post_events, *DECISION_ROUTES, *TUNING_ROUTES,
        *RULES_ROUTES, get_similar, *PREVIEW_ROUTES, *MODEL_ROUTES, get_user, delete_user, get_receipt,
        get_audit, get_attribution, get_producers, get_stats, healthz, readyz, metrics, openapi, dashboard,
    ]  # fmt: skip
    return Router(path="/", route_handlers=handlers)
