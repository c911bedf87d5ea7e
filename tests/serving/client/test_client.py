"""The client before a server of the test's own, which answers as told: real HTTP on a loopback port."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from typing import Any

import msgspec
import pytest
from aiohttp import web

from serving.client import (
    AsyncClient,
    BatchRules,
    Client,
    ClientOptions,
    ClosedError,
    Event,
    RecommendationRequest,
    RefusedError,
    RetryRules,
    UnavailableError,
    Verdict,
    clicked,
    shown,
)
from state.events import Decision

ASKED = web.RequestKey("asked", dict)
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
QUICK = RetryRules(tries=3, base_s=0.001, cap_s=0.002)
SLATE = {
    "decision_id": "d1",
    "decision": "t1",
    "surface": "home",
    "rung": "trend",
    "items": [{"item_id": "a", "position": 0, "title": "A", "reason": "r", "propensity": 1.0}],
    "exploration_version": 0,
    "model_version": 0,
    "state_as_of": 0,
    "staleness_ms": 0,
    "some_later_field": True,
}


class Server:
    """Answers calls in turn, the last answer for ever, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.answers: list[Answer] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        asked = msgspec.json.decode(body) if body else None
        self.asked.append((request.method, request.path_qs, dict(request.headers), asked))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        request[ASKED] = asked or {}
        return await answer(request)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    told = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", told.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    told.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield told
    await runner.cleanup()


def says(status: int, body: Any = None, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        raw = msgspec.json.encode(body if body is not None else {"title": "told so"})
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=raw, headers=named)

    return answer


def hangs(seconds: float) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.json_response(SLATE)

    return answer


async def accepts(request: web.Request) -> web.StreamResponse:
    events = request[ASKED]["events"]
    verdicts = [
        {"accepted": True, "event_id": one["event"]["event_id"], "token": f"hw.{one['kind']}/2/{number}"}
        for number, one in enumerate(events)
    ]
    return web.json_response({"verdicts": verdicts})


def options(server: Server, **more: Any) -> ClientOptions:
    given: dict[str, Any] = {"url": server.url, "retries": QUICK, "deadline_s": 5.0, "attempt_s": 2.0}
    return ClientOptions(**{**given, **more})


def click(number: int, session: str = "ann") -> Event:
    return clicked(None, f"i{number}", session_id=session)


ASK = RecommendationRequest(session_id="ann", k=5)


# -- slates


async def test_a_slate_that_stands_in_says_it_lacks_what_the_visitor_has_done(server: Server) -> None:
    server.answers = [accepts, says(503)]
    async with AsyncClient(options(server, static_items={"home": ("a", "b")})) as client:
        client.track(click(1))
        assert await client.flush(5.0)
        slate = await client.recommend(ASK)
        other = await client.recommend(RecommendationRequest(session_id="bob", k=5))
    assert (slate.origin, slate.stale, other.origin, other.stale) == ("static", True, "static", False)


async def test_waiting_for_own_events_leaves_time_to_ask(server: Server) -> None:
    server.answers = [hangs(2.0)]
    given = options(
        server, static_items={"home": ("a",)}, deadline_s=0.2, batches=BatchRules(linger_s=60.0, close_s=0.01)
    )
    async with AsyncClient(given) as client:
        client.track(click(1))
        async with asyncio.timeout(0.9):
            slate = await client.recommend(msgspec.structs.replace(ASK, wait_ms=1_000))
    assert (slate.origin, slate.stale) == ("static", True)


async def test_refusals_between_failures_show_that_the_server_answers(server: Server) -> None:
    bad, good = says(500), says(400)
    server.answers = [bad, good, bad, good, bad, good, says(200, SLATE)]
    once = RetryRules(tries=1)
    async with AsyncClient(options(server, static_items={"home": ("a",)}, retries=once)) as client:
        for _ in range(3):
            assert (await client.recommend(ASK)).origin == "static"
            with pytest.raises(RefusedError):
                await client.recommend(ASK)
        assert (await client.recommend(ASK)).origin == "live"


