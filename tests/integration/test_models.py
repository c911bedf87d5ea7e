"""The life of a click model in a running engine: shadows, heads, promotion, rollback, replay."""

from typing import Any

import numpy as np

from headwater.explore import change_document
from headwater.models_control import direct, promote_shadow
from online_models.ranking import ranking_registry
from state.changing import Wish
from state.clients import redis_client
from state.events import Feedback, Impression, ShownItem
from state.models import Lifecycle, read_lifecycles
from state.packing import from_base64
from state.statehash import hash_state
from tests.integration.rig import Rig, make_items, stamp, until

SAID = ("a test", "to see", False)


async def lifecycle(rig: Rig) -> Lifecycle:
    async with redis_client(rig.settings, timeout_s=5.0) as redis:
        found = await read_lifecycles(redis, rig.settings)
    return found.get("home", {}).get(0, Lifecycle())


async def visit(rig: Rig, number: int) -> None:
    """Ask, show, and buy the first item."""
    user = f"user-{number % 7}"
    answer = await rig.ask(user, surface="home", k=5)
    common: dict[str, Any] = {"session_id": f"{user}-session", "user_id": user, "surface": "home"}
    items = [ShownItem(item.item_id, item.position) for item in answer.items]
    first = answer.items[0].item_id
    await rig.publish(
        Impression(**stamp(), **common, items=items, decision=answer.decision),
        Feedback(**stamp(), **common, item_id=first, kind="purchase", decision=answer.decision),
        Feedback(**stamp(), **common, item_id=first, kind="dwell", value=45.0, decision=answer.decision),
    )


async def test_a_model_lives_through_shadow_promotion_and_rollback_and_replays_to_the_same_state(
    rig: Rig,
) -> None:
    await rig.start()
    await rig.catalogue(make_items(("drama", "comedy"), 15))
    ok, lines = await direct(rig.settings, ("challenger", "home"), {"shadow": "fm", "kind": "fm"}, SAID)
    assert ok, lines
    for number in range(20):
        await visit(rig, number)
    await rig.learnt(20)

    async def is_measured() -> bool:
        return {"click", "dwell", "purchase"} <= set((await lifecycle(rig)).heads)

    await until(is_measured, "all heads are measured")
    ok, lines = await direct(rig.settings, ("version", "home"), {"label": "early"}, SAID)
    assert ok, lines
    refused, lines = await promote_shadow(rig.settings, "home", "fm", SAID)
    assert (refused, "not shown to be better" in lines[0]) == (False, True), lines
    ok, lines = await promote_shadow(rig.settings, "home", "fm", ("a test", "to see", True))
    assert ok, lines
    assert (await lifecycle(rig)).heads["click"].kind == "fm"
    ok, lines = await direct(rig.settings, ("rollback", "home"), {"to": "early"}, SAID)
    assert ok, lines
    ok, lines = await change_document(rig.settings, "models/home", Wish(given={"purchase": 5.0}))
    assert ok, lines

    async def answer() -> Any:
        async with rig.http.get(f"{rig.api}/v1/models/home") as got:
            body = await got.json()
            return body if body["weights"]["purchase"] == 5.0 else None

    told = await until(answer, "the weight is in force on the server")
    assert [step["what"] for step in told["lanes"]["0"]["steps"]] == [
        "challenger", "version", "promotion", "promotion", "rollback",
    ]  # fmt: skip
    assert "early" in await rig.command("models", "show")
    assert "# Click models of surface home" in await rig.command("models", "card")

    printed = await rig.command("replay", "--into", f"{rig.settings.namespace}-again")
    async with redis_client(rig.settings, timeout_s=5.0) as redis:
        live = await hash_state(redis, rig.settings.namespace)
        again = await hash_state(redis, f"{rig.settings.namespace}-again")
    assert live.families["m0"] == again.families["m0"], (live.differences(again), printed)


async def test_every_row_a_lane_learns_from_is_the_row_its_decision_was_scored_with(rig: Rig) -> None:
    await rig.start()
    await rig.catalogue(make_items(("drama", "comedy"), 15))
    for number in range(12):
        await visit(rig, number)
    await rig.learnt(12)
    logged = {one.event_id: one for one in await rig.events("decisions", 12)}
    closed = await rig.events("outcomes", 12)
    registry = ranking_registry()
    for outcome in closed:
        decision = logged[outcome.event_id]
        assert outcome.versions.features == registry.fingerprint()
        rows = from_base64(decision.features).reshape(-1, len(registry))
        learnt = from_base64(outcome.features).reshape(-1, len(registry))
        np.testing.assert_array_equal(learnt, rows[[slot.position for slot in outcome.slots]])
        np.testing.assert_array_equal(learnt[:, registry.place("position")], np.log1p(range(len(learnt))))
    earned = [slot.earned for outcome in closed for slot in outcome.slots if slot.reward > 0]
    assert earned == [["dwell", "purchase"]] * 12
