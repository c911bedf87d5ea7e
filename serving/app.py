"""Builds the server from settings: clients, live state, services and routes."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from litestar import Litestar
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.config import OpenAPIConfig

from bandits.ranking import Lives, ranking_policy
from online_models.covisit import CoVisitSettings
from online_models.retrieval import RecommenderSettings
from online_models.session_knn import SessionKnnSettings
from online_models.warming import warm_up
from serving.admission import Lateness
from serving.api import routes
from serving.attributed import AttributionReader
from serving.audit_routes import AuditReader
from serving.decisions import DecisionReader
from serving.gateway import Gateway
from serving.guard import Guard, guarded, is_loopback, refuse_open
from serving.hotpath import with_hot_path
from serving.idempotency import Idempotency
from serving.ledger import LedgerCounts
from serving.listening import listen
from serving.live import LiveState, served_retrieval
from serving.logbook import BATCH_BYTES, Logbook
from serving.methods import answer_options
from serving.metrics import ServerMetrics
from serving.models import ModelsReader
from serving.observed import DoorMetrics
from serving.openapi import complete_document
from serving.preview import PreviewReader
from serving.privacy import Privacy
from serving.problems import (
    MAX_BODY,
    on_crash,
    on_deep_nesting,
    on_http_error,
    on_refusal,
    on_validation_error,
)
from serving.producers import ProducersReader
from serving.reader import SubjectReader
from serving.scoreboard import ScoreboardReader
from serving.scoreboard_gauges import export_scores
from serving.service import Recommender
from serving.similar import SimilarItems
from serving.stats import StatsReader
from serving.sync import Sync
from serving.tuning import NotInForceError, Tuning, on_not_in_force
from state.clients import kafka_security, redis_client
from state.decoding import Refusal
from state.pseudonyms import Pseudonyms
from state.settings import Settings, SettingsError
from state.topics import topic_name
from state.tracing import start_tracing

log = structlog.get_logger(__name__)
_DRAIN_S = 5.0
_LOAD_S = 60.0
_CANCEL_AGAIN_S = 0.1
_YOUNG_OBJECTS = 10_000
"""New objects after which the garbage collector looks at them: a millisecond's work at most."""
T = TypeVar("T", SessionKnnSettings, CoVisitSettings)


def build_app(settings: Settings) -> Litestar:
    """Return the ASGI application of one server process."""
    live, guard = make_live(settings), Guard(settings)
    handlers: dict[Any, Any] = {
        ValidationException: on_validation_error,
        HTTPException: on_http_error,
        Refusal: on_refusal,
        NotInForceError: on_not_in_force,
        RecursionError: on_deep_nesting,
        Exception: on_crash,
    }
    app = Litestar(
        route_handlers=[routes()],
        lifespan=[lambda app: _lifespan(app, settings, live)],
        exception_handlers=handlers,
        middleware=[Idempotency],
        openapi_config=OpenAPIConfig(title="Headwater", version="1", path="/docs"),
        request_max_body_size=MAX_BODY,
        before_request=answer_options,
    )
    app.state.guard = guard
    complete_document(app)
    return app


def make_live(settings: Settings) -> LiveState:
    """Return an empty live state as the settings want it.

    Raises
    ------
    SettingsError
        If a setting of one of its sources is unknown or out of bounds.
    """
    sizes = {"max_sessions": settings.max_sessions}
    knn = _source_settings(SessionKnnSettings, "KNN", {**sizes, **settings.knn})
    covisits = _source_settings(CoVisitSettings, "COVISITS", settings.covisits)
    half_lives_s = tuple(settings.trend_half_lives_s)
    retrieval = served_retrieval(RecommenderSettings(knn=knn, covisit=covisits, half_lives_s=half_lives_s))
    return LiveState(ranking_policy(Lives(*settings.policy_lives_ms)), retrieval)


def _source_settings(kind: type[T], name: str, values: Mapping[str, float]) -> T:
    counts = {one.name for one in fields(kind) if one.type is int}
    given: Any = {key: int(v) if key in counts and v == int(v) else v for key, v in values.items()}
    try:
        return kind(**given)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"setting HEADWATER_{name} has value {values}; wished: {error}") from None


