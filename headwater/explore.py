"""What ``headwater explore`` does: reads and changes control documents through Kafka and the store."""

import asyncio
import time
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from headwater.console import moment, principal
from state.changing import Wish, change_event, check_kept, now_in_force
from state.clients import kafka_security, redis_client
from state.control_reads import read_current, read_history
from state.decoding import Refusal
from state.events import Control, encode
from state.exploration import Budgets, Document, Explorations, Shadows, settings_of
from state.ranking import Rankings
from state.settings import Settings
from state.topics import topic_name

_WAIT_S = 5.0
_POLL_S = 0.02
Said = tuple[bool, list[str]]


async def change_document(settings: Settings, name: str, wish: Wish) -> Said:
    """Show the document in force, or change it and wait until it is; returns success and lines to print."""
    redis = redis_client(settings, timeout_s=5.0)
    try:
        latest = await read_current(redis, settings, name)
        if not wish.given and wish.restores is None:
            return True, [describe(name, now_in_force(latest, _now_ms()))]
        if wish.restores:
            check_kept(name, wish, await read_history(redis, settings, name))
        wish.principal = principal()
        event = change_event(name, latest, wish, _now_ms(), settings.dwell_ms)
        await publish(settings, event)
        return await _until_in_force(redis, settings, event, latest.version)
    except Refusal as refusal:
        return False, [str(refusal)]
    except (RedisError, KafkaError, OSError) as error:
        return False, [f"cannot reach the store or the broker: {error}"]
    finally:
        await redis.aclose()


async def show_history(settings: Settings, name: str) -> Said:
    """Return the versions of a document that are kept, newest first, one a line."""
    redis = redis_client(settings, timeout_s=5.0)
    try:
        versions = await read_history(redis, settings, name)
    except (RedisError, OSError) as error:
        return False, [f"cannot reach the store: {error}"]
    finally:
        await redis.aclose()
    return True, [_dated(document) for document in versions] or [f"{name}: nobody has changed it"]


def describe(name: str, document: Document) -> str:
    """Return a document in one line."""
    said = f", by {document.changed_by}" if document.changed_by else ""
    reason = f": {document.why}" if document.why else ""
    return f"{name.partition('/')[2]}: version {document.version}, {_settings(document)}{said}{reason}"


def _settings(document: Document) -> str:
    if isinstance(document, Shadows):
        return f"watched by {', '.join(document.policies) or 'no shadow'}"
    if isinstance(document, Budgets):
        return f"costs {_bound(document.cost_per_hour)}"
    if isinstance(document, Rankings):
        return ranked(document)
    if not isinstance(document, Explorations):
        return ", ".join(f"{name} {value}" for name, value in settings_of(document).items())
    parts = [document.scheme, f"rate {document.rate:g}", f"temperature {document.temperature:g}"]
    parts += ["a coin a slate"] if document.mode == "single_slot" else []
    parts += [f"floor {document.floor:g}"] if document.floor else []
    parts += [f"{one.name} x{one.multiplier:g}" if one.rate is None else f"{one.name} rate {one.rate:g}"
              for one in document.segments]  # fmt: skip
    if document.quota is not None:
        parts.append(f"new items {document.quota.impressions} impressions in {document.quota.hours:g} h")
    if document.cost_per_hour is not None:
        parts.append(f"costs {_bound(document.cost_per_hour)}")
    parts += [f"guarded by {one.metric}" for one in document.guardrails]
    return ", ".join([*parts, f"until {moment(document.until)}"] if document.until else parts)


def ranked(document: Rankings) -> str:
    """Return how slates are put together, in words."""
    cap = f"{document.category_cap} of a category" if document.category_cap else "no category cap"
    half_life = f"half after {document.freshness_half_life_s / 3600:g} h"
    fresh = f"freshness {document.freshness:g} ({half_life})" if document.freshness else "no freshness boost"
    return (
        f"{cap}, diversity {document.diversity:g}, {fresh}, no repeats for {document.no_repeat_s / 3600:g} h"
    )


def _bound(cost: float | None) -> str:
    return "without bound" if cost is None else f"at most {cost:g} rewards an hour"


def _dated(document: Document) -> str:
    marks = "forced, " if document.forced else ""
    marks += f"back to version {document.restores}, " if document.restores is not None else ""
    who, why = document.changed_by or "somebody", document.why or "no reason given"
    return f"{moment(document.at)}  version {document.version}  {_settings(document)}  ({marks}{who}: {why})"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def publish(settings: Settings, event: Control) -> None:
    """Publish a change of a control document."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, **kafka_security(settings)) as producer:
        topic = topic_name(settings.namespace, "control")
        await producer.send_and_wait(topic, value=encode(event), key=event.name.encode(), partition=0)


async def _until_in_force(redis: Any, settings: Settings, event: Control, before: int) -> Said:
    """Wait for the version that a change makes, of whatever kind; another one may have come first."""
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        document = await read_current(redis, settings, event.name)
        if document.version > before:
            kept = await read_history(redis, settings, event.name)
            made = next((one for one in kept if one.change == event.event_id), None)
            if made is not None:
                return True, [describe(event.name, made)]
            if event.expects is not None:
                who = document.changed_by or "somebody"
                return False, [f"{who} changed it first: {describe(event.name, document)}"]
        await asyncio.sleep(_POLL_S)
    return False, [f"published, but not in force after {_WAIT_S:.0f} s: is a worker running?"]
