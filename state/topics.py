"""The topics of one namespace: what they are called, how they are cut, and how to make and check them."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.protocol.metadata import MetadataRequest

from state.retention import Kept, topic_retention
from state.settings import Settings

_RAW_MS = topic_retention()["clicks"].limit or 0
APPEAR_TIMEOUT_S = 20.0
APPEAR_POLL_S = 0.05
REQUEST_TIMEOUT_MS = 15_000

SUBJECT_KINDS = ("impressions", "clicks", "feedback", "users", "decisions")
_NAMESPACE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}")


class TopicError(RuntimeError):
    """The broker cannot be reached, or refuses to make or to show a topic."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic as it should be.

    Parameters
    ----------
    name : str
        Full name, namespace included.
    partitions : int
        Exact number of partitions.
    compacted : bool
        Keep the newest record of each key for ever instead of all records for a time.
    retention_ms : int
        How long records are kept; in a compacted topic, how long a deletion stays visible.
    """

    name: str
    partitions: int
    compacted: bool = False
    retention_ms: int = _RAW_MS

    @property
    def cleanup_policy(self) -> str:
        """The broker's word for how old records go: ``compact`` or ``delete``."""
        return "compact" if self.compacted else "delete"

    @property
    def retention_config(self) -> str:
        """The broker's setting that holds `retention_ms`."""
        # A worker that was away for a day must still see deletions, so they stay as long as raw events do.
        return "delete.retention.ms" if self.compacted else "retention.ms"

    def configs(self, replication: int) -> dict[str, str]:
        """Return the broker's settings of this topic when it is kept on `replication` brokers."""
        return {
            "cleanup.policy": self.cleanup_policy,
            self.retention_config: str(self.retention_ms),
            "min.insync.replicas": str(max(1, replication - 1)),
        }


def topic_name(namespace: str, kind: str) -> str:
    """Return the full name of a topic.

    >>> topic_name("shop", "clicks")
    'shop.clicks'
    """
    return f"{namespace}.{kind}"


def topic_specs(
    namespace: str,
    shards: int,
    item_shards: int = 1,
    lanes: int = 1,
    settings: Settings | None = None,
) -> list[TopicSpec]:
    """Return all topics of a namespace.

    Parameters
    ----------
    namespace : str
        One tenant; letters, digits, ``.``, ``_`` and ``-``.
    shards : int
        Partitions of every topic keyed by subject; fixed when the namespace is made.
    item_shards : int
        Partitions of the catalogue.
    lanes : int
        Partitions of the outcomes, one writer of click models each.
    settings
        Say how long records are kept (`state/retention.py`); the defaults where none are given.

    Raises
    ------
    ValueError
        If the namespace is not a legal prefix or a count is below one.

    >>> [(spec.name, spec.partitions) for spec in topic_specs("shop", shards=4)][:2]
    [('shop.impressions', 4), ('shop.clicks', 4)]
    """
    if not _NAMESPACE.fullmatch(namespace):
        raise ValueError(f"namespace: {namespace!r} is not 1 to 100 letters, digits, '.', '_' or '-'")
    for field, count in (("shards", shards), ("item_shards", item_shards), ("lanes", lanes)):
        if count < 1:
            raise ValueError(f"{field}: {count} is below 1")
    kept = topic_retention(settings)
    counts = dict.fromkeys((*SUBJECT_KINDS, "journal", "deadletters"), shards)
    counts |= {"items": item_shards, "outcomes": lanes, "directives": lanes, "control": 1}
    order = (*SUBJECT_KINDS, "items", "outcomes", "directives", "journal", "deadletters", "control")
    return [_spec(topic_name(namespace, kind), counts[kind], kept[kind]) for kind in order]


def _spec(name: str, partitions: int, kept: Kept) -> TopicSpec:
    assert kept.limit is not None
    return TopicSpec(name, partitions, compacted=kept.means == "compaction", retention_ms=kept.limit)


async def create_topics(
    bootstrap: str,
    specs: Sequence[TopicSpec],
    replication: int = 1,
    client_options: Mapping[str, Any] | None = None,
) -> list[str]:
    """Make the topics that are missing and wait until each partition has a leader.

    Existing topics are left as they are; `check_topics` tells whether they fit.

    Parameters
    ----------
    bootstrap : str
        ``host:port`` of one broker, or several separated by commas.
    specs : sequence of TopicSpec
        The wished topics.
    replication : int
        On how many brokers each record is kept.
    client_options : mapping, optional
        Security options of `AIOKafkaAdminClient`.

    Returns
    -------
    list of str
        Names of the topics made by this call.

    Raises
    ------
    TopicError
        If no broker answers, a topic is refused, or its partitions get no leaders in time.
    """
    if replication < 1:
        raise ValueError(f"replication: {replication} is below 1")
    async with _admin(bootstrap, client_options) as admin:
        answer = await admin.create_topics([_new_topic(spec, replication) for spec in specs])
    made = [name for name, code, message in answer.topic_errors if _is_made(name, code, message)]
    async with _client(bootstrap, client_options) as client:
        await _wait_for_leaders(client, [spec.name for spec in specs])
    return made