async def test_an_answer_is_typed_and_the_key_travels_as_a_bearer(server: Server) -> None:
    server.answers = [says(200, SLATE)]
    async with AsyncClient(options(server, api_key="s3cret")) as client:
        slate = await client.recommend(ASK)
    assert (slate.origin, slate.rung, slate.items[0].item_id) == ("live", "trend", "a")
    method, path, headers, body = server.asked[0]
    assert (method, path, body) == ("POST", "/v1/recommendations", {"session_id": "ann", "k": 5})
    assert headers["Authorization"] == "Bearer s3cret"
    assert headers["Content-Type"] == "application/json"
    assert "s3cret" not in repr(client._options)


async def test_overload_is_waited_out_as_long_as_the_server_asks(server: Server) -> None:
    server.answers = [says(503, Retry_After="1"), says(200, SLATE)]
    async with AsyncClient(options(server)) as client:
        began = time.monotonic()
        assert (await client.recommend(ASK)).origin == "live"
        assert time.monotonic() - began >= 1.0
        assert client.figures["retries"] == 1


async def test_a_pause_beyond_the_deadline_is_not_begun(server: Server) -> None:
    server.answers = [says(503, Retry_After="60")]
    async with AsyncClient(options(server, static_items={"home": ["x"]})) as client:
        slate = await client.recommend(ASK)
    assert (slate.origin, len(server.asked)) == ("static", 1)
    assert "503" in slate.problem


async def test_a_refusal_is_raised_at_once_and_never_papered_over(server: Server) -> None:
    server.answers = [says(400, {"title": "Bad request", "detail": "k", "field": "k"})]
    async with AsyncClient(options(server, static_items={"home": ["x"]})) as client:
        with pytest.raises(RefusedError) as refused:
            await client.recommend(ASK)
    assert (refused.value.problem.field, len(server.asked)) == ("k", 1)


async def test_a_server_that_hangs_costs_an_attempt_and_no_more_than_the_deadline(server: Server) -> None:
    server.answers = [hangs(30.0), says(200, SLATE)]
    async with AsyncClient(options(server, attempt_s=0.05)) as client:
        assert (await client.recommend(ASK)).origin == "live"
    server.answers = [hangs(30.0)]
    async with AsyncClient(options(server, attempt_s=0.05, deadline_s=0.12)) as client:
        with pytest.raises(UnavailableError):
            await client.recommend(ASK)


async def test_the_last_good_slate_stands_in_and_the_breaker_spares_the_wait(server: Server) -> None:
    server.answers = [says(200, SLATE), says(500)]
    async with AsyncClient(options(server, batches=BatchRules(close_s=0.05))) as client:
        assert (await client.recommend(ASK)).origin == "live"
        for _ in range(3):
            assert (await client.recommend(ASK)).origin == "last_good"
        asked = len(server.asked)
        assert (await client.recommend(ASK)).origin == "last_good"
        assert len(server.asked) == asked
        client.track(click(0))
        client.track(clicked(None, "a", session_id="ann"))
        with pytest.raises(UnavailableError):
            await client.recommend(ASK)
        assert client.figures["last_good"] == 4


async def test_whatever_is_not_the_api_is_no_answer(server: Server) -> None:
    server.answers = [says(200, ["a", "proxy"])]
    async with AsyncClient(options(server)) as client:
        with pytest.raises(UnavailableError, match="not an answer of the API"):
            await client.recommend(ASK)


async def test_nobody_there_is_unavailable() -> None:
    async with AsyncClient(ClientOptions(url="http://127.0.0.1:9", retries=QUICK)) as client:
        with pytest.raises(UnavailableError):
            await client.recommend(ASK)


# -- other routes


