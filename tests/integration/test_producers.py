"""Event producers see at once whether their events are understood: one good producer and several bad ones."""

import time
from typing import Any

import msgspec

from serving.producers import ProducersAnswer
from state.events import Event, encode
from state.partition import shard_of
from state.producers import PRODUCER_HEADER
from tests.integration.rig import Rig, click_on, feedback_on, make_items, now_ms, until

EACH = 30
HEALTH_S = 5.0


def by(producer: str, event: Event) -> Event:
    return msgspec.structs.replace(event, producer=producer)


async def raw_click(rig: Rig, user: str, changes: dict[str, Any], *, away: int = 0, named: str = "") -> None:
    """Send a click that is wrong in some way, perhaps to another partition or named by a header."""
    document = msgspec.json.decode(encode(click_on(user, "drama-1"))) | changes
    partition = (shard_of(user, rig.settings.shards) + away) % rig.settings.shards
    headers = [(PRODUCER_HEADER, named.encode())] if named else []
    await rig.send("clicks", msgspec.json.encode(document), user.encode(), partition, headers=headers)


async def publish_everything(rig: Rig) -> None:
    for number in range(EACH):
        user = f"u{number}"
        await rig.publish(by("good", feedback_on(user, f"drama-{number % 10}")))
        await rig.publish(by("stranger", click_on(user, f"sku-{number % 5}")))
        await raw_click(rig, user, {"producer": "spoilt", "occurred_at": "now"})
        await raw_click(rig, user, {"producer": "spoilt", "item_id": None})
        await raw_click(rig, user, {}, away=1, named="librdkafka")
        await raw_click(rig, user, {"producer": "ahead", "occurred_at": now_ms() + 3_600_000})
        await rig.publish(by("twice", event := click_on(user, "drama-2")), by("twice", event))
    await rig.send("clicks", b"{no json", b"u1", 0)


async def answered(rig: Rig) -> ProducersAnswer:
    async with rig.http.get(f"{rig.api}/v1/producers") as answer:
        assert answer.status == 200, await answer.text()
        return msgspec.json.decode(await answer.read(), type=ProducersAnswer)


async def test_every_producer_gets_its_verdict_by_http_and_on_the_command_line(rig: Rig) -> None:
    await rig.start()
    await rig.catalogue([by("cms", item) for item in make_items(("drama",), 10)])  # type: ignore[misc]
    await publish_everything(rig)
    published = time.monotonic()

    async def all_seen() -> ProducersAnswer | None:
        answer = await answered(rig)
        names = {one.producer: sum(one.total.events.values()) for one in answer.producers}
        return answer if names.get("unnamed") == 1 and names.get("twice") == 2 * EACH else None

    answer = await until(all_seen, "every producer is counted")
    assert time.monotonic() - published < HEALTH_S
    await rig.counts(clicks=3 * EACH)  # what was forwarded has arrived as well
    answer = await answered(rig)
    found = {one.producer: one for one in answer.producers}
    assert set(found) == {"ahead", "cms", "good", "librdkafka", "spoilt", "stranger", "twice", "unnamed"}
    for name in ("good", "cms"):
        assert found[name].healthy, found[name].verdict
        assert "nothing refused" in found[name].verdict
    assert found["good"].total.events == {"feedback": EACH}
    assert found["cms"].total.events == {"items": 10}
    assert "100 % refused, most: wrong_type" in found["spoilt"].verdict
    refusals = {(one.kind, one.reason, one.field): one.count for one in found["spoilt"].total.refusals}
    assert refusals == {
        ("clicks", "wrong_type", "occurred_at"): EACH,
        ("clicks", "wrong_type", "item_id"): EACH,
    }
    assert "its partitioner is not murmur2" in found["librdkafka"].verdict
    assert (found["librdkafka"].total.misrouted, found["librdkafka"].total.events) == (EACH, {"clicks": EACH})
    assert "100 % of its items are not in the catalogue, e.g. sku-" in found["stranger"].verdict
    assert (found["stranger"].items, found["stranger"].unknown_items) == (5, 5)
    assert found["ahead"].total.clock_skew == EACH
    assert found["ahead"].total.lead_ms > 3_500_000
    assert found["twice"].total.duplicate == EACH
    assert found["unnamed"].total.refusals[0].reason == "malformed_json"

    printed = await rig.command("producers")
    assert "healthy: 30 events, nothing refused" in " ".join(printed.split())
    assert all(name in printed for name in found)
    told = msgspec.json.decode(await rig.command("producers", "--json"), type=ProducersAnswer)
    assert told.producers == answer.producers


async def test_an_engine_nobody_published_to_has_no_producers(rig: Rig) -> None:
    await rig.start()
    assert (await answered(rig)).producers == []
    assert "no producer" in await rig.command("producers")