def _new_topic(spec: TopicSpec, replication: int) -> NewTopic:
    return NewTopic(spec.name, spec.partitions, replication, topic_configs=spec.configs(replication))


def _is_made(name: str, code: int, message: str | None) -> bool:
    error = for_code(code)
    if code != 0 and error is not TopicAlreadyExistsError:
        raise TopicError(f"topic {name} is refused by the broker: {message or error.__name__}")
    return code == 0


async def _wait_for_leaders(client: AIOKafkaClient, names: Sequence[str]) -> None:
    """Brokers learn of a new topic one after another: wait until all of them can serve it."""
    missing = set(names)
    for _ in range(int(APPEAR_TIMEOUT_S / APPEAR_POLL_S)):
        missing = {
            name for node in client.cluster.brokers() for name in await _unserved(client, node.nodeId, names)
        }
        if not missing:
            return
        await asyncio.sleep(APPEAR_POLL_S)
    raise TopicError(f"topics {', '.join(sorted(missing))} have partitions without a leader")


async def _unserved(client: AIOKafkaClient, node_id: int, names: Sequence[str]) -> set[str]:
    """Return the topics that one broker does not know in full, without making it create them."""
    answer = await client.send(node_id, MetadataRequest(names, allow_auto_topic_creation=False))
    topics = answer.to_object()["topics"]
    return set(names) - {topic["topic"] for topic in topics if _is_served(topic)}


def _is_served(topic: Mapping[str, Any]) -> bool:
    return bool(topic["partitions"]) and all(part["leader"] >= 0 for part in topic["partitions"])


async def check_topics(
    bootstrap: str, specs: Sequence[TopicSpec], client_options: Mapping[str, Any] | None = None
) -> list[str]:
    """Compare the broker's topics with the wished ones, changing nothing.

    Returns
    -------
    list of str
        One sentence a problem, such as ``topic hw.clicks has 3 partitions, 4 wished``; empty if all is well.

    Raises
    ------
    TopicError
        If no broker answers.
    """
    async with _admin(bootstrap, client_options) as admin:
        # Asking for a topic by name makes it where topics are made on demand; listing all does not.
        found = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
        configs = await _topic_configs(admin, [spec.name for spec in specs if spec.name in found])
    return [problem for spec in specs for problem in _problems(spec, found, configs)]


def _problems(
    spec: TopicSpec, found: Mapping[str, int], configs: Mapping[str, Mapping[str, str] | str]
) -> Iterable[str]:
    if spec.name not in found:
        yield f"topic {spec.name} is missing"
        return
    if found[spec.name] != spec.partitions:
        yield f"topic {spec.name} has {found[spec.name]} partitions, {spec.partitions} wished"
    told = configs[spec.name]
    if isinstance(told, str):
        yield f"topic {spec.name} has settings that cannot be read ({told})"
        return
    if (policy := told.get("cleanup.policy", "delete")) != spec.cleanup_policy:
        yield f"topic {spec.name} has cleanup.policy {policy}, {spec.cleanup_policy} wished"
    # A broker that does not tell a topic's retention, as the embedded one, cannot be checked for it.
    elif told.get(spec.retention_config, wished := str(spec.retention_ms)) != wished:
        kept = told[spec.retention_config]
        yield f"topic {spec.name} has {spec.retention_config} {kept}, {wished} wished"


async def _topic_configs(
    admin: AIOKafkaAdminClient, names: Sequence[str]
) -> dict[str, Mapping[str, str] | str]:
    """Return the settings of each topic, or why they cannot be read."""
    if not names:
        return {}
    # All settings are asked for: the embedded broker does not understand a choice of them.
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    return {
        name: {str(entry[0]): str(entry[1]) for entry in entries}
        if code == 0
        else str(message or for_code(code).__name__)
        for answer in answers
        for code, message, _kind, name, entries in answer.resources
    }


@asynccontextmanager
async def _admin(bootstrap: str, options: Mapping[str, Any] | None) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, **_with_timeout(options))
    with _named_errors(bootstrap):
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()


@asynccontextmanager
async def _client(bootstrap: str, options: Mapping[str, Any] | None) -> AsyncIterator[AIOKafkaClient]:
    """Open a plain client: unlike the admin client it can ask one broker after another."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap, **_with_timeout(options))
    with _named_errors(bootstrap):
        try:
            await client.bootstrap()
            yield client
        finally:
            await client.close()


def _with_timeout(options: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"request_timeout_ms": REQUEST_TIMEOUT_MS, **(options or {})}


@contextmanager
def _named_errors(bootstrap: str) -> Iterator[None]:
    try:
        yield
    except (KafkaError, TimeoutError) as error:
        raise TopicError(f"broker {bootstrap}: {error or type(error).__name__}") from error
