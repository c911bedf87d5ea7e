"""The example shop on a real engine: its page is whole, and each act changes the next slate."""

import re
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from headwater.shop.site import Site
from serving.client import ClientOptions
from tests.integration.rig import Rig, make_items


@pytest.fixture
async def shop(rig: Rig) -> AsyncIterator[str]:
    """A shop on an engine with a small catalogue."""
    await rig.start()
    await rig.catalogue(make_items(("drama", "comedy", "jazz"), 20))
    runner = web.AppRunner(Site(ClientOptions(url=rig.api, deadline_s=10.0, attempt_s=5.0)).application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_what_a_visitor_does_in_the_shop_is_in_the_next_slate(rig: Rig, shop: str) -> None:
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(shop, cookie_jar=jar) as browser:
        await _page_is_whole(browser)
        first = await _post(browser, "/slate")
        items = [item["item_id"] for item in first["slate"]["items"]]
        assert len(items) == 12
        await _post(browser, "/shown")
        for kind, item_id in (("click", items[0]), ("like", items[1]), ("hide", items[2])):
            told = await _post(browser, "/act", {"kind": kind, "item_id": item_id})
            slate = told["slate"]
            assert (slate["origin"], slate["stale"], slate["rung"]) == ("live", False, "personal")
            assert item_id not in {item["item_id"] for item in slate["items"]}
        shown = slate["items"][0]["item_id"]
        query = {"decision_id": slate["decision_id"], "item_id": shown}
        async with browser.get("/why", params=query) as answer:
            why = await answer.json()
        assert (why["verdict"], why["item_id"]) == ("shown", shown)
        await _refuses_what_it_does_not_know(browser, shown)
    folded = await rig.counts(impressions=1, clicks=1, feedback=2)
    assert folded.subjects["clicks"] == 1


async def _page_is_whole(browser: aiohttp.ClientSession) -> None:
    async with browser.get("/") as answer:
        page = await answer.text()
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    for path in re.findall(r'(?:src|href)="(/[^"]+)"', page):
        async with browser.get(path) as answer:
            assert answer.status == 200, path
    assert not re.search(r"(src|href)=.https?:|//cdn", page)
    assert "innerHTML" not in files("headwater.shop").joinpath("shop.js").read_text()


async def _refuses_what_it_does_not_know(browser: aiohttp.ClientSession, item_id: str) -> None:
    async with browser.post("/act", json={"kind": "steal", "item_id": item_id}) as answer:
        assert answer.status == 400
        assert "steal" in (await answer.json())["detail"]
    async with browser.post("/act", data={"kind": "click"}) as answer:
        assert answer.status == 415
    async with browser.get("/why", params={"decision_id": "nonsense", "item_id": item_id}) as answer:
        assert answer.status == 400


async def _post(
    browser: aiohttp.ClientSession, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    async with browser.post(path, json=body or {}) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found
