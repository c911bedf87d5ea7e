"""The client on a real engine: slates, events, the own clicks, and a server that dies."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headwater.embedded import EmbeddedRuntime
from serving.client import (
    AsyncClient,
    BatchRules,
    Client,
    ClientOptions,
    Event,
    RecommendationRequest,
    RefusedError,
    Verdict,
    clicked,
    said,
    shown,
)
from serving.requests import ExplorationChange
from state.api_keys import new_key, write_keys
from state.exploration import Explorations
from tests.integration.rig import Processes, Rig, engine_settings, make_items, now_ms

VISITORS = 12


async def test_what_a_visitor_does_through_the_client_is_in_the_next_slate(rig: Rig) -> None:
    await rig.start()
    await rig.catalogue(make_items(("drama", "comedy"), 20))
    verdicts: list[tuple[Event, Verdict]] = []
    options = ClientOptions(
        url=rig.api, deadline_s=10.0, attempt_s=5.0, on_verdict=lambda *told: verdicts.append(told)
    )

    async def visit(client: AsyncClient, number: int) -> None:
        who: dict[str, Any] = {"session_id": f"s-{number}", "user_id": f"u-{number}"}
        request = RecommendationRequest(**who, k=5, wait_ms=1000)
        slate = await client.recommend(request)
        client.track(shown(slate, **who))
        client.track(clicked(slate, slate.items[1].item_id, **who))
        client.track(said(slate, slate.items[0].item_id, "hide", **who))
        after = await client.recommend(request)
        acted = {item.item_id for item in slate.items[:2]}
        assert (after.origin, after.stale, after.rung) == ("live", False, "personal")
        assert not acted & {item.item_id for item in after.items}

    async with AsyncClient(options) as client:
        await asyncio.gather(*(visit(client, number) for number in range(VISITORS)))
        assert client.figures["accepted"] == 3 * VISITORS
        change = ExplorationChange(rate=0.07)
        document = await client.call(
            "PUT", "/v1/exploration/home", Explorations, body=change, deadline_s=10.0
        )
        assert document.rate == 0.07
    assert all(verdict.accepted for _, verdict in verdicts), verdicts
    folded = await rig.counts(impressions=VISITORS, clicks=VISITORS, feedback=VISITORS)
    assert folded.subjects["clicks"] == VISITORS
    await asyncio.to_thread(_survives_a_dead_server, rig)


def _survives_a_dead_server(rig: Rig) -> None:
    server = rig.processes.children[1]
    request = RecommendationRequest(session_id="s-0", user_id="u-0", k=5)
    options = ClientOptions(
        url=rig.api, deadline_s=5.0, static_items={"home": ["drama-1"]}, batches=BatchRules(close_s=0.2)
    )
    with Client(options) as client:
        live = client.recommend(request)
        assert live.origin == "live"
        server.kill()
        server.wait()
        slate = client.recommend(request)
        assert (slate.origin, slate.rung, slate.decision) == ("last_good", "local", "")
        assert [item.item_id for item in slate.items] == [item.item_id for item in live.items]
        client.track(clicked(slate, slate.items[0].item_id, session_id="s-0", user_id="u-0"))
        assert not client.flush(0.3)
        stranger = client.recommend(RecommendationRequest(session_id="stranger"))
        assert (stranger.origin, [item.item_id for item in stranger.items]) == ("static", ["drama-1"])
        assert client.figures["waiting"] <= 1


async def test_where_the_server_wants_a_key_the_client_sends_its_own(
    runtime: EmbeddedRuntime, namespace: str, tmp_path: Path
) -> None:
    key, kept = new_key("shop", ["read", "events"], now_ms())
    write_keys(tmp_path / "keys", [kept])
    settings = engine_settings(runtime.kafka, runtime.redis, namespace, keys_file=str(tmp_path / "keys"))
    with Processes(settings) as processes:
        async with Rig(processes) as rig:
            await rig.start()
            await rig.publish(*make_items(("drama",), 5))
            request = RecommendationRequest(session_id="s", k=2)
            async with AsyncClient(ClientOptions(url=rig.api, static_items={"home": ["x"]})) as stranger:
                with pytest.raises(RefusedError) as refused:
                    await stranger.recommend(request)
                assert refused.value.problem.status == 401
            async with AsyncClient(ClientOptions(url=rig.api, api_key=key, deadline_s=10.0)) as client:
                assert (await client.recommend(request)).origin == "live"
                (verdict,) = await client.publish([clicked(None, "drama-1", session_id="s")])
                assert verdict.accepted
                with pytest.raises(RefusedError) as refused:
                    await client.call("GET", "/v1/users/s:s", dict)
                assert refused.value.problem.status == 403
