"""What must never be shown, while everything changes: answers checked, and those that broke a rule.

``python -m benchmarks.exclusions --seconds 600 --json exclusions.json``. A broker, a store, a worker and two
servers of their own; items are removed, made unavailable, brought back and repriced, visitors hide, dislike
and click, rules begin and end to hide, all at once with requests: filters, pins of what may be gone, excluded
and seed items, further pages of slates begun before, similar items. A checker apart from the server's code
(`benchmarks/_exclusions_facts.py`) holds each answer against what was acknowledged before it was asked for:
an item's change by the store and the ``state_as_of`` of the answer, a visitor's event by a fresh answer that
named it, a rule by the server that answered its change.
"""

import asyncio
import random
import sys
import time
import uuid
from collections import Counter
from contextlib import ExitStack
from typing import Any

import aiohttp
import msgspec
from aiokafka import AIOKafkaProducer

from benchmarks import _run
from benchmarks._exclusions_facts import Asked, Facts, Spell, tally
from headwater.demo.run import start_child
from headwater.embedded import EmbeddedRuntime
from headwater.processes import free_port
from state.clients import redis_client
from state.events import Item, encode
from state.keys import item_unit, items_key, unit_prefix
from state.partition import shard_of
from state.settings import Settings
from state.topics import create_topics, topic_name, topic_specs

GENRES = ("drama", "comedy", "crime", "romance", "jazz")
ITEMS, USERS = 300, 60
CHANGERS, VISITORS = 4, 8
NO_LIMITS = (frozenset[str](), None)
_RESTS_S = 0.02
_AT_ONCE = 30
_TRIES = 20
_LISTS = (("exclude", 0.2, 30), ("seed_items", 0.1, 2), ("exclude", 0.02, ITEMS - 3))
"""Which lists of items requests have, how many of them, and how long; the last leaves next to nothing."""


def main() -> int:
    """Run, print, write the figures, and return the exit code: 1 where something appeared that must not."""
    given = _run.options(__doc__, seconds=600.0, rate=0.0).parse_args()
    with EmbeddedRuntime(kafka=given.kafka) as runtime:
        figures = asyncio.run(measure(runtime, given.seconds, given.seed))
    _run.console.print(_run.figures("exclusions", figures))
    _run.finish(given, figures)
    return int(figures["violations"] > 0)


async def measure(runtime: EmbeddedRuntime, seconds: float, seed: int = 1) -> dict[str, Any]:
    """Return the figures of one run against servers of its own."""
    settings = Settings(
        kafka=runtime.kafka,
        redis=runtime.redis,
        namespace=f"x{uuid.uuid4().hex[:10]}",
        fetch_wait_ms=5,
        session_timeout_s=6.0,
        redis_timeout_ms=2_000,
        token_secret="exclusions benchmark",
        log_level="WARNING",
    )
    await create_topics(
        settings.kafka, topic_specs(settings.namespace, settings.shards, settings.item_shards, settings.lanes)
    )
    ports = [free_port(), free_port()]
    with ExitStack() as ending:
        for command, port in (("worker", 0), ("serve", ports[0]), ("serve", ports[1])):
            given = msgspec.structs.replace(settings, port=port) if port else settings
            child = start_child(command, given)
            ending.callback(child.wait)
            ending.callback(child.terminate)
        async with Run(settings, [f"http://127.0.0.1:{port}" for port in ports], seed) as run:
            return await run.figures(seconds)