async def test_a_write_is_repeated_only_with_a_key(server: Server) -> None:
    async with AsyncClient(options(server)) as client:
        server.answers = [says(503), says(200, {"rate": 0.1})]
        with pytest.raises(UnavailableError):
            await client.call("POST", "/v1/exploration/home/stop", dict, body={})
        server.answers = [says(503), says(200, {"rate": 0.1})]
        answer = await client.call("POST", "/v1/exploration/home/stop", dict, body={}, idempotency_key="k1")
    assert answer == {"rate": 0.1}
    assert [headers.get("Idempotency-Key") for _, _, headers, _ in server.asked] == [None, "k1", "k1"]


async def test_a_write_of_which_nobody_knows_is_not_repeated_without_a_key(server: Server) -> None:
    async def breaks(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with AsyncClient(options(server, attempt_s=0.1)) as client:
        for trouble in (hangs(30.0), breaks):
            for key, tries in (("", 1), ("k1", 2)):
                server.answers, server.asked = [trouble, says(200, {})], []
                asking = client.call("POST", "/v1/x", dict, body={}, idempotency_key=key, deadline_s=0.4)
                with nullcontext() if key else pytest.raises(UnavailableError):
                    await asking
                assert len(server.asked) == tries


async def test_a_key_does_not_follow_a_redirect(server: Server) -> None:
    server.answers = [says(302, Location="http://127.0.0.1:9/")]
    async with AsyncClient(options(server, api_key="k")) as client:
        with pytest.raises(RefusedError):
            await client.call("GET", "/v1/stats", dict)
    assert len(server.asked) == 1


# -- events


async def test_events_leave_in_batches_and_in_order(server: Server) -> None:
    server.answers = [accepts]
    rules = BatchRules(size=100, linger_s=5.0)
    async with AsyncClient(options(server, batches=rules)) as client:
        ids = [client.track(click(number)) for number in range(250)]
        assert await client.flush()
        assert client.figures["accepted"] == 250
    sent = [[one["event"]["event_id"] for one in body["events"]] for _, _, _, body in server.asked]
    assert [len(batch) for batch in sent] == [100, 100, 50]
    assert [event_id for batch in sent for event_id in batch] == ids


async def test_a_lonely_event_leaves_after_a_while(server: Server) -> None:
    server.answers = [accepts]
    told = asyncio.Event()
    given = options(server, batches=BatchRules(linger_s=0.01), on_verdict=lambda *_: told.set())
    async with AsyncClient(given) as client:
        client.track(click(1))
        async with asyncio.timeout(5.0):
            await told.wait()
        assert client.figures["accepted"] == 1


async def test_what_a_refused_batch_is_halved_into_is_sent_again_in_its_order(server: Server) -> None:
    server.answers = [says(413), says(503), accepts]
    given = options(server, batches=BatchRules(linger_s=60.0), retries=RetryRules(tries=1, base_s=0.001))
    async with AsyncClient(given) as client:
        ids = [client.track(click(number)) for number in range(4)]
        assert await client.flush(5.0)
        assert client.figures["accepted"] == 4
    *_, last = [[one["event"]["event_id"] for one in body["events"]] for _, _, _, body in server.asked]
    assert last == ids


async def test_each_event_gets_its_verdict(server: Server) -> None:
    async def judges(request: web.Request) -> web.StreamResponse:
        verdicts = [
            {"accepted": one["event"]["item_id"] != "i1", "reason": "" if number != 1 else "out_of_bounds"}
            for number, one in enumerate(request[ASKED]["events"])
        ]
        return web.json_response({"verdicts": verdicts})

    server.answers = [judges]
    found: dict[str, str] = {}

    def note(event: Event, verdict: Verdict) -> None:
        found[event.item_id] = verdict.reason  # type: ignore[attr-defined]
        raise RuntimeError("what callers do must not stop what is sent")

    async with AsyncClient(options(server, on_verdict=note)) as client:
        for number in range(3):
            client.track(click(number))
        assert await client.flush()
    assert found == {"i0": "", "i1": "out_of_bounds", "i2": ""}


async def test_events_are_sent_again_while_the_server_or_its_broker_is_away(server: Server) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        verdicts = [
            {"accepted": number == 0, "reason": "" if number == 0 else "broker_unreachable"}
            for number, _ in enumerate(request[ASKED]["events"])
        ]
        return web.json_response({"verdicts": verdicts})

    server.answers = [says(500), half, accepts]
    verdicts: list[Verdict] = []
    given = options(server, on_verdict=lambda _, verdict: verdicts.append(verdict))
    async with AsyncClient(given) as client:
        for number in range(3):
            client.track(click(number))
        assert await client.flush()
    assert [verdict.accepted for verdict in verdicts] == [True] * 3
    sent = [[one["event"]["item_id"] for one in body["events"]] for _, _, _, body in server.asked]
    assert sent == [["i0", "i1", "i2"], ["i0", "i1", "i2"], ["i1", "i2"]]


async def test_one_bad_event_does_not_take_a_batch_with_it(server: Server) -> None:
    async def strict(request: web.Request) -> web.StreamResponse:
        items = [one["event"]["item_id"] for one in request[ASKED]["events"]]
        return await (says(413)(request) if "i6" in items else accepts(request))

    server.answers = [strict]
    refused: list[str] = []

    def note(event: Event, verdict: Verdict) -> None:
        if not verdict.accepted:
            refused.append(f"{event.item_id} {verdict.reason}")  # type: ignore[attr-defined]

    async with AsyncClient(options(server, on_verdict=note)) as client:
        for number in range(10):
            client.track(click(number))
        assert await client.flush()
        assert client.figures["accepted"] == 9
    assert refused == ["i6 refused"]


async def test_a_full_queue_refuses_what_comes_and_closing_tells_what_is_left(server: Server) -> None:
    server.answers = [says(503)]
    reasons: list[str] = []
    given = options(
        server,
        batches=BatchRules(queue=3, close_s=0.1),
        on_verdict=lambda _, verdict: reasons.append(verdict.reason),
    )
    client = AsyncClient(given)
    for number in range(5):
        client.track(click(number))
    assert reasons == ["queue_full"] * 2
    assert await client.close() == 3
    assert reasons[2:] == ["not_sent"] * 3
    with pytest.raises(ClosedError):
        client.track(click(9))


async def test_what_is_too_old_is_given_up(server: Server) -> None:
    server.answers = [says(503)]
    reasons: list[str] = []
    given = options(
        server,
        batches=BatchRules(life_s=0.05),
        on_verdict=lambda _, verdict: reasons.append(verdict.reason),
    )
    async with AsyncClient(given) as client:
        client.track(click(1))
        assert await client.flush(10.0)
    assert reasons == ["gave_up"]


async def test_what_clients_may_not_say_is_refused_where_it_is_said(server: Server) -> None:
    async with AsyncClient(options(server)) as client:
        with pytest.raises(TypeError, match="Decision"):
            client.track(Decision.__new__(Decision))


# -- the visitor's own clicks


async def test_the_next_answer_waits_for_the_visitors_own_events(server: Server) -> None:
    async def both(request: web.Request) -> web.StreamResponse:
        return await (accepts if request.path == "/v1/events" else says(200, SLATE))(request)

    server.answers = [both]
    async with AsyncClient(options(server, batches=BatchRules(linger_s=30.0))) as client:
        slate = await client.recommend(ASK)
        client.track(click(0))
        client.track(shown(slate, session_id="ann"))
        asked_wait = RecommendationRequest(session_id="ann", wait_ms=1000)
        assert not (await client.recommend(asked_wait)).stale
        await client.recommend(ASK)
        await client.recommend(RecommendationRequest(session_id="bob"))
    paths = [path for _, path, _, _ in server.asked]
    assert paths == ["/v1/recommendations", "/v1/events"] + ["/v1/recommendations"] * 3
    after = [body.get("after") for _, path, _, body in server.asked if path == "/v1/recommendations"]
    assert after == [None, "hw.clicks/2/0,hw.impressions/2/1", None, None]


async def test_an_answer_is_stale_while_the_visitors_event_has_not_left(server: Server) -> None:
    async def slowly(request: web.Request) -> web.StreamResponse:
        return await (hangs(30.0) if request.path == "/v1/events" else says(200, SLATE))(request)

    server.answers = [slowly]
    async with AsyncClient(options(server, batches=BatchRules(close_s=0.05))) as client:
        client.track(click(0))
        assert (await client.recommend(ASK)).stale
        assert not (await client.recommend(RecommendationRequest(session_id="bob"))).stale


async def test_reading_own_clicks_can_be_turned_off(server: Server) -> None:
    server.answers = [accepts, says(200, SLATE)]
    async with AsyncClient(options(server, read_your_clicks=False)) as client:
        await client.publish([click(0)])
        await client.recommend(ASK)
    assert "after" not in server.asked[-1][3]


# -- without asyncio


async def test_the_blocking_client_does_the_same_from_many_threads(server: Server) -> None:
    async def both(request: web.Request) -> web.StreamResponse:
        return await (accepts if request.path == "/v1/events" else says(200, SLATE))(request)

    server.answers = [both]

    def use(client: Client, number: int) -> str:
        request = RecommendationRequest(session_id=f"v{number}")
        slate = client.recommend(request)
        client.track(clicked(slate, "a", session_id=f"v{number}"))
        return client.recommend(request).items[0].item_id

    with Client(options(server)) as client:
        found = await asyncio.gather(*(asyncio.to_thread(use, client, number) for number in range(16)))
        assert await asyncio.to_thread(client.flush)
        assert client.figures["accepted"] == 16
        await asyncio.to_thread(client.close)
    assert found == ["a"] * 16
    with pytest.raises(ClosedError):
        client.track(click(0))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_script_that_ends_sends_what_it_has_queued(server: Server, host: str) -> None:
    server.answers = [accepts]
    script = (
        "import sys; from serving.client import *\n"
        "client = Client(ClientOptions(url=sys.argv[1], batches=BatchRules(linger_s=60.0)))\n"
        "client.track(clicked(None, 'a', session_id='s'))\n"
    )
    url = server.url.replace("127.0.0.1", host)
    done = await asyncio.create_subprocess_exec(sys.executable, "-c", script, url)
    assert await done.wait() == 0
    assert len(server.asked) == 1


async def test_a_forked_process_gets_a_thread_of_its_own(server: Server) -> None:
    server.answers = [says(200, SLATE)]
    script = (
        "import os, sys; from serving.client import *\n"
        "client = Client(ClientOptions(url=sys.argv[1]))\n"
        "ask = RecommendationRequest(session_id='s')\n"
        "client.recommend(ask)\n"
        "child = os.fork()\n"
        "client.recommend(ask)\n"
        "sys.exit(0 if not child else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = await asyncio.create_subprocess_exec(sys.executable, "-c", script, server.url)
    async with asyncio.timeout(20.0):
        assert await done.wait() == 0
    assert len(server.asked) == 3


def test_the_client_loads_nothing_heavy() -> None:
    heavy = ("numpy", "scipy", "faust", "river", "redis", "aiokafka", "litestar", "uvicorn", "numba")
    script = f"import sys, serving.client; sys.exit(' '.join(n for n in {heavy} if n in sys.modules) or 0)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "given", [{"url": "shop"}, {"url": "http://x", "deadline_s": 0}, {"url": "http://x", "events_s": -1.0}]
)
def test_an_option_that_cannot_be_meant_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="wished"):
        ClientOptions(**given)
    with pytest.raises(ValueError, match="wished"):
        BatchRules(size=501)
    with pytest.raises(ValueError, match="wished"):
        RetryRules(tries=0)
