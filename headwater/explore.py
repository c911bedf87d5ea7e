"""``headwater explore``: reads and turns the exploration of a surface through Kafka and the store."""

import asyncio
import time
import uuid
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from msgspec import Struct
from redis.exceptions import RedisError

from state.clients import kafka_security, redis_client
from state.events import Control, Explorations, encode
from state.keys import CONTROL, control_key, unit_prefix
from state.settings import Settings
from state.topics import topic_name

_WAIT_S = 5.0
_decoder = msgspec.json.Decoder(Explorations)


class Wish(Struct):
    """A wished change; settings that are None stay as they are."""

    surface: str
    settings: dict[str, Any]
    changed_by: str
    why: str


async def explore_surface(settings: Settings, wish: Wish) -> tuple[bool, list[str]]:
    """Show the document in force, or change it and wait until it is; returns success and lines to print."""
    redis = redis_client(settings, timeout_s=5.0)
    try:
        current = await _read(redis, settings, wish.surface)
        given = {name: value for name, value in wish.settings.items() if value is not None}
        if not given:
            return True, [describe(wish.surface, current)]
        await _publish(settings, wish, current, given)
        return await _until_in_force(redis, settings, wish.surface, current.version)
    except (RedisError, KafkaError, OSError) as error:
        return False, [f"cannot reach the store or the broker: {error}"]
    finally:
        await redis.aclose()


def describe(surface: str, document: Explorations) -> str:
    """Return a document in one line."""
    said = f", by {document.changed_by}" if document.changed_by else ""
    reason = f": {document.why}" if document.why else ""
    return (
        f"{surface}: version {document.version}, {document.scheme}, rate {document.rate:g}, "
        f"temperature {document.temperature:g}{said}{reason}"
    )


async def _read(redis: Any, settings: Settings, surface: str) -> Explorations:
    raw = await redis.hget(control_key(unit_prefix(settings.namespace, CONTROL)), f"exploration/{surface}")
    return _decoder.decode(raw) if raw is not None else Explorations()


async def _publish(settings: Settings, wish: Wish, current: Explorations, given: dict[str, Any]) -> None:
    kept = {name: getattr(current, name) for name in ("rate", "scheme", "temperature", "optimism", "floor")}
    event = Control(
        event_id=uuid.uuid4().hex,
        occurred_at=time.time_ns() // 1_000_000,
        name=f"exploration/{wish.surface}",
        document=kept | given,
        changed_by=wish.changed_by,
        why=wish.why,
    )
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, **kafka_security(settings)) as producer:
        topic = topic_name(settings.namespace, "control")
        await producer.send_and_wait(topic, value=encode(event), key=event.name.encode(), partition=0)


async def _until_in_force(
    redis: Any, settings: Settings, surface: str, version: int
) -> tuple[bool, list[str]]:
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        document = await _read(redis, settings, surface)
        if document.version > version:
            return True, [describe(surface, document)]
        await asyncio.sleep(0.02)
    return False, [f"published, but not in force after {_WAIT_S:.0f} s: is a worker running?"]
