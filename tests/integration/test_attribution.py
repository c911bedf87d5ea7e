"""What became of decisions and their events: one truth over HTTP, on the command line and as metrics."""

import uuid
from typing import Any

import aiohttp
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from headwater.processes import free_port
from state.attributed import NO_SURFACE, AttributionCounts, SurfaceCounts
from state.rules import SurfaceRules
from tests.integration.rig import Rig, click_on, feedback_on, impression_of, make_items, until

SHOWN, CART_CAP = 5, 2.0
_decode = msgspec.json.Decoder(AttributionCounts).decode


async def test_every_decision_and_event_is_accounted_for_on_its_surface(rig: Rig) -> None:
    rules = {"cart": SurfaceRules(rewards="sum", cap=CART_CAP, default_reward=0.1)}
    metrics_port = free_port()
    rig.processes.settings = rig.settings = msgspec.structs.replace(rig.settings, attribution=rules)
    rig.processes.worker(metrics_port=metrics_port)
    rig.processes.server()
    await rig.claimed()
    await rig.catalogue(make_items(("drama", "comedy"), 10))

    shown = await rig.ask("anna", surface="cart", k=SHOWN)
    unseen = await rig.ask("bert", surface="home", k=SHOWN)
    first, second = shown.items[0].item_id, shown.items[1].item_id
    click = click_on("anna", first, shown.decision)
    retry = msgspec.structs.replace(click, event_id=uuid.uuid4().hex)
    bought = feedback_on("anna", first, "purchase", decision=shown.decision)
    liked = feedback_on("anna", second, decision=shown.decision)
    forged = click_on("bert", first, shown.decision)
    await rig.publish(impression_of("anna", shown), click, retry, bought, liked, forged)
    await rig.publish(feedback_on("bert", first, decision=None))

    counts = await _closed(rig, cart=1, unseen=1)
    assert counts.surfaces == {
        "cart": SurfaceCounts(closed=1, defaulted=SHOWN - 2),
        "home": SurfaceCounts(unseen=1, duplicate=1, unattributed=1, forged=1),
        NO_SURFACE: SurfaceCounts(unattributed=1),
    }
    (outcome,) = await rig.events("outcomes", 1)
    rewards = {slot.item_id: (slot.reward, slot.defaulted) for slot in outcome.slots}
    assert rewards.pop(first) == (2.0 / CART_CAP, False)
    assert rewards.pop(second) == (1.0 / CART_CAP, False)
    assert set(rewards.values()) == {(0.1, True)}
    assert unseen.decision_id != outcome.event_id == shown.decision_id

    printed = await rig.command("attribution")
    assert f"cart {1} 0 0 {SHOWN - 2} 0 0 0 0" in [" ".join(line.split()) for line in printed.splitlines()]
    assert await _metrics(rig, metrics_port) == {
        ("cart", "closed"): 1,
        ("cart", "defaulted"): SHOWN - 2,
        ("home", "unseen"): 1,
        ("home", "duplicate"): 1,
        ("home", "unattributed"): 1,
        ("home", "forged"): 1,
        (NO_SURFACE, "unattributed"): 1,
    }


async def _closed(rig: Rig, cart: int, unseen: int) -> AttributionCounts:
    async def counts() -> AttributionCounts | None:
        async with rig.http.get(f"{rig.api}/v1/attribution") as answer:
            assert answer.status == 200, await answer.text()
            found = _decode(await answer.read())
        is_over = (found.total.closed, found.total.unseen, found.total.pending) == (cart, unseen, 0)
        return found if is_over else None

    found: AttributionCounts = await until(counts, f"{cart} decisions closed, {unseen} unseen, none pending")
    return found


async def _metrics(rig: Rig, port: int) -> dict[tuple[str, str], Any]:
    async with rig.http.get(f"http://127.0.0.1:{port}/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
        samples = [sample for family in families for sample in family.samples]
    totals: dict[tuple[str, str], Any] = {}
    for sample in samples:
        if sample.name == "headwater_attribution_total" and sample.value:
            place = sample.labels["surface"], sample.labels["kind"]
            totals[place] = totals.get(place, 0) + sample.value
    return totals


async def test_counts_that_cannot_be_read_are_a_problem_and_not_zeros(rig: Rig) -> None:
    await rig.start()
    async with rig.http.get(f"{rig.api}/v1/attribution") as answer:
        assert (answer.status, _decode(await answer.read()).surfaces) == (200, {})
    away = msgspec.structs.replace(rig.settings, redis="redis://127.0.0.1:1/0")
    rig.processes.settings = away
    api = rig.processes.server()

    async def answered() -> aiohttp.ClientResponse | None:
        try:
            return await rig.http.get(f"{api}/v1/attribution")
        except aiohttp.ClientError:
            return None

    answer = await until(answered, "a server without a store answers")
    problem = await answer.json(content_type=None)
    assert (answer.status, answer.content_type) == (503, "application/problem+json")
    assert "store" in problem["detail"]
