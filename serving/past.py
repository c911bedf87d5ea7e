"""Sessions of an import: taken in from the store in the order of time, beside the requests.

An index that learns from every click holds what came last for newest. Rows of an import come last and
happened first, so they are not added one by one: when they have come, the recommender is built anew
from the store's sessions, as a server that starts would, in small steps, and put in place of the old.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import structlog

from online_models.retrieval import Recommender
from serving.live import LiveState
from serving.sessions import add_sessions, follow_entry, newest_at
from serving.store import UNREACHABLE
from state.feed import NO_SESSION, Interaction, ShardFeed
from state.keys import sessions_key
from state.sessions import decode_session

log = structlog.get_logger(__name__)
Stored = dict[int, tuple[Sequence[str], Sequence[int]]]
CALM_S = 2.0
"""Silence after which an import is taken to be over."""
EVERY_S = 60.0
"""How often sessions of an import that goes on are taken in."""
SCANNED, BUILT = 500, 100
"""Sessions read, and sessions built or interactions caught up with, before a request may come between."""


class PastSessions:
    """Notices imports in the change feed, and takes their sessions in.

    Parameters
    ----------
    live
        Whose sessions they are.
    redis
        The store.
    prefixes
        Key prefixes of the subject shards.
    """

    def __init__(self, live: LiveState, redis: Any, prefixes: Sequence[str]) -> None:
        self._live, self._redis, self._prefixes = live, redis, prefixes
        self._noted_at = self._built_at = 0.0
        self._entries: deque[ShardFeed] = deque()
        self._task: asyncio.Task[None] | None = None
        self.rebuilds = 0

    def note(self, entry: ShardFeed) -> None:
        """Take notice of a commit of a subject shard that was applied to the live state."""
        if entry.history:
            self._noted_at = time.monotonic()
        if self._task is not None and not self._task.done():
            self._entries.append(entry)

    def tick(self) -> None:
        """Begin to take sessions in, if it is time to."""
        now = time.monotonic()
        is_idle = self._task is None or self._task.done()
        is_due = now - self._noted_at > CALM_S or now - self._built_at > EVERY_S
        if is_idle and is_due and self._noted_at > self._built_at:
            self._built_at = now
            self._entries.clear()
            self._task = asyncio.create_task(self._take_in())

    async def stop(self) -> None:
        """Leave off."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _take_in(self) -> None:
        before = self._live.recommender
        try:
            stored = await self._read()
        except UNREACHABLE as error:
            log.warning("sessions of an import not read yet", why=str(error))
            self._noted_at = time.monotonic()
            return
        fresh = self._live.fresh_recommender()
        await self._build(stored, fresh)
        await self._catch_up(stored, fresh)
        if self._live.recommender is before:  # else everything was loaded anew meanwhile
            fresh.reserve(len(self._live.items))
            fresh.blend = before.blend
            self._live.take_recommender(fresh)
            self.rebuilds += 1

    async def _read(self) -> Stored:
        stored: Stored = {}
        for prefix in self._prefixes:
            async for name, raw in self._redis.hscan_iter(sessions_key(prefix), count=SCANNED):
                held = decode_session(raw)
                stored[int(name)] = held.items, held.at_ms
        return stored

    async def _build(self, stored: Stored, fresh: Recommender) -> None:
        ordered = await asyncio.to_thread(sorted, stored.items(), key=newest_at)
        for first in range(0, len(ordered), BUILT):
            add_sessions(self._live.items, ordered[first : first + BUILT], fresh, lessons=False)
            await asyncio.sleep(0)

    async def _catch_up(self, stored: Stored, fresh: Recommender) -> None:
        """Add what came while sessions were read and built, unless it was read already.

        The last step is not waited after: nothing comes between it and the change of recommenders.
        """

        def take(step: Interaction, row: int) -> None:
            item_ids, at_ms = stored.get(step.session, ((), ()))
            is_read = (step.item_id, step.at_ms) in zip(item_ids, at_ms, strict=True)
            if step.session != NO_SESSION and not is_read:
                fresh.add_many([step.session], [row], [step.at_ms], lessons=False)

        taken = 0
        while self._entries:
            entry = self._entries.popleft()
            follow_entry(self._live.items, entry, fresh, take)
            taken += 1 + len(entry.interactions)
            if taken >= BUILT and self._entries:
                taken = 0
                await asyncio.sleep(0)
