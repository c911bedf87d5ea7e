"""The door of the server, ahead of every route: who calls, what they may do, how often, how many at once."""

import ipaddress
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

import msgspec

from serving.admission import Admission
from serving.callers import CALLER, Caller, WatchedKeys, anybody
from serving.problems import MEDIA_TYPE, Problem
from serving.scopes import ALIVE, RECOMMENDATIONS, needed
from state.decoding import shorten
from state.settings import Settings, SettingsError
from state.tracing import INCOMING, read_parent

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]
Header = tuple[bytes, bytes]
MOST_OTHERS = 64
"""Requests in flight of all other routes together: some wait for the broker, some read a lot."""
_LONGEST_HOST = 300
HEADERS = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
]
STRICT_TRANSPORT = ("strict-transport-security", "max-age=31536000")
_WHY = {401: "unauthenticated", 403: "forbidden", 429: "too_often", 503: "overloaded"}


class Turned(Exception):  # noqa: N818 - what happens to a request, not a failure of ours
    """A request that is turned away.

    Parameters
    ----------
    status, title, detail
        Of the answer.
    headers
        Beside those of every answer.
    """

    def __init__(self, status: int, title: str, detail: str, headers: list[Header]) -> None:
        super().__init__(detail)
        self.status, self.title, self.headers = status, title, headers

    def body(self) -> bytes:
        """Return the problem document."""
        return msgspec.json.encode(Problem("about:blank", self.title, self.status, str(self)))


class Guard:
    """Decides who comes in.

    Parameters
    ----------
    settings
        Of the server.

    Attributes
    ----------
    keys
        Who may call; None where the server runs open.
    recommendations, others
        How many requests are let in at once.
    turned
        Why -> requests turned away.
    is_draining
        Whether the server is about to stop.
    is_tracing
        Whether requests may be parts of traces.
    """

    def __init__(self, settings: Settings) -> None:
        self.keys = WatchedKeys(settings) if settings.keys_file else None
        self._anybody = anybody(settings, time.monotonic())
        self._must_be_local = self.keys is None and is_loopback(settings.host)
        self.recommendations = Admission(settings.max_in_flight)
        self.others = Admission(MOST_OTHERS)
        self.turned: Counter[str] = Counter()
        self.is_draining = False
        self.is_tracing = settings.trace_share > 0

    def admit(self, scope: Any) -> tuple[Caller, Admission | None]:
        """Return who calls, and where the request has to be counted out when it is answered.

        Raises
        ------
        Turned
            If it may not come in.
        """
        path = scope["path"]
        try:
            caller = self._caller(scope, path, dict(scope["headers"]))
            if path in ALIVE:
                return caller, None
            self._take_token(caller)
            return caller, self._enter(path)
        except Turned as turned:
            self.turned[_WHY[turned.status]] += 1
            raise

    def _caller(self, scope: Any, path: str, headers: dict[bytes, bytes]) -> Caller:
        if self.keys is None:
            if self._must_be_local:
                _refuse_strangers(headers)
            return self._anybody
        wanted = needed(scope["method"], path)
        if wanted is None:
            return self._anybody
        caller = self.keys.callers.find(_presented(headers), time.time_ns() // 1_000_000)
        if caller is None:
            detail = (
                "no valid key; wished: 'Authorization: Bearer KEY', of a key that is neither over nor revoked"
            )
            raise Turned(401, "Unauthenticated", detail, [(b"www-authenticate", b"Bearer")])
        if not caller.may(wanted):
            detail = f"key '{caller.name}' has scopes {sorted(caller.allowed)}; wished: '{wanted}'"
            raise Turned(403, "Forbidden", detail, [])
        return caller

    @staticmethod
    def _take_token(caller: Caller) -> None:
        wait_s = 0.0 if caller.bucket is None else caller.bucket.take(time.monotonic())
        if wait_s:
            detail = (
                f"'{caller.name or 'anybody'}' asks too often; wished: the next request in {wait_s:.3f} s"
            )
            raise Turned(429, "Too many requests", detail, [_retry_after(wait_s)])

    def _enter(self, path: str) -> Admission:
        admission = self.recommendations if path == RECOMMENDATIONS else self.others
        if not admission.enter():
            detail = f"{admission.limit} requests are being answered; wished: this one again, a little later"
            raise Turned(503, "Overloaded", detail, [_retry_after(1.0)])
        return admission


def _presented(headers: dict[bytes, bytes]) -> bytes:
    """Return the key a request shows, in the header of either of the two habits."""
    given = headers.get(b"authorization")
    if given is None:
        return headers.get(b"x-api-key", b"")
    return given[7:].strip() if given[:7].lower() == b"bearer " else b""


def _retry_after(wait_s: float) -> Header:
    return b"retry-after", str(max(1, math.ceil(wait_s))).encode()


def _refuse_strangers(headers: dict[bytes, bytes]) -> None:
    """Refuse what a web page elsewhere sends through the browser of whoever runs an open server."""
    for header in (b"host", b"origin"):
        named = headers.get(header)
        if named and not _is_local(named[:_LONGEST_HOST]):
            shown = shorten(named[:_LONGEST_HOST].decode("latin-1"))
            detail = f"header '{header.decode()}' has value {shown}; wished: a loopback name, without keys"
            raise Turned(403, "Forbidden", detail, [])


@lru_cache(maxsize=256)
def _is_local(named: bytes) -> bool:
    """Return whether a Host or Origin header names this machine; ``null`` does not."""
    host = named.decode("latin-1").rpartition("://")[2]
    return is_loopback(host.partition("]")[0][1:] if host.startswith("[") else host.partition(":")[0])


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def refuse_open(settings: Settings) -> None:
    """Refuse to serve everybody who can reach this machine unless that is wished.

    Raises
    ------
    SettingsError
        If the server would listen beyond loopback without keys.
    """
    if settings.keys_file or settings.allow_open or is_loopback(settings.host):
        return
    raise SettingsError(
        f"setting HEADWATER_HOST has value {settings.host!r} and HEADWATER_KEYS_FILE none; wished: a file of "
        "keys (`headwater keys create`), a loopback address, or HEADWATER_ALLOW_OPEN=true to go without keys"
    )


def guarded(app: Application, guard: Guard) -> Application:
    """Return the application behind the guard; ``scope["state"]["caller"]`` is who calls."""

    async def run(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        try:
            caller, admission = guard.admit(scope)
        except Turned as turned:
            await _turn_away(send, turned)
            return
        scope["state"]["caller"] = caller
        if guard.is_tracing:
            INCOMING.set(read_parent(dict(scope["headers"]).get(b"traceparent")))
        if admission is not guard.recommendations:
            CALLER.set(caller)
        if admission is None:
            await app(scope, receive, send)
            return
        try:
            await app(scope, receive, send)
        finally:
            admission.leave()

    return run


async def _turn_away(send: Send, turned: Turned) -> None:
    body = turned.body()
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        *turned.headers,
    ]
    await send({"type": "http.response.start", "status": turned.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
