"""Idempotency keys: a write sent again is answered again and not done again."""

import asyncio
from typing import Any

import pytest

from serving.etags import version_of
from serving.idempotency import LONGEST, MOST, MOST_BYTES, Idempotency, change_id
from serving.problems import BadRequest


class Server:
    """An application that counts what it did, and answers with the count."""

    def __init__(self, status: int = 200) -> None:
        self.status, self.done = status, 0
        self.ids: list[str] = []
        self.held: asyncio.Event | None = None

    async def __call__(self, _: Any, receive: Any, send: Any) -> None:
        await receive()
        self.done += 1
        self.ids.append(change_id("exploration/home"))
        if self.held is not None:
            await self.held.wait()
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": str(self.done).encode(), "more_body": False})


async def ask(
    app: Any,
    key: bytes | None = b"k",
    body: bytes = b"{}",
    method: str = "PUT",
    path: str = "/v1/x",
    **more: bytes,
) -> tuple[int, bytes]:
    headers = [] if key is None else [(b"idempotency-key", key)]
    headers += [(name.encode(), value) for name, value in more.items()]
    sent: list[Any] = []
    parts = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        return next(parts)

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


async def test_the_same_key_and_body_is_answered_again_and_done_once() -> None:
    server = Server()
    app = Idempotency(server)
    assert [await ask(app) for _ in range(3)] == [(200, b"1")] * 3
    assert server.done == 1
    assert (await ask(app, None))[1] == b"2"
    assert (await ask(app, b"another"))[1] == b"3"
    assert (await ask(app, path="/v1/y"))[1] == b"4"
    assert (await ask(app, authorization=b"of somebody else"))[1] == b"5"


async def test_the_same_key_for_something_else_is_refused() -> None:
    app = Idempotency(Server())
    await ask(app)
    status, body = await ask(app, body=b'{"rate": 1}')
    assert (status, b"Idempotency-Key" in body) == (422, True)
    for wrong in (b"", b"x" * 129, b"with space", "é".encode()):
        assert (await ask(app, wrong))[0] == 400


@pytest.mark.parametrize("status", [500, 503, 409, 400])
async def test_what_went_wrong_may_be_tried_again(status: int) -> None:
    server = Server(status)
    app = Idempotency(server)
    await ask(app)
    server.status = 200
    assert await ask(app) == (200, b"2")


async def test_the_same_key_at_the_same_time_waits_for_the_first() -> None:
    server = Server()
    server.held = asyncio.Event()
    app = Idempotency(server)
    asking = [asyncio.create_task(ask(app)) for _ in range(5)]
    await asyncio.sleep(0.01)
    server.held.set()
    assert await asyncio.gather(*asking) == [(200, b"1")] * 5


async def test_reads_and_questions_are_left_alone_and_only_so_many_answers_are_kept() -> None:
    server = Server()
    app = Idempotency(server)
    for _ in range(2):
        await ask(app, method="GET")
        await ask(app, method="POST", path="/v1/recommendations")
    assert server.done == 4
    for number in range(MOST + 5):
        await ask(app, str(number).encode())
    assert len(app._kept) == MOST


async def test_a_change_is_named_by_key_body_and_document_so_that_every_server_names_it_alike() -> None:
    first, second = Server(), Server()
    await ask(Idempotency(first))
    await ask(Idempotency(second))
    await ask(Idempotency(second), body=b"{ }")
    await ask(Idempotency(second), None)
    assert first.ids[0] == second.ids[0] != second.ids[1]
    assert second.ids[2] == ""
    assert change_id("exploration/home") == ""


def test_a_version_is_read_from_its_header_and_nonsense_is_a_bad_request() -> None:
    assert [version_of(text) for text in (None, "*", '"3"', "3", ' "12" ')] == [None, None, 3, 3, 12]
    for wrong in ("²", '"²"', "1" * 5_000, "-1", "one", '""', "", "٣"):
        with pytest.raises(BadRequest, match="If-Match"):
            version_of(wrong)


async def test_those_who_waited_for_what_failed_try_it_one_at_a_time() -> None:
    class FailsFirst(Server):
        inside = most = 0

        async def __call__(self, _: Any, receive: Any, send: Any) -> None:
            self.inside += 1
            self.most = max(self.most, self.inside)
            await asyncio.sleep(0)
            self.status = 200 if self.done else 503
            await super().__call__(_, receive, send)
            self.inside -= 1

    server = FailsFirst()
    app = Idempotency(server)
    answers = await asyncio.gather(*(ask(app) for _ in range(3)))
    assert sorted(answers) == [(200, b"2"), (200, b"2"), (503, b"1")]
    assert server.most == 1


async def test_answers_are_forgotten_by_their_bytes_and_what_is_under_way_is_not() -> None:
    class Long(Server):
        async def __call__(self, _: Any, __: Any, send: Any) -> None:
            self.done += 1
            if self.held is not None:
                await self.held.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * LONGEST, "more_body": False})

    server = Long()
    app, fit = Idempotency(server), MOST_BYTES // LONGEST
    gate = server.held = asyncio.Event()
    slow = asyncio.create_task(ask(app, b"slow"))
    await asyncio.sleep(0)
    server.held = None
    for number in range(fit + 1):
        await ask(app, f"k{number}".encode())
    again = asyncio.create_task(ask(app, b"slow"))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(slow, again)
    assert server.done == fit + 2
    await ask(app, b"k0")
    assert server.done == fit + 3