class Run:
    """Everybody who changes and asks, and what they know.

    Parameters
    ----------
    settings
        Of the namespace.
    apis
        Addresses of the servers.
    seed
        Of all choices.
    """

    def __init__(self, settings: Settings, apis: list[str], seed: int) -> None:
        self._settings, self._apis, self._rng = settings, apis, random.Random(seed)
        self._genres = {f"item-{n}": GENRES[n % len(GENRES)] for n in range(ITEMS)}
        self._facts, self._found = Facts(), list[str]()
        self._counts: Counter[str] = Counter()
        self._rungs: Counter[str] = Counter()
        self._free = set(self._genres)

    async def __aenter__(self) -> "Run":
        self._redis = redis_client(self._settings, timeout_s=5.0)
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20.0))
        self._producer = AIOKafkaProducer(bootstrap_servers=self._settings.kafka, acks="all", linger_ms=0)
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()
        await self._http.close()
        await self._redis.aclose()

    async def figures(self, seconds: float) -> dict[str, Any]:
        """Let everybody work for a while; returns what came of it."""
        await self._stock()
        self._until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(CHANGERS):
                group.create_task(self._change_items())
            for number in range(VISITORS):
                group.create_task(self._visit(range(number, USERS, VISITORS)))
            group.create_task(self._change_rules())
        return {
            "seconds": seconds,
            "answers": self._counts["answers"],
            "items_checked": self._counts["items"],
            "without_the_visitor": self._counts["unknowing"],
            "shed": self._counts["shed"],
            "violations": len(self._found),
            "by_reason": tally(self._found),
            "changes": {name: n for name, n in sorted(self._counts.items()) if name.startswith("did ")},
            "rungs": dict(self._rungs),
        }

    # -- the catalogue

    async def _stock(self) -> None:
        names = sorted(self._genres)
        for first in range(0, ITEMS, _AT_ONCE):
            part = names[first : first + _AT_ONCE]
            await asyncio.gather(*(self._say(item_id, is_out=False, price=10.0) for item_id in part))
        for api in self._apis:
            while not await self._is_stocked(api):
                await asyncio.sleep(0.1)

    async def _is_stocked(self, api: str) -> bool:
        try:
            async with self._http.get(f"{api}/readyz") as answer:
                return answer.status == 200 and (await answer.json())["items"] >= ITEMS
        except aiohttp.ClientError:
            return False

    async def _change_items(self) -> None:
        while time.monotonic() < self._until:
            item_id = self._rng.choice(sorted(self._free))
            self._free.discard(item_id)
            price = self._rng.choice((5.0, 10.0, 20.0))
            await self._say(item_id, is_out=self._rng.random() < 0.5, price=price)
            self._free.add(item_id)
            self._counts["did change an item"] += 1
            await asyncio.sleep(_RESTS_S * self._rng.random())

    async def _say(self, item_id: str, *, is_out: bool, price: float) -> None:
        """Publish what an item is like from now on; returns once the store holds it."""
        removes = is_out and self._rng.random() < 0.5
        spell = Spell(is_out, price, begun_at=now_ms())
        spells = self._facts.spells.setdefault(item_id, [])
        if spells:
            spells[-1].until = spell.begun_at
        spells.append(spell)
        event = self._item(item_id, price, is_available=not is_out)
        value, topic = None if removes else encode(event), topic_name(self._settings.namespace, "items")
        partition = shard_of(item_id, self._settings.item_shards)
        await self._producer.send_and_wait(topic, value, key=item_id.encode(), partition=partition)
        key = items_key(unit_prefix(self._settings.namespace, item_unit(partition)))
        while True:
            held = await self._redis.hget(key, item_id)
            if held == value:
                break
            await asyncio.sleep(0.005)
        spell.known_at = now_ms()

    def _item(self, item_id: str, price: float, *, is_available: bool) -> Item:
        genre = self._genres[item_id]
        return Item(
            event_id=uuid.uuid4().hex,
            occurred_at=now_ms(),
            item_id=item_id,
            title=f"{genre} {item_id}",
            categories=[genre],
            attributes={"price": price, "genre": genre},
            available=is_available,
        )

    # -- rules

    async def _change_rules(self) -> None:
        while time.monotonic() < self._until:
            server, genre = self._rng.randrange(len(self._apis)), self._rng.choice(GENRES)
            address = f"{self._apis[server]}/v1/rules/home/no-more"
            rule = {"action": "hide", "where": f"genre == '{genre}'"}
            hiding: list[object] = [genre, 2**62, 2**62]
            if await self._tell("put", address, rule):
                hiding[1] = now_ms()
            self._facts.hiding[server].append(hiding)
            pinned = {"action": "pin", "item_id": self._any_item(), "position": self._rng.randrange(5)}
            await asyncio.sleep(2.0 * self._rng.random())
            hiding[2] = now_ms()
            await self._tell("delete", address, None)
            await self._tell("put", f"{self._apis[server]}/v1/rules/home/campaign", pinned)
            self._counts["did change a rule"] += 3
            await asyncio.sleep(0.5 * self._rng.random())

    async def _tell(self, method: str, address: str, rule: Any) -> bool:
        """Change a rule; again where a server had not yet met the change made on the other one."""
        for _ in range(_TRIES):
            async with self._http.request(method, address, json=rule) as answer:
                text = await answer.text()
            if answer.status == 200:
                return True
            assert answer.status in (404, 409, 503), text
            await asyncio.sleep(0.1)
        return False

    # -- visitors

    async def _visit(self, numbers: range) -> None:
        users = [f"user-{number}" for number in numbers]
        pages: dict[str, tuple[str, frozenset[str]]] = {}
        while time.monotonic() < self._until:
            user, chance = self._rng.choice(users), self._rng.random()
            if chance < 0.15:
                await self._meet(user)
            elif chance < 0.3:
                await self._ask_similar(user)
            else:
                await self._ask(user, pages)

    async def _meet(self, user: str) -> None:
        """Hide, dislike or click an item, and wait for an answer that says to know of it."""
        kind = self._rng.choice(("hide", "dislike", "click"))
        item_id = self._any_item()
        event = {"event_id": uuid.uuid4().hex, "occurred_at": now_ms(), "session_id": f"{user}-session",
                 "user_id": user, "item_id": item_id}  # fmt: skip
        if kind != "click":
            event["kind"] = kind
        body = {"events": [{"kind": "clicks" if kind == "click" else "feedback", "event": event}]}
        async with self._http.post(f"{self._apis[0]}/v1/events", json=body) as answer:
            is_accepted = answer.status == 200 and (await answer.json())["verdicts"][0]["accepted"]
        if not is_accepted:
            self._counts["did nothing accepted"] += 1
            return
        wishes = {"k": 50, "after": event["event_id"], "wait_ms": 1000}
        for _ in range(_TRIES):
            found = await self._post(user, wishes, 0, NO_LIMITS)
            if not found["stale"] and found["knows_visitor"]:
                break
        else:
            self._counts["did nothing known of"] += 1
            return
        if item_id in ids_of(found):
            self._found.append("in the very answer that knows of it")
        self._facts.met[user].setdefault(item_id, (now_ms(), f"{kind} by the visitor"))
        self._counts[f"did {kind}"] += 1

    async def _ask(self, user: str, pages: dict[str, tuple[str, frozenset[str]]]) -> None:
        rng, server = self._rng, self._rng.randrange(len(self._apis))
        wishes: dict[str, Any] = {"k": rng.choice((5, 10, 50))}
        barred: frozenset[str] = frozenset()
        most = None
        if rng.random() < 0.3:
            most = rng.choice((8.0, 15.0))
            wishes["filter"] = f"price < {most}"
        if rng.random() < 0.3:
            wishes["pin"] = [{"item_id": self._any_item(), "position": n} for n in rng.sample(range(5), 2)]
        for name, share, count in _LISTS:
            if rng.random() < share:
                wishes[name] = rng.sample(sorted(self._genres), count)
        if user in pages and rng.random() < 0.7:
            wishes["page"], shown = pages.pop(user)
        else:
            wishes["page"], shown = "first", frozenset[str]()
        barred = frozenset([*wishes.get("exclude", ()), *wishes.get("seed_items", ()), *shown])
        found = await self._post(user, wishes, server, (barred, most))
        if found.get("next_page"):
            pages[user] = found["next_page"], shown | {item["item_id"] for item in found["items"]}

    async def _post(
        self, user: str, wishes: dict[str, Any], server: int, limits: tuple[frozenset[str], float | None]
    ) -> dict[str, Any]:
        body = {"session_id": f"{user}-session", "user_id": user, **wishes}
        while True:
            sent_at = now_ms()
            async with self._http.post(f"{self._apis[server]}/v1/recommendations", json=body) as answer:
                found: dict[str, Any] = await answer.json()
            if answer.status != 503:
                break
            self._counts["shed"] += 1
            await asyncio.sleep(0.1)
        assert answer.status == 200, found
        self._rungs[found["rung"]] += 1
        as_of = found["state_as_of"]
        known = found["knows_visitor"]
        self._counts["unknowing"] += not known
        self._check(Asked(server, user, sent_at, now_ms(), as_of, ids_of(found), *limits, known))
        return found

    async def _ask_similar(self, user: str) -> None:
        server, item_id, sent_at = self._rng.randrange(len(self._apis)), self._any_item(), now_ms()
        address = f"{self._apis[server]}/v1/similar/{item_id}"
        asked = {"user_id": user, "session_id": f"{user}-session", "filter": "price < 15"}
        async with self._http.get(address, params=asked) as answer:
            found = await answer.json()
        if answer.status == 503:
            self._counts["shed"] += 1
            return
        assert answer.status == 200, found
        self._rungs["similar"] += 1
        as_of = found["state_as_of"]
        known = found["knows_visitor"]
        self._counts["unknowing"] += not known
        limits = (frozenset([item_id]), 15.0)
        self._check(Asked(server, user, sent_at, now_ms(), as_of, ids_of(found), *limits, known))

    def _check(self, asked: Asked) -> None:
        self._counts["answers"] += 1
        self._counts["items"] += len(asked.items)
        self._found += self._facts.violations(asked, self._genres)

    def _any_item(self) -> str:
        return f"item-{self._rng.randrange(ITEMS)}"


def ids_of(answer: dict[str, Any]) -> list[str]:
    """Return the items of an answer."""
    return [item["item_id"] for item in answer["items"]]


def now_ms() -> int:
    """Return the present, ms."""
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    sys.exit(main())
