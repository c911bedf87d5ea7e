"""The judge of guardrails over a real store: what it ends, what it leaves alone, and what it survives."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from headwater.embedded import EmbeddedRuntime
from state.clients import redis_client
from state.events import Control
from state.exploration import Explorations
from state.exploring import STRETCH_MS, Stretch, Tried, tried_field
from state.keys import CONTROL, spending_key, subject_unit, tried_key, unit_prefix
from stream.control import ControlLogic
from stream.effects import Place
from stream.guardrails import RETRY_MS, Watch
from tests.stream.folding import AT, Folded, row, settings

HOME = "exploration/home"
COSTS = {"guardrails": [{"metric": "cost", "worse_by": 1.0}]}
FALLS_BACK = {"guardrails": [{"metric": "fallback", "worse_by": 0.1}]}


class World:
    """A control unit whose state stands in a real store, and a judge whose events it folds."""

    def __init__(self, redis: Any, namespace: str, runtime: EmbeddedRuntime) -> None:
        self.redis, self.settings = redis, settings(namespace=namespace, redis=runtime.redis)
        place = Place(unit_prefix(namespace, CONTROL), CONTROL, 0)
        self.control = Folded(ControlLogic(place, 0))
        self.published: list[Control] = []
        self.watch = Watch(self.settings, redis, self.publish, lambda: True)
        self._prefix = unit_prefix(namespace, subject_unit(0))

    async def publish(self, event: Control) -> None:
        self.published.append(event)

    async def fold(self, *events: Control) -> None:
        change = self.control.fold([row("control", event) for event in events])
        for key, fields in change.fields.items():
            await self.redis.hset(key, mapping=fields)
        for key, names in change.dropped_fields.items():
            await self.redis.hdel(key, *names)

    async def say(self, number: int, document: dict[str, Any], name: str = HOME, **more: Any) -> None:
        given: dict[str, Any] = {"changed_by": "me", "forced": True, "why": "a test", **more}
        await self.fold(
            Control(event_id=f"c{number}", occurred_at=AT + number, name=name, document=document, **given)
        )

    async def spent(self, version: int, explored: int, surface: str = "home") -> None:
        """Say that a version explored so many slots just now, each of which cost about one reward."""
        number, field = AT // STRETCH_MS, tried_field(surface, version)
        tried = Tried(decided=100, recent={number: explored})
        await self.redis.hset(tried_key(self._prefix), field, msgspec.msgpack.encode(tried))
        held = {number: Stretch(1000, explored, 1000, 1000.0, 1000, 0.0)}
        await self.redis.hset(spending_key(self._prefix), surface, msgspec.msgpack.encode(held))

    async def fell_back(self, version: int, surface: str = "home") -> None:
        raw = msgspec.msgpack.encode(Tried(decided=1000, fallback=900))
        await self.redis.hset(tried_key(self._prefix), tried_field(surface, version), raw)

    async def look(self, at: int = 0) -> list[Control]:
        """Judge, and return what was published of it."""
        self.published.clear()
        await self.watch.look(AT + at)
        return list(self.published)

    async def judged(self, at: int = 0) -> list[int | None]:
        """Judge, fold what is published, and return which versions came back."""
        found = await self.look(at)
        await self.fold(*found)
        return [event.restores for event in found]

    def current(self, name: str = HOME) -> Any:
        raw = self.control.hash("control")[name.encode()]
        return msgspec.json.decode(raw, type=Explorations)


@pytest.fixture
async def world(runtime: EmbeddedRuntime, namespace: str) -> AsyncIterator[World]:
    redis = redis_client(settings(redis=runtime.redis), timeout_s=5.0)
    yield World(redis, namespace, runtime)
    await redis.aclose()


async def test_what_one_version_cost_is_not_held_against_the_one_that_comes_back(world: World) -> None:
    await world.say(1, COSTS)
    await world.say(2, COSTS | {"rate": 0.5})
    await world.spent(2, 50)
    assert await world.judged(1000) == [1]
    assert [await world.judged(1000 * second) for second in range(2, 40)] == [[]] * 38
    assert (world.current().version, world.current().rate) == (3, 0.05)


async def test_a_version_that_came_back_and_fails_too_gives_way_to_the_one_before_it_was_first_tried(
    world: World,
) -> None:
    await world.say(1, {"rate": 0.03})
    await world.say(2, COSTS | {"rate": 0.1})
    await world.say(3, COSTS | {"rate": 0.5})
    for version, restored in ((3, 2), (4, 1)):
        await world.spent(version, 50)
        assert await world.judged(1000 * version) == [restored]
    assert (world.current().rate, world.current().guardrails) == (0.03, [])


async def test_what_came_before_the_first_version_are_the_defaults(world: World) -> None:
    await world.say(1, COSTS)
    await world.say(2, COSTS | {"rate": 0.1})
    for version, restored in ((2, 1), (3, 0)):
        await world.spent(version, 50)
        assert await world.judged(1000 * version) == [restored]


async def test_a_version_that_is_no_longer_kept_is_replaced_by_the_defaults(world: World) -> None:
    await world.say(1, {"rate": 0.03})
    await world.say(2, COSTS)
    await world.redis.hdel(f"{world.control.logic.place.prefix}history", f"{HOME}@1")
    await world.spent(2, 50)
    assert [event.restores for event in await world.look()] == [0]


async def test_one_surface_that_cannot_be_judged_keeps_no_other_from_it(world: World) -> None:
    await world.say(1, COSTS, "exploration/cart")
    await world.say(2, FALLS_BACK)
    field = tried_field("cart", 1)
    await world.redis.hset(tried_key(unit_prefix(world.settings.namespace, "0")), field, b"\xc1 not tried")
    await world.fell_back(1)
    assert [event.name for event in await world.look()] == [HOME]


async def test_an_end_that_was_refused_is_asked_for_again_under_the_same_id(world: World) -> None:
    await world.say(1, FALLS_BACK)
    await world.fell_back(1)
    (first,) = await world.look()
    assert await world.look(RETRY_MS - 1) == []
    (again,) = await world.look(RETRY_MS)
    assert again.event_id == first.event_id
    await world.fold(first, again)
    assert world.current().version == 2
    assert world.control.letters() == []


async def test_an_end_that_could_not_be_sent_is_sent_at_the_next_look(world: World) -> None:
    await world.say(1, FALLS_BACK)
    await world.fell_back(1)

    async def away(_: Control) -> None:
        raise ValueError("no broker")

    broken = Watch(world.settings, world.redis, away, lambda: True)
    await broken.look(AT)
    broken._publish = world.publish
    await broken.look(AT + 1000)
    assert [event.restores for event in world.published] == [0]
