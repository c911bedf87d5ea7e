"""Ends versions of exploration that break their guardrails: judged from folded state, changed by an event.

The judge keeps nothing: it reads what the shards have folded of a version, so a restart judges alike. What it
decides is a control event like any other, folded by the control unit and replayed from the log.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from bandits.budgets import Spending
from bandits.guardrails import Sums, is_above, is_worse
from state.control_reads import read_all
from state.events import Control
from state.exploration import Explorations, Guardrail, in_force
from state.exploring import STRETCH_MS, Tried, columns_of, read_spending, read_tried
from state.settings import Settings

log = structlog.get_logger(__name__)
LOOK_EVERY_S = 1.0
CHANGED_BY = "guardrail"
_HOUR = 3_600_000 // STRETCH_MS
Publish = Callable[[Control], Awaitable[None]]


class Evidence:
    """What is known of a version and of the one it followed.

    Parameters
    ----------
    now, before
        How decisions under both did.
    spent
        What exploration cost on the surface in the last hour, in rewards.
    """

    def __init__(self, now: Tried, before: Tried, spent: float) -> None:
        self.now, self.before, self.spent = now, before, spent


def broken(guardrail: Guardrail, known: Evidence) -> str:
    """Return in words how a guardrail is broken; empty if it is not."""
    now, before = known.now, known.before
    if guardrail.metric == "cost":
        return (
            f"exploration cost {known.spent:.3g} rewards in an hour"
            if known.spent > guardrail.worse_by
            else ""
        )
    if guardrail.metric == "fallback":
        share = now.fallback / now.decided if now.decided else 0.0
        is_bad = is_above(now.fallback, now.decided, guardrail.worse_by, guardrail.alpha)
        return f"{share:.1%} of decisions were made without the policy" if is_bad else ""
    sums = _explored if guardrail.metric == "explored_reward" else _decided
    left, right = sums(now), sums(before)
    if not is_worse(left, right, guardrail.worse_by, guardrail.alpha):
        return ""
    unit = "explored slot" if guardrail.metric == "explored_reward" else "decision"
    return f"{left.mean:.4g} rewards a {unit} ({left.n:.0f}), {right.mean:.4g} before ({right.n:.0f})"


def _decided(tried: Tried) -> Sums:
    return Sums(tried.closed, tried.reward, tried.reward_squares)


def _explored(tried: Tried) -> Sums:
    return Sums(tried.explored, tried.explored_reward, tried.explored_squares)


def ending(name: str, document: Explorations, known: Evidence, at_ms: int) -> Control | None:
    """Return the event that brings the version before back; None where no guardrail is broken."""
    for guardrail in document.guardrails:
        why = broken(guardrail, known)
        if why:
            return Control(
                event_id=uuid.uuid4().hex,
                occurred_at=at_ms,
                name=name,
                document={},
                changed_by=CHANGED_BY,
                why=f"{guardrail.metric}: {why}",
                expects=document.version,
                restores=document.follows,
                principal=CHANGED_BY,
            )
    return None


class Watch:
    """Looks at every surface with guardrails, once a second, on behalf of whoever owns the control unit.

    Parameters
    ----------
    settings
        Of the namespace.
    redis
        Client of the store.
    publish
        Sends a control event.
    owns
        Whether this process owns the control unit just now.
    """

    def __init__(self, settings: Settings, redis: Any, publish: Publish, owns: Callable[[], bool]) -> None:
        self._settings, self._redis, self._publish, self._owns = settings, redis, publish, owns
        self._ended: dict[str, int] = {}

    async def run(self) -> None:
        """Look until cancelled; a store or broker that is away is looked at again."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self._owns():
                try:
                    await self.look(time.time_ns() // 1_000_000)
                except (RedisError, KafkaError, OSError, TimeoutError) as error:
                    log.warning("guardrails not judged", why=str(error))

    async def look(self, now_ms: int) -> None:
        """Judge every guarded version in force, and end those that broke a guardrail."""
        for name, document in (await self._guarded(now_ms)).items():
            known = await self._evidence(name.partition("/")[2], document, now_ms)
            event = ending(name, document, known, now_ms)
            # The event is on its way: another of the same would only be refused.
            if event is not None and self._ended.get(name) != document.version:
                log.warning("guardrail broken", document=name, version=document.version, why=event.why)
                await self._publish(event)
                self._ended[name] = document.version

    async def _guarded(self, now_ms: int) -> Mapping[str, Explorations]:
        documents = await read_all(self._redis, self._settings)
        now = {
            name: in_force(one, now_ms) for name, one in documents.items() if isinstance(one, Explorations)
        }
        return {name: one for name, one in now.items() if one.guardrails}

    async def _evidence(self, surface: str, document: Explorations, now_ms: int) -> Evidence:
        tried = [
            await read_tried(self._redis, self._settings, surface, version)
            for version in (document.version, document.follows)
        ]
        columns = columns_of(await read_spending(self._redis, self._settings, surface), now_ms)
        return Evidence(tried[0], tried[1], float(Spending(**columns).costs()[-_HOUR:].sum()))
