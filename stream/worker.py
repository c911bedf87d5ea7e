"""One worker process: a Faust app whose agents decode and enqueue, and a folder for each unit it owns."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from prometheus_client import start_http_server
from redis.exceptions import RedisError

from online_models import ranking, trends
from state.clients import kafka_security, redis_client
from state.events import Control, encode
from state.keys import CONTROL
from state.models import Lifecycle
from state.settings import Settings
from state.topics import topic_name
from state.tracing import start_tracing
from stream.engine import Bundle, EngineApp, EngineSettings, bounds, build_app, run_worker
from stream.folder import Folder
from stream.gauges import lag_of
from stream.guardrails import Watch
from stream.lane import LaneLogic
from stream.metrics import WorkerMetrics
from stream.model_metrics import ModelCollector
from stream.ports import WorkerPorts, start_position
from stream.rows import Row, decode_row
from stream.rules import unit_rules
from stream.shard import ShardLogic
from stream.surface_metrics import SurfaceCollector
from stream.units import KINDS, logic_maker, unit_of

log = structlog.get_logger(__name__)
TopicPartition = tuple[str, int]
# Nobody waits for derived messages: a few hundred in one batch cost broker and readers less than one each.
OUTBOX_LINGER_MS = 100
OUTBOX_BATCH_BYTES = 524_288
LAG_EVERY_S = 2.0
LAG_PATIENCE_S = 10.0


class Worker:
    """Owns the folders of this process and answers the engine's claims and releases.

    Parameters
    ----------
    settings
        Of the namespace.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = WorkerMetrics()
        self.folders: dict[str, Folder] = {}
        self.metrics.registry.register(SurfaceCollector(self._surface_counts))
        self.metrics.registry.register(ModelCollector(self._model_facts))
        self.metrics.gauges.read = lambda: [folder.reading() for folder in list(self.folders.values())]
        self._kinds = {topic_name(settings.namespace, kind): kind for kind in KINDS}
        self._tracing = start_tracing(settings, "worker")
        self._ports: WorkerPorts | None = None
        self._producer: AIOKafkaProducer | None = None
        self._watchers: list[asyncio.Task[None]] = []
        self.app: EngineApp = build_app(
            engine_settings(settings),
            {topic: self._agent(kind) for topic, kind in self._kinds.items()},
            self,
        )

    async def claim(self, assigned: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Claim every unit among the assigned topic-partitions; returns where to read each."""
        ports = await self._opened()
        ports.forget_ends()
        ours = {(self._kinds[topic], partition) for topic, partition in assigned if topic in self._kinds}
        units = {unit_of(kind, partition): partition for kind, partition in ours}
        await self._stop(set(self.folders) - set(units))
        found = await asyncio.gather(*(self._start(unit, p, ports) for unit, p in sorted(units.items())))
        self.metrics.units.set(len(self.folders))
        stored = {self._tp(*kind): at for part in found for kind, at in part.items()}
        held = await bounds(self.app, list(assigned))
        return {tp: start_position(tp, stored.get(tp), held[tp]) for tp in assigned}

    async def release(self, revoked: frozenset[TopicPartition]) -> None:
        """Stop the folders of the revoked topic-partitions."""
        ours = {(self._kinds[topic], partition) for topic, partition in revoked if topic in self._kinds}
        await self._stop({unit_of(kind, partition) for kind, partition in ours})
        if not self.folders:
            await self._close()

    async def _start(self, unit: str, partition: int, ports: WorkerPorts) -> Mapping[tuple[str, int], int]:
        running = self.folders.get(unit)
        if running is not None:
            return running.rewind()
        rules = unit_rules(self.settings, unit)
        folder = Folder(logic_maker(self.settings, unit, partition), partition, ports, rules, self._tracing)
        delay = 0.05
        while True:
            try:
                positions = await folder.start()
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("unit not claimed yet", unit=unit, why=str(error))
                await asyncio.sleep(delay)
                delay = min(1.0, delay * 2)
            else:
                self.folders[unit] = folder
                return positions

    async def _stop(self, units: Collection[str]) -> None:
        stopping = [self.folders.pop(unit) for unit in units if unit in self.folders]
        await asyncio.gather(*(folder.stop() for folder in stopping))

    def _surface_counts(self) -> Iterator[tuple[str, Mapping[str, int]]]:
        for unit, folder in list(self.folders.items()):
            if isinstance(folder.logic, ShardLogic):
                yield unit, folder.logic.surfaces.totals

    def _model_facts(self) -> Iterator[tuple[str, Mapping[str, Lifecycle]]]:
        for unit, folder in list(self.folders.items()):
            if isinstance(folder.logic, LaneLogic):
                yield unit, {name: models.lifecycle for name, models in list(folder.logic.models.items())}

    def _tp(self, kind: str, partition: int) -> TopicPartition:
        return topic_name(self.settings.namespace, kind), partition

    def _agent(self, kind: str) -> Callable[[Bundle], Any]:
        skew = self.settings.max_skew_ms

        async def enqueue(bundle: Bundle) -> None:
            folder = self.folders.get(unit_of(kind, bundle.partition))
            if folder is None or not bundle.is_current:
                return
            rows = [
                decode_row(
                    Row(kind, bundle.partition, r.offset, r.timestamp_ms, r.key, r.value), r.headers, skew
                )
                for r in bundle.rows()
            ]
            await folder.enqueue(rows)

        return enqueue

    async def _opened(self) -> WorkerPorts:
        if self._ports is None:
            self._producer = AIOKafkaProducer(
                bootstrap_servers=self.settings.kafka,
                acks="all",
                linger_ms=OUTBOX_LINGER_MS,
                max_batch_size=OUTBOX_BATCH_BYTES,
                **kafka_security(self.settings),
            )
            await self._producer.start()
            redis = redis_client(self.settings, timeout_s=5.0)
            self._ports = WorkerPorts(self.settings, redis, self._producer, self.metrics)
            self._ports.app = self.app
            guard = Watch(self.settings, redis, self._change, lambda: CONTROL in self.folders)
            works = (self._ports.watch_ends(), self._watch_lag(), guard.run())
            self._watchers = [asyncio.create_task(work) for work in works]
        return self._ports

    def _folded_to(self) -> dict[TopicPartition, int]:
        readings = self.metrics.gauges.read()
        return {self._tp(*kind): at for one in readings for kind, at in one.folded.items()}

    async def _watch_lag(self) -> None:
        """Ask the broker how much there is: what was last fetched says too little while reading waits."""
        while True:
            try:
                async with asyncio.timeout(LAG_PATIENCE_S):
                    held = await bounds(self.app, list(self._folded_to()))
            except Exception as error:  # a broker that is away is told elsewhere; the last lag stays
                log.debug("lag not known", why=repr(error))
            else:
                self.metrics.gauges.lag = lag_of(self._folded_to(), held)
            await asyncio.sleep(LAG_EVERY_S)

    async def _change(self, event: Control) -> None:
        assert self._producer is not None
        topic = topic_name(self.settings.namespace, "control")
        await self._producer.send_and_wait(topic, encode(event), key=event.name.encode(), partition=0)

    async def _close(self) -> None:
        ports, self._ports = self._ports, None
        if ports is None or self._producer is None:
            return
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        self.metrics.gauges.lag = {}
        await self._producer.stop()
        await ports.redis.aclose()


def engine_settings(settings: Settings) -> EngineSettings:
    """Return how the engine reads."""
    return EngineSettings(
        bootstrap=settings.kafka,
        group=f"{settings.namespace}-worker",
        client_id=f"{settings.namespace}-worker",
        security=kafka_security(settings),
        fetch_max_wait_ms=settings.fetch_wait_ms,
        session_timeout_s=settings.session_timeout_s,
        max_bundle=settings.max_batch,
    )


def run(settings: Settings) -> int:
    """Run a worker until it is told to stop; returns its exit code."""
    settings.secret()
    for loops in (trends, ranking):
        loops.warm_up()
    worker = Worker(settings)
    if settings.metrics_port:
        start_http_server(settings.metrics_port, registry=worker.metrics.registry)
    return run_worker(worker.app)
