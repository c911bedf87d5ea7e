"""Freshness as a client sees it: from publishing an event to the first answer whose content shows it."""

import asyncio
import time
import uuid
from dataclasses import dataclass, field

import aiohttp
import msgspec
from aiokafka import AIOKafkaProducer

from serving.requests import RecommendationAnswer
from state.events import Feedback, encode
from state.partition import shard_of
from state.settings import Settings
from state.topics import topic_name

POLL_S = 0.004
MOST_POLLS = 16
PATIENCE_S = 5.0
_decoder = msgspec.json.Decoder(RecommendationAnswer)


@dataclass
class Probes:
    """What the probes found: milliseconds each, and how many never saw their event."""

    waits_ms: list[float] = field(default_factory=list)
    missed: int = 0
    published: int = 0


class FreshnessProbe:
    """Hides an item of a fresh visitor's slate and asks on, again and again, until it is gone.

    Parameters
    ----------
    settings
        Of the namespace.
    api
        Base URL of the server.
    every_s
        Pause between probes.
    poll_s
        Pause between two polls of one probe.
    """

    def __init__(self, settings: Settings, api: str, every_s: float, poll_s: float = POLL_S) -> None:
        self._settings, self._api, self._every_s, self._poll_s = settings, api, every_s, poll_s
        self.found = Probes()

    async def run(self) -> None:
        """Probe until cancelled."""
        producer = AIOKafkaProducer(bootstrap_servers=self._settings.kafka, acks="all", linger_ms=0)
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        async with producer, aiohttp.ClientSession(timeout=timeout) as http:
            while True:
                try:
                    await self._probe(http, producer)
                except (aiohttp.ClientError, TimeoutError):
                    self.found.missed += 1
                await asyncio.sleep(self._every_s)

    async def _probe(self, http: aiohttp.ClientSession, producer: AIOKafkaProducer) -> None:
        user = f"probe-{uuid.uuid4().hex[:12]}"
        shown = await self._ask(http, user)
        if not shown:
            return
        published = await self._hide(producer, user, shown[0])
        deadline = published + PATIENCE_S
        polls: list[asyncio.Task[float | None]] = []
        try:
            while time.perf_counter() < deadline:
                waiting = sum(not poll.done() for poll in polls)
                if waiting < MOST_POLLS:  # a server that is behind must not be asked into the ground
                    polls.append(asyncio.create_task(self._gone_at(http, user, shown[0])))
                await asyncio.sleep(self._poll_s)
                seen = [poll.result() for poll in polls if poll.done() and not poll.cancelled()]
                times = [at for at in seen if at is not None]
                if times:
                    self.found.waits_ms.append(1000 * (min(times) - published))
                    return
            self.found.missed += 1
        finally:
            for poll in polls:
                poll.cancel()
            await asyncio.gather(*polls, return_exceptions=True)

    async def _hide(self, producer: AIOKafkaProducer, user: str, item_id: str) -> float:
        event = Feedback(
            event_id=uuid.uuid4().hex,
            occurred_at=time.time_ns() // 1_000_000,
            user_id=user,
            session_id=user,
            item_id=item_id,
            kind="hide",
            producer="probe",
        )
        shard = shard_of(user, self._settings.shards)
        topic = topic_name(self._settings.namespace, "feedback")
        published = time.perf_counter()
        self.found.published += 1
        await producer.send(topic, value=encode(event), key=user.encode(), partition=shard)
        return published

    async def _ask(self, http: aiohttp.ClientSession, user: str) -> list[str]:
        body = {"user_id": user, "session_id": user, "surface": "probe", "k": 10}
        async with http.post(f"{self._api}/v1/recommendations", json=body) as response:
            return [item.item_id for item in _decoder.decode(await response.read()).items]

    async def _gone_at(self, http: aiohttp.ClientSession, user: str, item_id: str) -> float | None:
        """Return when an answer without the item arrived; None where it still had it."""
        shown = await self._ask(http, user)
        return None if item_id in shown else time.perf_counter()
