"""Who acts and asks with the token gets an answer that contains the act, or one that says it is stale."""

import asyncio

from serving.after import place_token
from state.partition import shard_of
from state.topics import topic_name
from tests.integration.rig import Rig, feedback_on, make_items, stamp

PAIRS = 40


async def test_an_answer_after_a_token_lacks_what_was_hidden_or_says_it_is_stale(rig: Rig) -> None:
    await rig.start()
    await rig.catalogue(make_items(("drama", "comedy"), 20))

    async def through_the_gateway(user: str, item_id: str) -> str:
        event = {**stamp(), "session_id": user, "user_id": user, "item_id": item_id, "kind": "hide"}
        (verdict,) = await rig.gateway(("feedback", event))
        assert verdict["accepted"], verdict
        return str(verdict["token"])

    async def through_kafka(user: str, item_id: str) -> str:
        event = feedback_on(user, item_id, "hide")
        put = await (await rig._send(event))
        return place_token(put.topic, put.partition, put.offset)

    async def by_its_id(user: str, item_id: str) -> str:
        event = feedback_on(user, item_id, "hide")
        await rig.publish(event)
        return event.event_id

    async def pair(number: int) -> None:
        tell = (through_the_gateway, through_kafka, by_its_id)[number % 3]
        user = f"user-{number}"
        hidden = (await rig.ask(user)).items[0].item_id
        answer = await rig.ask(user, after=await tell(user, hidden), wait_ms=1000)
        assert not answer.stale, tell.__name__
        assert hidden not in {item.item_id for item in answer.items}, tell.__name__

    for first in range(0, PAIRS, 8):
        await asyncio.gather(*(pair(number) for number in range(first, min(first + 8, PAIRS))))
    await _never_claims_what_it_cannot_know(rig)


async def _never_claims_what_it_cannot_know(rig: Rig) -> None:
    topic, shard = topic_name(rig.settings.namespace, "feedback"), shard_of("user-0", rig.settings.shards)
    elsewhere = place_token(topic, (shard + 1) % rig.settings.shards, 0)
    assert (await rig.ask("user-0", after=elsewhere, wait_ms=1000)).stale
    assert (await rig.ask("user-0", after=place_token(topic, shard, 10**9), wait_ms=20)).stale
    body = {"session_id": "s", "after": "x" * 200}
    async with rig.http.post(f"{rig.api}/v1/recommendations", json=body) as refused:
        assert refused.status == 400
        assert (await refused.json())["field"] == "after"
