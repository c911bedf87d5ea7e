"""Nothing a producer publishes stops a worker; every mistake is kept with its reason and its bytes."""

import asyncio
import base64
import random
from collections import Counter
from typing import Any

import msgspec

from state.events import Control, DeadLetter, User
from tests.integration.malformed import Bad, bad_events
from tests.integration.rig import Rig, click_on, feedback_on, is_alive, make_items, stamp

BAD_EVENTS = 1000
GOOD_EVENTS = 600
Where = tuple[str, int, int]


async def test_a_thousand_malformed_events_of_twenty_kinds_become_dead_letters_and_nothing_stops(
    rig: Rig,
) -> None:
    (worker,) = await rig.start()
    await rig.catalogue(make_items(("drama",), 10))
    bad = [one for number in range(-(-BAD_EVENTS // len(bad_events(0)))) for one in bad_events(number)]
    assert len(bad) >= BAD_EVENTS
    assert len({(one.kind, one.reason) for one in bad}) >= 20
    sent: dict[Where, Bad] = {}
    clicks: Counter[str] = Counter()
    plan: list[Bad | None] = [*bad, *[None] * GOOD_EVENTS]
    random.Random(3).shuffle(plan)
    for start in range(0, len(plan), 100):
        await asyncio.gather(*(_publish(rig, one, sent, clicks) for one in plan[start : start + 100]))
    assert sum(clicks.values()) == GOOD_EVENTS

    letters = await _dead_letters(rig, len(bad))
    assert letters.keys() == sent.keys()
    for where, one in sent.items():
        letter = letters[where]
        assert (letter.reason, base64.b64decode(letter.raw)) == (one.reason, one.raw or b""), letter.detail
        assert letter.detail
    await rig.counts(clicks=GOOD_EVENTS)
    folded = await rig.folded()
    assert folded.subjects["clicks"] == GOOD_EVENTS
    assert folded.refused == len(bad)
    for user, number in clicks.items():
        assert (await rig.subject(user)).clicks == number
    assert (await rig.subject("bad")).clicks == 0
    await _assert_every_topic_still_works(rig)
    assert is_alive(worker)


async def _publish(rig: Rig, bad: Bad | None, sent: dict[Where, Bad], clicks: Counter[str]) -> None:
    if bad is None:
        user = f"good-{random.randrange(20)}"
        clicks[user] += 1
        # Each on an item of its own: two clicks that say the same in one millisecond are one.
        await rig.publish(click_on(user, f"drama-{clicks[user]}"))
        return
    placed = await rig.send(bad.kind, bad.raw, bad.key, bad.partition, headers=list(bad.headers))
    sent[bad.kind, placed.partition, placed.offset] = bad


async def _dead_letters(rig: Rig, count: int) -> dict[Where, DeadLetter]:
    decode = msgspec.json.Decoder(DeadLetter).decode

    def enough(records: list[Any]) -> bool:
        return len(records) >= count

    letters = [decode(record.value) for record in await rig.read("deadletters", enough)]
    assert len(letters) == count
    return {(letter.topic, letter.partition, letter.offset): letter for letter in letters}


async def _assert_every_topic_still_works(rig: Rig) -> None:
    before = await rig.folded()
    answer = await rig.ask("fresh")
    last = feedback_on("fresh", answer.items[0].item_id, kind="hide")
    await rig.publish(User(**stamp(), user_id="good-2", attributes={"colour": "green"}), last)
    await rig.publish(*make_items(("comedy",), 1))
    control = Control(**stamp(), name="exploration/home", document={"rate": 0.2}, forced=True, why="a test")
    await rig.send("control", msgspec.json.encode(control), control.name.encode(), 0)
    decisions, feedback, users = (before.subjects.get(kind, 0) for kind in ("decisions", "feedback", "users"))
    await rig.counts(decisions=decisions + 1, feedback=feedback + 1, users=users + 1)
    await rig.ready(rig.api, items=11)
    fresh = await rig.ask("fresh", after=last.event_id, wait_ms=1000)
    assert not fresh.stale
    assert answer.items[0].item_id not in {item.item_id for item in fresh.items}
    assert (await rig.subject("good-2")).attributes == {"colour": "green"}
