"""The demo's client: asks for a slate, shows it, clicks where it was right, and says what it really did."""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
from aiokafka import AIOKafkaProducer

from headwater.datasets import Rating
from headwater.demo.judge import Judge
from serving.requests import RecommendationAnswer
from state.events import Click, Event, Feedback, Impression, ShownItem, encode, subject_of
from state.partition import shard_of
from state.settings import Settings
from state.topics import topic_name

SESSION_GAP_S = 30 * 60
MAX_WAIT_MS = 200
_answer_decoder = msgspec.json.Decoder(RecommendationAnswer)


@dataclass(frozen=True, slots=True)
class Visit:
    """One interaction of the data with the session it falls into."""

    user: str
    item_id: str
    rating: float
    session_id: str
    first_session: bool


@dataclass
class Sent:
    """What the client published, and how long answers took."""

    impressions: int = 0
    clicks: int = 0
    feedback: int = 0
    failures: int = 0
    stale: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    waited_ms: list[float] = field(default_factory=list)


def visits(interactions: Sequence[Rating]) -> Iterator[Visit]:
    """Yield interactions in their order, cut into sessions where a user was silent for half an hour."""
    last: dict[str, int] = {}
    count: dict[str, int] = {}
    for one in interactions:
        user = one.user_id
        if user not in last or one.timestamp_s - last[user] > SESSION_GAP_S:
            count[user] = count.get(user, 0) + 1
        last[user] = one.timestamp_s
        yield Visit(user, one.item_id, float(one.rating), f"{user}-{count[user]}", count[user] == 1)


class Traffic:
    """Publishes visits at a fixed rate; visits of one user keep their order.

    A person takes seconds between two clicks, the replay milliseconds: so the client asks for answers that
    contain its user's own last event (``after``), and waiting for that is told apart from latency.

    Parameters
    ----------
    settings
        Of the namespace.
    api
        Base URL of the server.
    judge
        Judges every slate.
    """

    def __init__(self, settings: Settings, api: str, judge: Judge) -> None:
        self._settings, self._api, self._judge = settings, api, judge
        self.sent = Sent()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._said: dict[str, str] = {}

    async def run(self, planned: Sequence[Visit], rate: float, on_progress: Callable[[int], None]) -> None:
        """Publish all visits, ``rate`` a second."""
        producer = AIOKafkaProducer(bootstrap_servers=self._settings.kafka, acks="all", linger_ms=0)
        timeout = aiohttp.ClientTimeout(total=5.0)
        async with producer, aiohttp.ClientSession(timeout=timeout) as http:
            self._http, self._producer = http, producer
            started = time.perf_counter()
            gate = asyncio.Semaphore(32)
            tasks = []
            for number, visit in enumerate(planned):
                await _until(started + number / rate)
                await gate.acquire()
                tasks.append(self._begin(visit, gate))
                on_progress(number + 1)
            await asyncio.gather(*tasks)

    def _begin(self, visit: Visit, gate: asyncio.Semaphore) -> asyncio.Task[None]:
        scores = self._judge.plan(visit.user, visit.item_id)
        task = asyncio.create_task(self._visit(visit, scores, self._running.get(visit.user)))
        self._running[visit.user] = task
        task.add_done_callback(lambda _: gate.release())
        return task

    async def _visit(self, visit: Visit, scores: Any, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        answer = await self._ask(visit)
        hit = answer is not None and any(item.item_id == visit.item_id for item in answer.items)
        if answer is not None and not answer.holdout:
            self._judge.score(scores, hit=hit, first_session=visit.first_session)
        await self._say(visit, answer, hit=hit)

    async def _ask(self, visit: Visit) -> RecommendationAnswer | None:
        body: dict[str, Any] = {
            "user_id": visit.user,
            "session_id": visit.session_id,
            "surface": "home",
            "k": 10,
        }
        if visit.user in self._said:
            body |= {"after": self._said[visit.user], "wait_ms": MAX_WAIT_MS}
        started = time.perf_counter()
        try:
            async with self._http.post(f"{self._api}/v1/recommendations", json=body) as response:
                raw = await response.read()
                response.raise_for_status()
        except (aiohttp.ClientError, TimeoutError):
            self.sent.failures += 1
            return None
        answer = _answer_decoder.decode(raw)
        self.sent.latencies_ms.append(1000 * (time.perf_counter() - started) - answer.waited_ms)
        self.sent.waited_ms.append(answer.waited_ms)
        self.sent.stale += answer.stale
        return answer

    async def _say(self, visit: Visit, answer: RecommendationAnswer | None, *, hit: bool) -> None:
        common: dict[str, Any] = {"user_id": visit.user, "session_id": visit.session_id, "producer": "demo"}
        events: list[tuple[str, Event]] = []
        if answer is not None and answer.items:
            self._note(answer)
            events = _shown_and_clicked(visit, answer, common, hit=hit)
            self.sent.impressions += 1
            self.sent.clicks += hit
        rating = Feedback(**_now(), **common, item_id=visit.item_id, kind="rating", value=visit.rating)
        events.append(("feedback", rating))
        await asyncio.gather(*(self._publish(kind, event) for kind, event in events))
        self._said[visit.user] = rating.event_id
        self.sent.feedback += 1

    def _note(self, answer: RecommendationAnswer) -> None:
        self._judge.rungs[answer.rung] = self._judge.rungs.get(answer.rung, 0) + 1
        self._judge.slots += len(answer.items)
        self._judge.explored += sum(item.explored for item in answer.items)

    async def _publish(self, kind: str, event: Event) -> None:
        assert isinstance(event, Impression | Click | Feedback)
        subject = subject_of(event.user_id, event.session_id)
        await self._producer.send_and_wait(
            topic_name(self._settings.namespace, kind),
            value=encode(event),
            key=subject.encode(),
            partition=shard_of(subject, self._settings.shards),
        )


def _shown_and_clicked(
    visit: Visit, answer: RecommendationAnswer, common: dict[str, Any], *, hit: bool
) -> list[tuple[str, Event]]:
    shown = [ShownItem(item.item_id, item.position) for item in answer.items]
    named: dict[str, Any] = {**common, "surface": "home", "decision": answer.decision}
    events: list[tuple[str, Event]] = [("impressions", Impression(**_now(), **named, items=shown))]
    if hit:
        events.append(("clicks", Click(**_now(), **named, item_id=visit.item_id)))
    return events


def _now() -> dict[str, Any]:
    return {"event_id": uuid.uuid4().hex, "occurred_at": time.time_ns() // 1_000_000}


async def _until(at: float) -> None:
    delay = at - time.perf_counter()
    if delay > 0:
        await asyncio.sleep(delay)
