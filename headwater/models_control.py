"""Telling lanes what to do with their models: published as control documents, done once the lanes say so."""

import asyncio
import time
import uuid
from typing import Any

from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from headwater.console import principal
from headwater.explore import publish
from headwater.models_text import interval
from online_models.evidence import Comparison, pooled
from state.clients import redis_client
from state.decoding import Refusal
from state.events import Control
from state.exploration import read_document
from state.models import Evidence, Lifecycle, read_lifecycles, steps_asked
from state.settings import Settings

_WAIT_S = 8.0
_POLL_S = 0.02
Said = tuple[bool, list[str]]
Wanted = tuple[str, str, bool]
"""Who wants it, why, and whether it is forced."""


async def direct(settings: Settings, name: tuple[str, str], document: dict[str, Any], said: Wanted) -> Said:
    """Publish a document (kind, surface) and wait until every lane has followed or refused it."""
    changed_by, why, forced = said
    event = Control(
        event_id=uuid.uuid4().hex, occurred_at=time.time_ns() // 1_000_000, name="/".join(name),
        document=document, changed_by=changed_by, why=why, forced=forced,
        principal=principal(),
    )  # fmt: skip
    redis = redis_client(settings, timeout_s=5.0)
    try:
        read_document(event.name, document)
        await publish(settings, event)
        return await _until_followed(redis, settings, event)
    except Refusal as refusal:
        return False, [str(refusal)]
    except (RedisError, KafkaError, OSError, TimeoutError) as error:
        return False, [f"cannot reach the store or the broker: {error}"]
    finally:
        await redis.aclose()


async def _until_followed(redis: Any, settings: Settings, event: Control) -> Said:
    surface, deadline = event.name.partition("/")[2], time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        lanes = (await read_lifecycles(redis, settings)).get(surface, {})
        steps = {lane: steps_asked([life], event.event_id) for lane, life in lanes.items()}
        if len([step for step in steps.values() if step]) == settings.lanes:
            lines = [f"lane {lane}: {found[0].detail}" for lane, found in steps.items()]
            return all(found[0].done for found in steps.values()), lines
        await asyncio.sleep(_POLL_S)
    return False, [f"published, but not followed by every lane after {_WAIT_S:.0f} s: is a worker running?"]


async def promote_shadow(settings: Settings, surface: str, name: str, said: Wanted) -> Said:
    """Promote a shadow where it is shown to be better, over all lanes together, or where it is forced."""
    if said[2] and not said[1].strip():
        return False, ["a forced promotion needs a reason: --why"]
    redis = redis_client(settings, timeout_s=5.0)
    try:
        lanes = (await read_lifecycles(redis, settings)).get(surface, {})
    except (RedisError, OSError, TimeoutError) as error:
        return False, [f"cannot reach the store: {error}"]
    finally:
        await redis.aclose()
    document: dict[str, Any] = {"shadow": name}
    if settings.lanes > 1:
        together = pooled_evidence(lanes, name)
        if together.high is not None and together.high < 0:
            document["pooled_high"] = together.high
        elif not said[2]:
            words = f"{together.mean:+.5f} nats a slot {interval(together)} over {together.outcomes} outcomes"
            return False, [
                f"{name} is not shown to be better: {words}; wished: an interval below 0, or --force"
            ]
    return await direct(settings, ("promotion", surface), document, said)


def pooled_evidence(lanes: dict[int, Lifecycle], name: str) -> Evidence:
    """Return how a shadow compares with the champion over all lanes."""
    parts = [life.shadows[name].evidence for life in lanes.values() if name in life.shadows]
    found = pooled(
        [Comparison.restore({"outcomes": p.outcomes, "sum": p.sum, "squares": p.squares}) for p in parts]
    )
    total, squares = sum(part.sum for part in parts), sum(part.squares for part in parts)
    known = found.high < float("inf")
    ends = (found.low, found.high) if known else (None, None)
    return Evidence(found.outcomes, total, squares, found.mean, *ends)
