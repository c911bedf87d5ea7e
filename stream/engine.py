"""The stream engine: a Faust app whose agents get bundles, and whose positions the application supplies."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import faust
from faust.types import TP

from stream.bundles import MAX_BUNDLE, Bundle, BundleSchema, BundlingScheduler, Lease
from stream.engine_run import run_worker, running
from stream.faust_driver import HOLD, Consumer, NoTables, Transport
from stream.faust_thread import PositionError, Progress

__all__ = [
    "HOLD",
    "Bundle",
    "EngineApp",
    "EngineSettings",
    "Lease",
    "PositionError",
    "Positions",
    "bounds",
    "build_app",
    "consumer_of",
    "end_offset",
    "position",
    "read_to_end",
    "run_worker",
    "running",
    "seek",
]

TopicPartition = tuple[str, int]
Handler = Callable[[Bundle], Awaitable[None]]

# Faust gives up waiting for a claim after `broker_request_timeout`, and then never reads again. A claim may
# wait for the store as long as it must; the consumer's own request timeout is a setting of the engine.
NO_TIMEOUT_S = 10.0 * 365 * 86_400


class Positions(Protocol):
    """The application's side of claim and release: where the truth about offsets lives."""

    async def claim(self, assigned: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Take ownership, and return the next offset to read of each topic-partition.

        Called once an assignment, before any record of it flows; cancelled if another rebalance comes first.
        One that is missing is read from the group's committed offset, else from the beginning; `HOLD` keeps
        one from being read. Raising ends the worker.
        """
        ...

    async def release(self, revoked: frozenset[TopicPartition]) -> None:
        """Give up ownership. Called after the leases have ended and before the group hands them to others."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How the engine reads.

    Parameters
    ----------
    bootstrap : str
        Host and port of one or more brokers, separated by commas.
    group : str
        Consumer group.
    client_id : str
        Name of this client in the broker's logs.
    security : mapping
        Security options of aiokafka's clients, passed on unchanged: ``security_protocol``, ``ssl_context``,
        ``sasl_mechanism``, ``sasl_plain_username``, ...
    fetch_max_wait_ms : int
        How long the broker may hold a fetch open. The embedded broker does so even when data arrives.
    session_timeout_s, heartbeat_s : float
        After how much silence a worker is given up, and how often it speaks. Apache Kafka refuses sessions
        shorter than its ``group.min.session.timeout.ms``, 6 s unless set.
    rebalance_timeout_s : float
        How long the group waits for a member to give up what it had.
    max_poll_interval_s : float
        How long a worker may leave fetched records untouched before it counts as stuck.
    request_timeout_s, release_timeout_s : float
        Patience with one request to the broker, and with one `Positions.release`.
    commit_interval_s : float
        How often handled offsets are committed, as a hint for lag tools.
    max_bundle, stream_buffer_maxsize : int
        Records in a bundle; bundles in the buffer of each topic.
    max_partition_fetch_bytes : int
        Most bytes one fetch brings of one partition.
    """

    bootstrap: str
    group: str
    client_id: str = "headwater-worker"
    security: Mapping[str, Any] = field(default_factory=dict)
    fetch_max_wait_ms: int = 20
    session_timeout_s: float = 6.0
    heartbeat_s: float = 0.5
    rebalance_timeout_s: float = 30.0
    max_poll_interval_s: float = 300.0
    request_timeout_s: float = 40.0
    release_timeout_s: float = 5.0
    commit_interval_s: float = 1.0
    max_bundle: int = MAX_BUNDLE
    stream_buffer_maxsize: int = 32
    max_partition_fetch_bytes: int = 1_048_576


class SealedSettings(faust.Settings):
    """Faust's settings, deaf to the environment: ``BROKER_URL`` and the like would override ours."""

    def getenv(self, env_name: str) -> None:
        """Return None: nothing is read from the environment."""


class EngineApp(faust.App):
    """A Faust app that knows its engine settings and the application's positions."""

    Settings = SealedSettings

    def __init__(self, settings: EngineSettings, positions: Positions) -> None:
        self.engine = settings
        self.positions = positions
        super().__init__(settings.group, **_faust_options(settings))
        self.transport = Transport(self.conf.broker_consumer, self)
        self.producer_transport = Transport(self.conf.broker_producer, self)

    def _create_directories(self) -> None:
        """Make none: there are no tables, and a worker's disk may be read-only."""

    async def on_stop(self) -> None:
        """Stop reading, then give back what is owned, while the group still knows us."""
        try:
            await super().on_stop()
        finally:
            if self._consumer is not None:
                await consumer_of(self).release_all()


def _faust_options(settings: EngineSettings) -> dict[str, Any]:
    return {
        "broker": [f"kafka://{address.strip()}" for address in settings.bootstrap.split(",")],
        "broker_client_id": settings.client_id,
        "broker_commit_interval": settings.commit_interval_s,
        "broker_session_timeout": settings.session_timeout_s,
        "broker_request_timeout": NO_TIMEOUT_S,
        "TableManager": NoTables,
        "ConsumerScheduler": partial(BundlingScheduler, settings.max_bundle),
        "agent_supervisor": "mode.CrashingSupervisor",
        "stream_buffer_maxsize": settings.stream_buffer_maxsize,
        # A handler may wait for the store; a rebalance must not wait for it, and leases make that safe.
        "stream_wait_empty": False,
        "table_standby_replicas": 0,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "web_enabled": False,
        "worker_redirect_stdouts": False,
    }


def build_app(settings: EngineSettings, handlers: Mapping[str, Handler], positions: Positions) -> EngineApp:
    """Build the app: one agent a topic, each passing its bundles to the topic's handler.

    Parameters
    ----------
    settings : EngineSettings
        How to read.
    handlers : mapping of str to coroutine function
        By full topic name. One bundle at a time and in order within a topic; while a handler waits, reading
        stops with bounded memory. A handler deals with bad rows itself: if it raises, the worker ends with
        the bundle uncommitted.
    positions : Positions
        Who owns which topic-partition and from where it is read.
    """
    app = EngineApp(settings, positions)
    for topic, handler in handlers.items():
        source = app.topic(topic, schema=BundleSchema(), acks=False)
        app.agent(source, name=f"agent-{topic}")(_agent(handler))
    return app


def _agent(handler: Handler) -> Callable[[Any], Awaitable[None]]:
    async def agent(stream: Any) -> None:
        async for bundle in stream:
            if bundle.is_current:
                await handler(bundle)
                bundle.done()

    return agent


def consumer_of(app: EngineApp) -> Consumer:
    """Return the consumer of an app."""
    consumer = app.consumer
    assert isinstance(consumer, Consumer)
    return consumer


async def seek(app: EngineApp, positions: Mapping[TopicPartition, int]) -> None:
    """Read some topic-partitions on from other positions, in mid-run.

    Every bundle read before is stale when this is called, wherever it is: handlers get no more of them, and
    one that a handler holds says so (`Bundle.is_current`). What is not owned any more is left alone. If this
    raises, nothing of these is read until the next seek.
    """
    consumer = consumer_of(app)
    owned = {TP(*tp): offset for tp, offset in positions.items() if tp in consumer.owned}
    await consumer.reposition(owned, owned)


async def bounds(app: EngineApp, tps: Collection[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
    """Ask the broker for the first offset it holds and the next it will give out; `claim` may call this."""
    found = await consumer_of(app).thread.bounds([TP(*tp) for tp in tps])
    return {(topic, partition): held for (topic, partition), held in found.items()}


def position(app: EngineApp, topic: str, partition: int) -> int | None:
    """Return the offset after the last record whose handler has returned; None if it is not read here."""
    lease = consumer_of(app).lease_of(TP(topic, partition))
    return lease.handled_to if lease is not None and lease.is_reading else None


def end_offset(app: EngineApp, topic: str, partition: int) -> int | None:
    """Return the next offset the broker will give out, as of its last answer; None before the first."""
    progress = consumer_of(app).thread.peek(TP(topic, partition))
    return progress.end if progress is not None else None


async def read_to_end(app: EngineApp) -> dict[TopicPartition, int]:
    """Return the topic-partitions with nothing left to read or to handle, and when the broker last said so.

    The times are Unix milliseconds of this machine. Everything the log held then has been through its
    handler, deleted records and transaction markers at its end included.
    """
    consumer = consumer_of(app)
    progress = await consumer.thread.progress()
    return {
        tp: seen.end_seen_ms
        for tp, seen in progress.items()
        if seen.at_end and seen.end_seen_ms is not None and _is_handled(consumer.lease_of(tp), seen)
    }


def _is_handled(lease: Lease | None, seen: Progress) -> bool:
    return lease is not None and lease is seen.lease and lease.is_reading and lease.handled_to >= seen.read_to
