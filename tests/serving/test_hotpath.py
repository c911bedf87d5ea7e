"""The route answered ahead of the framework: same answers, same refusals."""

import json
from typing import Any

import anyio
import pytest
from litestar import Litestar
from litestar.exceptions import HTTPException, ValidationException

from serving.api import routes
from serving.hotpath import LONGEST, PATH, with_hot_path
from serving.problems import on_crash, on_http_error, on_validation_error
from serving.requests import RecommendationAnswer, RecommendationRequest, RecommendedItem

pytestmark = pytest.mark.filterwarnings(
    "ignore::litestar.exceptions.base_exceptions.LitestarDeprecationWarning"
)
JSON = [(b"content-type", b"application/json")]


class Echo:
    """Answers with what it was asked."""

    async def recommend(self, request: RecommendationRequest) -> RecommendationAnswer:
        if request.surface == "broken":
            raise RuntimeError
        items = [RecommendedItem(f"i{n}", n, "ü", "new", 0.1 + n, explored=True) for n in range(request.k)]
        return RecommendationAnswer(request.session_id, "t", request.surface, "trend", items, 1, 2, 3, 4)


def framework() -> Litestar:
    handlers: dict[Any, Any] = {
        ValidationException: on_validation_error,
        HTTPException: on_http_error,
        Exception: on_crash,
    }
    app = Litestar([routes()], exception_handlers=handlers, request_max_body_size=2_000_000)
    app.state.recommender = Echo()
    return app


async def asked(app: Any, method: str, headers: Any, parts: list[bytes], path: str = PATH) -> Any:
    """Return status, content type and body of an answer to a body that comes in parts."""
    waiting = [
        {"type": "http.request", "body": part, "more_body": n + 1 < len(parts)}
        for n, part in enumerate(parts)
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    size = str(sum(map(len, parts))).encode()
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(b"host", b"h"), (b"content-length", size), *headers], "http_version": "1.1",
        "scheme": "http", "server": ("h", 1), "client": ("c", 2), "root_path": "", "state": {},
        "asgi": {"version": "3.0"}, "extensions": {},
    }  # fmt: skip
    await app(scope, receive, send)
    kind = dict(sent[0]["headers"])[b"content-type"]
    return sent[0]["status"], kind, b"".join(message.get("body", b"") for message in sent[1:])


def body(**given: Any) -> bytes:
    return json.dumps({"session_id": "s", **given}).encode()


@pytest.mark.parametrize(
    ("method", "headers", "parts", "status"),
    [
        ("POST", JSON, [body(k=3)], 200),
        ("POST", [], [body(k=3)], 200),
        ("POST", JSON, [body(k=3)[:9], body(k=3)[9:]], 200),
        ("POST", [(b"content-type", b"application/json; charset=utf-8")], [body()], 200),
        ("POST", JSON, [body(recent_items=[f"{n:>2000}" for n in range(50)])], 400),
        ("POST", JSON, [b" " * LONGEST, body(k=2)], 200),
        ("POST", JSON, [body(k=51)], 400),
        ("POST", JSON, [body(colour="red")], 400),
        ("POST", JSON, [b"{}"], 400),
        ("POST", JSON, [b"[" * 100], 400),
        ("POST", JSON, [b"\xff\xfe"], 400),
        ("POST", JSON, [b""], 400),
        ("POST", JSON, [body(surface="broken")], 500),
        ("PUT", JSON, [body()], 405),
        ("GET", [], [b""], 400),
    ],
)
def test_every_answer_is_the_frameworks(method: str, headers: Any, parts: list[bytes], status: int) -> None:
    plain, app = framework(), with_hot_path(framework())
    got = anyio.run(asked, app, method, headers, parts)
    assert got == anyio.run(asked, plain, method, headers, parts)
    assert got[0] == status


def test_other_routes_are_the_frameworks() -> None:
    got = anyio.run(asked, with_hot_path(framework()), "GET", [], [b""], "/healthz")
    assert got == (200, b"application/json", b'{"status":"ok"}')