@asynccontextmanager
async def _lifespan(app: Litestar, settings: Settings, live: LiveState) -> AsyncIterator[None]:
    metrics, guard, lateness = ServerMetrics(), app.state.guard, Lateness()
    new_items = LedgerCounts(live)
    requests = redis_client(settings, timeout_s=settings.redis_timeout_ms / 1000)
    feeds = redis_client(settings, timeout_s=5.0)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka,
        acks="all",
        linger_ms=2,
        max_batch_size=BATCH_BYTES,
        **kafka_security(settings),
    )
    sync = Sync(settings, feeds, live)
    logbook = Logbook(producer, topic_name(settings.namespace, "decisions"), metrics)
    tracing = start_tracing(settings, "server")
    gateway = Gateway(settings, producer, metrics, tracing)
    reader = SubjectReader(settings, requests, metrics)
    parts = (reader, logbook, sync, metrics)
    app.state.recommender = Recommender(settings, live, parts, guard.recommendations, tracing)
    app.state.similar = SimilarItems(live, (parts[0], sync, Pseudonyms(settings.pseudonym_key())))
    app.state.gateway, app.state.tuning = gateway, Tuning(settings, gateway, live, feeds)
    app.state.privacy = Privacy(settings, feeds, gateway)
    app.state.sync, app.state.metrics = sync, metrics
    app.state.attribution = AttributionReader(settings, feeds)
    app.state.models = ModelsReader(settings, feeds, live)
    app.state.previews, app.state.scoreboard = (
        PreviewReader(settings, feeds, live.count_new),
        ScoreboardReader(settings, feeds),
    )
    app.state.audit = AuditReader(settings, feeds)
    app.state.producers = ProducersReader(settings, feeds)
    app.state.decisions = DecisionReader(settings, feeds)
    app.state.stats = StatsReader(settings, feeds, (live, sync, metrics, new_items))
    app.state.new_items = new_items
    sample = app.state.recommender.sample
    for collector in (sample, sync.ages, DoorMetrics(guard, lateness, reader)):
        metrics.registry.register(collector)
    warm_up()
    tasks = [
        asyncio.create_task(work)
        for work in (
            sync.run(),
            _log_decisions(producer, logbook),
            _spare_collector(sync),
            export_scores(app.state.scoreboard, live, metrics),
            new_items.run(),
            lateness.watch([guard.recommendations, guard.others]),
            *([guard.keys.run()] if guard.keys is not None else []),
        )
    ]
    if settings.shared_port:
        await _until_loaded(sync)
    try:
        yield
    finally:
        left = await logbook.drain(_DRAIN_S)
        if left:
            log.error("decisions not logged at stop", count=left)
        await end_tasks(tasks)
        await producer.stop()
        await reader.aclose()
        await requests.aclose()
        await feeds.aclose()


async def end_tasks(tasks: Iterable["asyncio.Task[None]"]) -> None:
    """Cancel tasks until each has ended.

    Once is not enough: the store's client writes inside ``asyncio.wait_for``, which up to Python 3.11
    swallows a cancellation that comes as the write ends. The task would go on, and the server never stop.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_S)


async def _until_loaded(sync: Sync) -> None:
    """Wait for the live state, so that a port others serve already sends nobody to an empty server."""
    try:
        await asyncio.wait_for(sync.ready.wait(), _LOAD_S)
    except TimeoutError:
        log.error("the state is not loaded yet: requests are answered from what there is", waited_s=_LOAD_S)


async def _spare_collector(sync: Sync) -> None:
    """Take what was loaded out of the garbage collector's sight: walking it would stall requests.

    What requests leave behind goes without it, all but a little: it looks less often than by default.
    """
    await sync.ready.wait()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])


async def _log_decisions(producer: AIOKafkaProducer, logbook: Logbook) -> None:
    """Start the producer, however long the broker takes, then send decisions."""
    delay = 0.1
    while True:
        try:
            await producer.start()
        except (KafkaError, OSError) as error:
            log.warning("broker unreachable", why=str(error))
            await asyncio.sleep(delay)
            delay = min(2.0, delay * 2)
        else:
            return await logbook.run()


def run(settings: Settings) -> None:
    """Serve until told to stop."""
    settings.secret()
    settings.erasure_key()
    settings.pseudonym_key()
    refuse_open(settings)
    app = build_app(settings)
    guard: Guard = app.state.guard
    if guard.keys is None:
        say = log.info if is_loopback(settings.host) else log.warning
        say("no keys: everybody who reaches this server may do everything", host=settings.host)
    listen(guarded(with_hot_path(app), guard), settings, guard)
