"""From logged decisions to a preview, a scoreboard and a promotion, on real servers."""

from typing import Any

import aiohttp
import msgspec
import pytest

from serving.preview import Preview
from serving.scoreboard import ScoreboardAnswer
from tests.integration.rig import Rig, click_on, impression_of, make_items

VISITS = 260


async def visits(rig: Rig, count: int) -> None:
    """Ask, show, and click on the first item of every third slate."""
    for number in range(count):
        user = f"u{number}"
        answer = await rig.ask(user, k=3)
        await rig.publish(impression_of(user, answer))
        if number % 3 == 0:
            await rig.publish(click_on(user, answer.items[0].item_id, answer.decision))


async def call(rig: Rig, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as http, http.request(method, rig.api + path, json=body) as answer:
        return answer.status, await answer.read()


async def test_what_a_change_would_earn_is_told_from_live_decisions_and_shadows_are_judged(rig: Rig) -> None:
    await rig.start()
    await rig.catalogue(make_items(("drama", "comedy"), 20))
    status, body = await call(rig, "GET", "/v1/exploration/home/preview?rate=0.1")
    nothing = msgspec.json.decode(body, type=Preview)
    assert (status, nothing.is_decidable) == (200, False)
    assert "nothing was explored" in nothing.verdict

    assert (await call(rig, "PUT", "/v1/exploration/home", {"rate": 0.3, "forced": True, "why": "a test"}))[
        0
    ] == 200
    await rig.command("explore", "shadow", "half", "--rate", "0.15")
    policies = {"half": {"rate": 0.15}, "calm": {"scheme": "greedy"}, "popular": {"ranks_by": "trend"}}
    assert (await call(rig, "PUT", "/v1/exploration/home/shadows", {"policies": policies}))[0] == 200
    await visits(rig, VISITS)
    await rig.learnt(VISITS)

    _, body = await call(rig, "GET", "/v1/exploration/home/preview?rate=0.2&hours=1")
    told = msgspec.json.decode(body, type=Preview)
    assert told.is_decidable, told.verdict
    assert told.overall.decisions == VISITS
    assert told.overall.reward_now is not None
    assert told.overall.reward_now.low <= 1 / 3 <= told.overall.reward_now.high
    assert "from 0.3 to 0.2" in await rig.command("explore", "preview", "--rate", "0.2")

    _, body = await call(rig, "GET", "/v1/scoreboard?surface=home")
    board = {one.shadow: one for one in msgspec.json.decode(body, type=ScoreboardAnswer).shadows}
    assert {name: one.decisions for name, one in board.items()} == dict.fromkeys(policies, VISITS)
    assert board["half"].effective > VISITS / 3
    assert "half" in await rig.command("explore", "scoreboard")

    status, body = await call(rig, "POST", "/v1/exploration/home/promote", {"shadow": "half"})
    assert (status, b"not_better" in body or b"forced promotion" in body) == (409, True)
    forced = {"shadow": "half", "forced": True, "why": "enough seen", "changed_by": "ann"}
    status, body = await call(rig, "POST", "/v1/exploration/home/promote", forced)
    document = msgspec.json.decode(body)
    assert (status, document["rate"], document["why"]) == (200, 0.15, "enough seen")
    with pytest.raises(AssertionError, match="popular"):
        await rig.command("explore", "promote", "popular", "--force", "--why", "so")
