"""Click-then-ask pairs: whoever asks with the token of a click must not be shown what they clicked on."""

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import aiohttp
import msgspec
from aiokafka import AIOKafkaProducer

from benchmarks._latency import quantiles_ms
from serving.after import place_token
from serving.requests import EventVerdicts, RecommendationAnswer
from state.events import Click, encode
from state.partition import shard_of
from state.settings import Settings
from state.topics import topic_name

AT_ONCE = 8
CHAIN = 10
WAIT_MS = 500
SURFACE = "pairs"
_answers = msgspec.json.Decoder(RecommendationAnswer)
_verdicts = msgspec.json.Decoder(EventVerdicts)
Tell = Callable[[Click], Awaitable[str | None]]


class Pairs:
    """Makes pairs and counts what became of them.

    Parameters
    ----------
    settings
        Of the namespace.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._api = f"http://127.0.0.1:{settings.port}"
        self.found: dict[str, Counter[str]] = {}
        self.waited_s: list[float] = []

    async def run(self, shares: Mapping[str, int]) -> dict[str, Any]:
        """Make so many pairs of each kind of token; returns the report."""
        producer = AIOKafkaProducer(bootstrap_servers=self._settings.kafka, acks="all", linger_ms=0)
        timeout = aiohttp.ClientTimeout(total=30.0)
        async with producer, aiohttp.ClientSession(timeout=timeout) as http:
            self._http, self._producer = http, producer
            planned = [(kind, length) for kind, count in shares.items() for length in _lengths(count)]
            random.Random(self._settings.seed).shuffle(planned)
            chains = iter(planned)
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(self._work(chains))
        return self._report(time.monotonic() - began)

    async def _work(self, chains: Iterator[tuple[str, int]]) -> None:
        tells: dict[str, Tell] = {
            "gateway": self._by_gateway,
            "kafka_place": self._by_place,
            "kafka_event_id": self._by_event_id,
            "no_token": self._without_token,
        }
        for kind, length in chains:
            await self._chain(tells[kind], self.found.setdefault(kind, Counter()), length)

    async def _chain(self, tell: Tell, found: Counter[str], length: int) -> None:
        """Let a fresh visitor click on the first item of each answer and ask again."""
        user = f"pair-{uuid.uuid4().hex[:12]}"
        answer = await self._ask(user, None)
        for _ in range(length):
            item_id = answer.items[0].item_id
            now_ms = time.time_ns() // 1_000_000
            click = Click(
                event_id=uuid.uuid4().hex, occurred_at=now_ms, user_id=user, session_id=user, item_id=item_id
            )
            answer = await self._ask(user, await tell(click))
            lacks = item_id in {item.item_id for item in answer.items}
            found["pairs"] += 1
            found["stale"] += answer.stale
            found["fresh"] += not answer.stale
            found["lacks the click"] += lacks
            found["claims freshness and lacks the click"] += lacks and not answer.stale
            self.waited_s.append(answer.waited_ms / 1000)

    async def _ask(self, user: str, after: str | None) -> RecommendationAnswer:
        body: dict[str, Any] = {"user_id": user, "session_id": user, "surface": SURFACE, "k": 10}
        if after is not None:
            body |= {"after": after, "wait_ms": WAIT_MS}
        async with self._http.post(f"{self._api}/v1/recommendations", json=body) as response:
            response.raise_for_status()
            return _answers.decode(await response.read())

    async def _by_gateway(self, click: Click) -> str:
        body = {"events": [{"kind": "clicks", "event": msgspec.to_builtins(click)}]}
        async with self._http.post(f"{self._api}/v1/events", json=body) as response:
            response.raise_for_status()
            (verdict,) = _verdicts.decode(await response.read()).verdicts
        assert verdict.accepted, verdict
        return verdict.token

    async def _by_place(self, click: Click) -> str:
        put = await (await self._publish(click))
        return place_token(put.topic, put.partition, put.offset)

    async def _by_event_id(self, click: Click) -> str:
        await self._publish(click)
        return click.event_id

    async def _without_token(self, click: Click) -> None:
        await self._publish(click)

    async def _publish(self, click: Click) -> Any:
        topic = topic_name(self._settings.namespace, "clicks")
        shard = shard_of(click.subject, self._settings.shards)
        return await self._producer.send(topic, encode(click), key=click.subject.encode(), partition=shard)

    def _report(self, took_s: float) -> dict[str, Any]:
        told = {kind: dict(found) for kind, found in sorted(self.found.items())}
        with_token = [found for kind, found in self.found.items() if kind != "no_token"]
        total: Counter[str] = sum(with_token, Counter())
        return {
            "pairs": total["pairs"],
            "stale": total["stale"],
            "lies": total["claims freshness and lacks the click"],
            "pairs_per_s": round(
                (total["pairs"] + self.found.get("no_token", Counter())["pairs"]) / took_s, 1
            ),
            "waited": quantiles_ms(self.waited_s),
            "by_token": told,
        }


def _lengths(count: int) -> Iterator[int]:
    """Yield the lengths of chains that make so many pairs."""
    whole, rest = divmod(count, CHAIN)
    yield from [CHAIN] * whole
    if rest:
        yield rest


def shares_of(pairs: int) -> dict[str, int]:
    """Return how many pairs each kind of token gets, and a tenth more without any."""
    third = pairs // 3
    shares = {"gateway": pairs - 2 * third, "kafka_place": third, "kafka_event_id": third}
    return {**shares, "no_token": pairs // 10}
