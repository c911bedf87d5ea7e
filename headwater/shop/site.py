"""The shop's own small server: one page, and what it asks for; recommendations come through the client."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import msgspec
from aiohttp import web

from headwater.shop.visits import Act, Visits, new_session, request_of
from serving.client import AsyncClient, ClientError, ClientOptions, RefusedError, Slate

COOKIE = "shop-session"
NOT_FOUND = 404
_WHY_TRIES, _WHY_PAUSE_S = 8, 0.25
_SESSION = re.compile(r"shop-[0-9a-f]{24}")
_PAGE = {
    "/": ("shop.html", "text/html"),
    "/shop.js": ("shop.js", "text/javascript"),
    "/shop.css": ("shop.css", "text/css"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """Serves the page and answers it.

    Parameters
    ----------
    options
        Of the client.
    """

    def __init__(self, options: ClientOptions) -> None:
        self._options, self._visits = options, Visits()

    def application(self) -> web.Application:
        """Return the web application."""
        app = web.Application(middlewares=[_guarded], client_max_size=16_384)
        app.cleanup_ctx.append(self._with_client)
        for path, (name, kind) in _PAGE.items():
            app.router.add_get(path, _file(name, kind))
        app.router.add_post("/slate", self.slate)
        app.router.add_post("/shown", self.shown)
        app.router.add_post("/act", self.act)
        app.router.add_get("/why", self.why)
        return app

    async def _with_client(self, _: web.Application) -> AsyncIterator[None]:
        async with AsyncClient(self._options) as self._client:
            yield

    async def slate(self, request: web.Request) -> web.Response:
        """Answer with a visitor's slate."""
        return await self._slate(_session(request))

    async def _slate(self, session_id: str) -> web.Response:
        began = time.perf_counter()
        slate: Slate = await self._client.recommend(request_of(session_id))
        self._visits.put(session_id, slate)
        took_ms = round(1000 * (time.perf_counter() - began), 1)
        return _json({"slate": slate, "took_ms": took_ms}, session_id)

    async def shown(self, request: web.Request) -> web.Response:
        """Take in that the page shows its slate."""
        session_id = _session(request)
        for event in self._visits.shown(session_id):
            self._client.track(event)
        return _json({}, session_id)

    async def act(self, request: web.Request) -> web.Response:
        """Take in what a visitor did, and answer with the slate that follows from it."""
        session_id = _session(request)
        try:
            event = self._visits.acted(session_id, msgspec.json.decode(await request.read(), type=Act))
        except (ValueError, msgspec.DecodeError) as error:
            return _problem(400, str(error))
        self._client.track(event)
        return await self._slate(session_id)

    async def why(self, request: web.Request) -> web.Response:
        """Answer why an item stands where it stands."""
        decision, item = (request.query.get(name, "") for name in ("decision_id", "item_id"))
        path = f"/v1/decisions/{quote(decision, safe='')}/why"
        for _ in range(_WHY_TRIES):
            try:
                found = await self._client.call("GET", path, dict[str, Any], query={"item_id": item})
            except RefusedError as error:
                if error.problem.status != NOT_FOUND:
                    raise
                missing = error
                await asyncio.sleep(_WHY_PAUSE_S)  # a decision is folded a moment after its answer
            else:
                return _json(found, _session(request))
        raise missing


@web.middleware
async def _guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Take writes from the page alone, and say in words what the client met."""
    if request.method == "POST" and request.content_type != "application/json":
        return _problem(415, "content-type is not application/json")
    try:
        answer = await handler(request)
    except RefusedError as error:
        answer = _problem(error.problem.status, str(error))
    except ClientError as error:
        answer = _problem(503, str(error))
    answer.headers.update(_HEADERS)
    return answer


def _file(name: str, kind: str) -> Handler:
    raw = files("headwater.shop").joinpath(name).read_bytes()

    async def send(_: web.Request) -> web.Response:
        return web.Response(body=raw, content_type=kind, charset="utf-8")

    return send


def _session(request: web.Request) -> str:
    """Return whose request it is; somebody new where the cookie is none of ours."""
    held = request.cookies.get(COOKIE, "")
    return held if _SESSION.fullmatch(held) else new_session()


def _json(body: Any, session_id: str) -> web.Response:
    answer = web.Response(body=msgspec.json.encode(body), content_type="application/json")
    answer.set_cookie(COOKIE, session_id, httponly=True, samesite="Strict", max_age=86_400)
    return answer


def _problem(status: int, detail: str) -> web.Response:
    return web.Response(
        status=status, body=msgspec.json.encode({"detail": detail}), content_type="application/json"
    )
