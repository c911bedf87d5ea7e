"""Exploration turned while two servers answer: who sees which version, what logs recompute to, what stops."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from bandits.slates import draw_slate, slate_propensities
from serving.relaw import law_of, problem_of, slots_of
from state.events import Click, Decision, Impression, ShownItem
from tests.integration.rig import Rig, make_items, now_ms, stamp, until

SECOND_MS = 1000
SERVERS = 2


@asynccontextmanager
async def asking(rig: Rig, pause_s: float = 0.02, **wishes: Any) -> AsyncIterator[None]:
    """Ask every server all the time."""
    over = asyncio.Event()

    async def ask_on(api: str) -> None:
        number = 0
        while not over.is_set():
            number += 1
            await rig.ask(f"visitor-{number % 13}", api=api, surface="home", **wishes)
            await asyncio.sleep(pause_s)

    async with asyncio.TaskGroup() as group:
        for api in rig.processes.apis:
            group.create_task(ask_on(api))
        try:
            yield
        finally:
            over.set()


async def send(rig: Rig, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, str]:
    """Return status, body and ETag of a request to the first server."""
    call = rig.http.request(method, f"{rig.api}/v1/exploration/home{path}", json=body, headers=headers)
    async with call as answer:
        return answer.status, await answer.json(content_type=None), answer.headers.get("ETag", "")


def assert_recomputes(decision: Decision) -> None:
    """The logged decision alone gives its slate again, and every propensity to 1e-12."""
    problem, law, indices = problem_of(decision), law_of(decision), slots_of(decision)
    logged = np.array([slot.propensity for slot in decision.slots])
    assert np.abs(slate_propensities(problem, indices, law) - logged).max() <= 1e-12
    drawn = draw_slate(problem, law, decision.seed)
    assert drawn.indices.tolist() == indices.tolist()
    assert drawn.explored.tolist() == [slot.explored for slot in decision.slots]


async def test_what_is_changed_under_load_is_in_every_decision_a_second_later_and_nothing_restarts(
    rig: Rig,
) -> None:
    await rig.start(servers=SERVERS)
    await rig.catalogue(make_items(("drama", "comedy"), 15))
    epochs, changes = await rig.epochs(), list[tuple[int, Any]]()
    segments = [{"name": "phones", "when": {"device": "phone"}, "rate": 0.3}]

    async def turn(method: str, path: str, body: Any) -> None:
        asked = now_ms()
        status, document, tag = await send(rig, method, path, body)
        assert (status, tag) == (200, f'"{document["version"]}"'), document
        changes.append((asked, document))
        await asyncio.sleep(1.4)

    async with asking(rig), asking(rig, context={"device": "phone"}):
        await turn("PUT", "", {"rate": 0.2, "floor": 0.001, "forced": True, "why": "a test"})
        more = {"segments": segments, "scheme": "softmax", "ttl_s": 2.0, "forced": True, "why": "a test"}
        await turn("PUT", "", more)
        await asyncio.sleep(2.0)
        await turn("POST", "/stop", {"why": "enough"})
        await turn("POST", "/rollback", {"version": 1})

    logged = await rig.events("decisions", 200)
    for decision in logged:
        assert_recomputes(decision)
    # A temporary version gives way to the one before it when its time is up, by each decision's own time.
    (first, _), (second, timed), (third, stopped), (fourth, again) = changes
    over = timed["until"]
    spans = [
        (first, second, 1),
        (second, over, 2),
        (over - SECOND_MS, third, 1),
        (third, fourth, 3),
        (fourth, now_ms(), 4),
    ]
    for begin, end, version in spans:
        inside = [d for d in logged if begin + SECOND_MS < d.occurred_at < end]
        assert len(inside) > 10
        assert {d.versions.exploration for d in inside} == {version}
    assert (stopped["scheme"], again["rate"], again["restores"]) == ("greedy", 0.2, 1)
    phones = [d for d in logged if d.versions.exploration == 2 and d.facets == {"device": "phone"}]
    assert {(d.segment, d.exploration["rate"]) for d in phones} == {("phones", 0.3)}
    assert not any(slot.explored for d in logged if d.versions.exploration == 3 for slot in d.slots)
    assert await rig.epochs() == epochs


async def test_a_change_names_the_version_it_was_made_from_or_loses(rig: Rig) -> None:
    await rig.start()
    status, document, tag = await send(rig, "GET", "")
    assert (status, document["version"], tag) == (200, 0, '"0"')
    status, document, tag = await send(
        rig, "PUT", "", {"rate": 0.08, "changed_by": "me"}, **{"If-Match": tag}
    )
    assert (status, document["version"], document["changed_by"]) == (200, 1, "me")
    status, problem, _ = await send(rig, "PUT", "", {"rate": 0.09}, **{"If-Match": '"0"'})
    assert (status, "wished: 1" in problem["detail"]) == (412, True)
    for body, wished in (
        ({"rate": 0.4}, (409, "step_too_large")),
        ({"rate": 0.6}, (400, "Bad request")),
        ({"rate": 0.3, "forced": True}, (400, "no_reason")),
        ({"segments": [{"name": "x", "when": {"visitor": "old"}}]}, (400, "bad_document")),
    ):
        status, problem, _ = await send(rig, "PUT", "", body)
        assert (status, problem["title"]) == wished, problem
    status, problem, _ = await send(rig, "POST", "/rollback", {"version": 7})
    assert (status, problem["title"], problem["field"]) == (409, "unknown_version", "version")
    printed = await rig.command("explore", "rollback", "0", "--why", "back to the start")
    assert "version 2" in printed
    assert "back to version 0" in await rig.command("explore", "history")
    assert "version 3, greedy" in await rig.command("explore", "stop", "--why", "enough")
    status, versions, _ = await send(rig, "GET", "/history")
    assert [one["version"] for one in versions] == [3, 2, 1]
    await rig.command("explore", "budget", "--per-hour", "5")
    async with rig.http.get(f"{rig.api}/v1/exploration-budget") as answer:
        assert (await answer.json())["cost_per_hour"] == 5.0


async def test_two_changes_of_one_version_at_once_leave_one_winner(rig: Rig) -> None:
    await rig.start(servers=SERVERS)

    async def put(api: str, rate: float) -> int:
        async with rig.http.put(f"{api}/v1/exploration/home", json={"rate": rate}) as answer:
            return answer.status

    started = time.monotonic()
    statuses = await asyncio.gather(*(put(api, 0.06 + n / 100) for n, api in enumerate(rig.processes.apis)))
    assert sorted(statuses) == [200, 409], f"after {time.monotonic() - started:.1f} s"

    async def versions() -> bool:
        return [one["version"] for one in (await send(rig, "GET", "/history"))[1]] == [1]

    await until(versions, "one version")


async def test_a_version_that_breaks_a_guardrail_gives_way_to_the_one_before_whoever_restarts(
    rig: Rig,
) -> None:
    (worker,) = await rig.start()
    await rig.catalogue(make_items(("drama", "comedy"), 15))
    guarded = {
        "rate": 0.4,
        "guardrails": [{"metric": "cost", "worse_by": 0.0}],
        "forced": True,
        "why": "a test",
    }
    assert (await send(rig, "PUT", "", {"rate": 0.06}))[0] == 200
    assert (await send(rig, "PUT", "", guarded))[1]["version"] == 2

    async def visit(number: int) -> None:
        user, answer = f"buyer-{number}", await rig.ask(f"buyer-{number}")
        shown = [ShownItem(one.item_id, one.position) for one in answer.items]
        named: dict[str, Any] = {"session_id": f"{user}-session", "user_id": user}
        named["decision"] = answer.decision
        await rig.publish(Impression(**stamp(), **named, surface="home", items=shown))
        liked = [one.item_id for one in answer.items if not one.explored]
        await rig.publish(*(Click(**stamp(), **named, item_id=item_id) for item_id in liked))

    for number in range(6):
        await visit(number)
    worker.kill()
    epochs = await rig.epochs()
    rig.processes.worker()
    await rig.claimed(epochs)

    async def returned() -> bool:
        document = (await send(rig, "GET", ""))[1]
        return bool(document["changed_by"] == "guardrail")

    await until(returned, "the guardrail brought version 1 back")
    document = (await send(rig, "GET", ""))[1]
    assert (document["version"], document["restores"], document["rate"]) == (3, 1, 0.06)
    assert document["why"].startswith("cost: ")
