"""The route that is asked all the time, answered ahead of the framework unless something is unusual."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from litestar import Litestar

from serving.requests import RecommendationAnswer, RecommendationRequest
from serving.service import Recommender

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]
PATH = "/v1/recommendations"
LONGEST = 65_536
_decoder = msgspec.json.Decoder(RecommendationRequest)
_encoder = msgspec.json.Encoder()


def with_hot_path(app: Litestar) -> Application:
    """Return the application with its recommendations answered directly.

    Whatever is out of the ordinary (another content type, a long or broken body, a failure) is handed to the
    framework as it came, so documents, refusals and errors are those of its own route.
    """

    async def run(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or not _is_plain(scope):
            await app(scope, receive, send)
            return
        messages, body = await _read(receive)
        answer = await _answer(app.state.recommender, body)
        if answer is None:
            await app(scope, _again(messages, receive), send)
        else:
            await _send(send, _encoder.encode(answer))

    return run


def _is_plain(scope: Any) -> bool:
    """Return whether this is a POST of JSON."""
    if scope["method"] != "POST":
        return False
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    return not kinds or kinds == [b"application/json"]


async def _read(receive: Receive) -> tuple[list[Any], bytes]:
    messages, parts, size = [await receive()], list[bytes](), 0
    while True:
        parts.append(messages[-1].get("body", b""))
        size += len(parts[-1])
        if not messages[-1].get("more_body", False) or size > LONGEST:
            return messages, b"".join(parts)
        messages.append(await receive())


async def _answer(recommender: Recommender, body: bytes) -> RecommendationAnswer | None:
    if len(body) > LONGEST:
        return None
    try:
        return await recommender.recommend(_decoder.decode(body))
    except Exception:  # the framework meets it again, and answers and logs it as it does everywhere
        return None


def _again(messages: list[Any], receive: Receive) -> Receive:
    """Return a receiver that hands out what was read already, then goes on."""
    read = iter(messages)

    async def run() -> Any:
        message = next(read, None)
        return message if message is not None else await receive()

    return run


async def _send(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
