"""Ends versions of exploration that break their guardrails: judged from folded state, changed by an event.

The judge keeps nothing: it reads what the shards have folded of a version, so a restart judges alike. What it
decides is a control event like any other, folded by the control unit and replayed from the log.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from bandits.budgets import Spending
from bandits.guardrails import Sums, is_above, is_worse
from state.control_reads import read_all, read_version
from state.events import Control
from state.exploration import Explorations, Guardrail, in_force
from state.exploring import Tried, columns_of, read_spending, read_tried
from state.settings import Settings
from state.versioned import split_name

log = structlog.get_logger(__name__)
LOOK_EVERY_S = 1.0
RETRY_MS = 30_000
"""After so long an end that was asked for and has not come is asked for again."""
CHANGED_BY = "guardrail"
Publish = Callable[[Control], Awaitable[None]]


class Evidence:
    """What is known of a version and of the one that would come back.

    Parameters
    ----------
    now, before
        How decisions under both did.
    spent
        What exploration cost in the last hour of decisions under `now`, in rewards.
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


def ending(name: str, document: Explorations, known: Evidence, *, before: int, at_ms: int) -> Control | None:
    """Return the event that brings the version `before` back; None where no guardrail is broken.

    It has the same id whenever it is asked for, so that it counts once.
    """
    for guardrail in document.guardrails:
        why = broken(guardrail, known)
        if why:
            return Control(
                event_id=f"{CHANGED_BY}:{name}@{document.version}",
                occurred_at=at_ms,
                name=name,
                document={},
                changed_by=CHANGED_BY,
                why=f"{guardrail.metric}: {why}",
                expects=document.version,
                restores=before,
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
        self._asked: dict[tuple[str, int], int] = {}

    async def run(self) -> None:
        """Look until cancelled; what cannot be judged now is looked at again."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self._owns():
                try:
                    await self.look(time.time_ns() // 1_000_000)
                except Exception as error:  # a store that is away, say
                    log.warning("guardrails not judged", why=repr(error))

    async def look(self, now_ms: int) -> None:
        """Judge every guarded version in force, and end those that broke a guardrail."""
        guarded = await self._guarded(now_ms)
        in_force_now = {(name, document.version) for name, document in guarded.items()}
        self._asked = {asked: at for asked, at in self._asked.items() if asked in in_force_now}
        for name, document in guarded.items():
            try:
                await self._judge(name, document, now_ms)
            except Exception as error:  # the other surfaces are judged all the same
                log.warning("guardrail not judged", document=name, why=repr(error))

    async def _judge(self, name: str, document: Explorations, now_ms: int) -> None:
        asked = self._asked.get((name, document.version))
        if asked is not None and now_ms < asked + RETRY_MS:
            return  # the end is on its way
        before = await self._before(name, document)
        known = await self._evidence(split_name(name)[1], document, before, now_ms)
        event = ending(name, document, known, before=before, at_ms=now_ms)
        if event is not None:
            log.warning("guardrail broken", document=name, version=document.version, why=event.why)
            await self._publish(event)
            self._asked[name, document.version] = now_ms

    async def _before(self, name: str, document: Explorations) -> int:
        """Return the version that comes back where one ends, 0 for the defaults.

        It is the one it followed. A version that itself came back stands where it first stood: what it
        followed the second time is what it was brought back from.
        """
        first: Any = document
        while first is not None and first.restores is not None:
            first = await read_version(self._redis, self._settings, name, first.restores)
        if first is None or await read_version(self._redis, self._settings, name, first.follows) is None:
            return 0
        return int(first.follows)

    async def _guarded(self, now_ms: int) -> Mapping[str, Explorations]:
        documents = await read_all(self._redis, self._settings)
        now = {
            name: in_force(one, now_ms) for name, one in documents.items() if isinstance(one, Explorations)
        }
        return {name: one for name, one in now.items() if one.guardrails}

    async def _evidence(self, surface: str, document: Explorations, before: int, now_ms: int) -> Evidence:
        now, then = [
            await read_tried(self._redis, self._settings, surface, version)
            for version in (document.version, before)
        ]
        columns = columns_of(await read_spending(self._redis, self._settings, surface), now_ms)
        return Evidence(now, then, now.explored_lately(now_ms) * Spending(**columns).cost_per_slot())
