"""Writes that are sent again do nothing again: the header ``Idempotency-Key``.

The answer to a write that went well is kept for a while, and given again to the same caller with the same key
and body; meanwhile others with the key wait for it. Another server knows nothing of that, but names what it
would change by the key as well: a change of settings with a name that is known is not made twice, and events
have ids of their own.
"""

import asyncio
import hashlib
import re
from collections import OrderedDict
from contextvars import ContextVar
from typing import Any

import msgspec
from litestar.status_codes import HTTP_400_BAD_REQUEST, HTTP_422_UNPROCESSABLE_ENTITY
from msgspec import Struct

from serving.problems import MEDIA_TYPE, Problem

MOST, MOST_BYTES, LONGEST = 10_000, 8_000_000, 65_536
"""Answers that are kept, and their bytes in all, the oldest go first; longer ones are not."""
_HEADER = b"idempotency-key"
_KEY = re.compile(rb"[\x21-\x7e]{1,128}")
_CREDENTIALS = (b"authorization", b"x-api-key")
_WRITES = ("POST", "PUT", "DELETE")
_NO_WRITES = ("/v1/recommendations",)
_given: ContextVar[str] = ContextVar("idempotency key and body", default="")


def change_id(name: str) -> str:
    """Return the id of a change under the key of the request that is answered; empty where it has none."""
    given = _given.get()
    return hashlib.blake2b(f"{name}|{given}".encode(), digest_size=16).hexdigest() if given else ""


class _Kept(Struct):
    """What was asked under a key, and the messages it was answered with."""

    body: bytes
    messages: list[Any]
    is_done: asyncio.Event


class Idempotency:
    """ASGI middleware.

    Parameters
    ----------
    app
        What answers.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._bytes = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, or give the answer again."""
        key = _key_of(scope)
        if key is None:
            await self._app(scope, receive, send)
        elif not _KEY.fullmatch(key):
            detail = "header 'Idempotency-Key' is not 1 to 128 visible ASCII characters"
            await _refuse(send, HTTP_400_BAD_REQUEST, "Bad request", detail)
        else:
            await self._once(key, (scope, receive, send))

    async def _once(self, key: bytes, asked: tuple[Any, Any, Any]) -> None:
        scope, receive, send = asked
        messages, body = await _read(receive)
        place = b"|".join([scope["method"].encode(), scope["path"].encode(), key, _caller(scope)])
        digest = hashlib.blake2b(body + scope.get("query_string", b""), digest_size=16).digest()
        while (held := self._kept.get(place)) is not None:
            if held.body != digest:
                detail = "header 'Idempotency-Key' was used for another request; wished: a key of its own"
                await _refuse(send, HTTP_422_UNPROCESSABLE_ENTITY, "Key used before", detail)
                return
            await held.is_done.wait()
            for message in held.messages:
                await send(message)
            if held.messages:
                return
        await self._answer(place, digest, (scope, _again(messages, receive), send))

    async def _answer(self, place: bytes, digest: bytes, asked: tuple[Any, Any, Any]) -> None:
        scope, receive, send = asked
        kept = self._kept[place] = _Kept(digest, [], asyncio.Event())
        given = _given.set(f"{place.hex()}{digest.hex()}")
        said: list[Any] = []

        async def note(message: Any) -> None:
            said.append(message)
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            _given.reset(given)
            if _is_worth_keeping(said):
                kept.messages = said
                self._bytes += _length(said)
            else:
                del self._kept[place]
            kept.is_done.set()
            self._make_room()

    def _make_room(self) -> None:
        """Forget the oldest answers; what is under way stays, or it would be done twice."""
        while len(self._kept) > MOST or self._bytes > MOST_BYTES:
            oldest = next((place for place, one in self._kept.items() if one.is_done.is_set()), None)
            if oldest is None:
                return
            self._bytes -= _length(self._kept.pop(oldest).messages)


def _key_of(scope: Any) -> bytes | None:
    if scope["type"] != "http" or scope["method"] not in _WRITES or scope["path"] in _NO_WRITES:
        return None
    return next((value for name, value in scope["headers"] if name == _HEADER), None)


def _caller(scope: Any) -> bytes:
    """Return what tells callers apart: nobody is given another's answer."""
    said = [value for name, value in scope["headers"] if name in _CREDENTIALS]
    return hashlib.blake2b(b"|".join(said), digest_size=16).digest()


def _is_worth_keeping(said: list[Any]) -> bool:
    """Return whether an answer is whole, short, and of a write that went well."""
    if not said or not 200 <= said[0].get("status", 0) < 300 or said[-1].get("more_body", False):
        return False
    return _length(said) <= LONGEST


def _length(said: list[Any]) -> int:
    return sum(len(message.get("body", b"")) for message in said)


async def _read(receive: Any) -> tuple[list[Any], bytes]:
    messages = [await receive()]
    while messages[-1].get("more_body", False):
        messages.append(await receive())
    return messages, b"".join([message.get("body", b"") for message in messages])


def _again(messages: list[Any], receive: Any) -> Any:
    read = iter(messages)

    async def run() -> Any:
        message = next(read, None)
        return message if message is not None else await receive()

    return run


async def _refuse(send: Any, status: int, title: str, detail: str) -> None:
    body = msgspec.json.encode(Problem("about:blank", title, status, detail, "Idempotency-Key"))
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
