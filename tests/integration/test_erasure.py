"""To be forgotten, to see what is stored, to refuse: a running engine, over HTTP and by the command line."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from serving.requests import RecommendationAnswer
from state.clients import redis_client
from state.erasure import ErasureKeys, read_erasures
from state.events import Click, DeadLetter, User
from state.keys import unit_prefix
from state.receipts import Receipt, decode_receipt, mark_rebuilt, verifies
from state.settings import Settings
from tests.integration.rig import (
    Rig,
    click_on,
    feedback_on,
    impression_of,
    is_alive,
    make_items,
    stamp,
    until,
)

GENRES = ("drama", "comedy", "crime")


@pytest.fixture
async def engine(rig: Rig) -> Rig:
    await rig.start()
    await rig.catalogue(make_items(GENRES, 10))
    return rig


async def contents(settings: Settings) -> dict[str, bytes]:
    """Return every key of the namespace with all its raw bytes."""
    read: dict[Any, Any] = {
        b"string": lambda r, key: r.get(key),
        b"hash": lambda r, key: r.hgetall(key),
        b"list": lambda r, key: r.lrange(key, 0, -1),
        b"zset": lambda r, key: r.zrange(key, 0, -1),
        b"stream": lambda r, key: r.xrange(key),
    }
    async with redis_client(settings, timeout_s=10.0) as redis:
        found: dict[str, bytes] = {}
        async for key in redis.scan_iter(match=f"{{{settings.namespace}:*", count=1_000):
            found[key.decode()] = b"\n".join(flat(await read[await redis.type(key)](redis, key)))
        return found


def flat(value: Any) -> list[bytes]:
    if isinstance(value, dict):
        return flat([*value, *value.values()])
    if isinstance(value, list | tuple):
        return [part for one in value for part in flat(one)]
    return [value if isinstance(value, bytes) else str(value).encode()]


async def traces(rig: Rig, words: Sequence[str]) -> list[tuple[str, str]]:
    """Return which words which keys hold once every outbox is sent.

    Words are long: two letters turn up in packed numbers and digests by themselves.
    """
    await until(rig.is_sent, "every outbox is sent")
    held = await contents(rig.settings)
    return [(key, word) for key, raw in held.items() for word in words if word.encode() in key.encode() + raw]


async def visit(rig: Rig, user: str) -> list[str]:
    """Ask, show, click, hide; returns the ids of the decisions."""
    answer = await rig.ask(user, k=3)
    first = answer.items[0].item_id
    await rig.publish(impression_of(user, answer), click_on(user, first, answer.decision))
    await rig.publish(feedback_on(user, answer.items[1].item_id, "hide"))
    return [answer.decision_id]


async def anonymous_visit(rig: Rig, session: str) -> list[str]:
    async with rig.http.post(f"{rig.api}/v1/recommendations", json={"session_id": session, "k": 3}) as got:
        answer = msgspec.json.decode(await got.read(), type=RecommendationAnswer)
    item = answer.items[0].item_id
    await rig.publish(Click(**stamp(), session_id=session, item_id=item, decision=answer.decision))
    return [answer.decision_id]


async def call(rig: Rig, method: str, path: str, **query: Any) -> tuple[int, bytes]:
    async with rig.http.request(method, f"{rig.api}/v1/users/{path}", params=query) as answer:
        return answer.status, await answer.read()


async def erase(rig: Rig, subject: str, **query: Any) -> Receipt:
    status, raw = await call(rig, "DELETE", quote(subject), **query)
    assert status == 200, raw.decode()
    return decode_receipt(raw)


async def test_an_erasure_leaves_nothing_and_its_receipt_says_so(engine: Rig, tmp_path: Path) -> None:
    rig = engine
    decisions = [
        *await visit(rig, "qvictim"),
        *await visit(rig, "qvictim"),
        *await anonymous_visit(rig, "qguest"),
    ]
    others = await visit(rig, "other")
    await rig.counts(decisions=4, impressions=3, clicks=4, feedback=3)
    await rig.publish(User(**stamp(), user_id="qvictim", merge_session="qguest"))
    await rig.counts(users=3)  # the login, and its way to the session's shard and back
    words = ["qvictim", "qguest", *decisions]
    assert {word for _, word in await traces(rig, words)} >= {"qvictim", *decisions}

    status, raw = await call(rig, "GET", "qvictim")
    seen = msgspec.json.decode(raw)
    assert (status, seen["record"]["clicks"], seen["record"]["merged"]) == (200, 3, ["qguest"])
    assert {one["event_id"] for one in seen["decisions"]} == set(decisions[:2])
    assert [one["event_id"] for one in seen["merged_sessions"][0]["decisions"]] == decisions[2:]
    printed = msgspec.json.decode(await rig.command("users", "export", "qvictim", "--events"))
    kinds = [event["topic"].split(".")[1] for event in printed["raw_events"]]
    assert {kind: kinds.count(kind) for kind in ("decisions", "impressions", "clicks", "feedback")} == {
        "decisions": 3,
        "impressions": 2,
        "clicks": 3,
        "feedback": 2,
    }

    receipt = await erase(rig, "qvictim", why="asked by letter")
    assert await traces(rig, words) == []
    assert {word for _, word in await traces(rig, ["other", *others])} == {"other", *others}
    removed = receipt.removed
    assert (removed.records, removed.decisions, removed.sessions, removed.merged_sessions) == (1, 3, 2, 1)
    assert (receipt.why, receipt.rebuilt_at) == ("asked by letter", None)
    status, raw = await call(rig, "GET", "qvictim")
    assert msgspec.json.decode(raw)["record"] is None

    again = await erase(rig, "qvictim")
    status, raw = await call(rig, "GET", "qvictim/receipt", receipt_id=receipt.receipt_id)
    assert (again, decode_receipt(raw)) == (receipt, receipt)
    assert (await call(rig, "GET", "qvictim/receipt", receipt_id="another"))[0] == 404
    assert (await call(rig, "GET", "other/receipt"))[0] == 404
    kept = tmp_path / "receipt.json"
    kept.write_bytes(raw)
    assert "genuine" in await rig.command("users", "verify", str(kept))
    kept.write_bytes(raw.replace(b'"records":1', b'"records":2'))
    with pytest.raises(AssertionError, match="not as it was signed"):
        await rig.command("users", "verify", str(kept))
    await _rebuilt(rig, receipt)


async def _rebuilt(rig: Rig, receipt: Receipt) -> None:
    """After a rebuild the receipt says when it was, and is signed anew."""
    async with redis_client(rig.settings, timeout_s=5.0) as redis:
        prefixes = [unit_prefix(rig.settings.namespace, str(n)) for n in range(rig.settings.shards)]
        assert sum([await mark_rebuilt(redis, prefix, 10**9, receipt.erased_at + 5) for prefix in prefixes])
        assert not any([await mark_rebuilt(redis, prefix, 10**9, 1) for prefix in prefixes])
    now = decode_receipt((await call(rig, "GET", "qvictim/receipt"))[1])
    assert now.rebuilt_at == receipt.erased_at + 5
    assert verifies(now, ErasureKeys(rig.settings.erasure_key()))


async def test_an_anonymous_session_is_erased_by_the_command_line_and_over_http(engine: Rig) -> None:
    rig = engine
    decisions = [*await anonymous_visit(rig, "qguest-a"), *await anonymous_visit(rig, "qguest-b")]
    await rig.counts(decisions=2, clicks=2)
    printed = await rig.command("users", "erase", "s:qguest-a", "--why", "visitor asked")
    assert decode_receipt(printed.encode()).removed.decisions == 1
    assert (await erase(rig, "s:qguest-b")).removed.sessions == 1
    assert await traces(rig, ["qguest-a", "qguest-b", *decisions]) == []
    (verdict,) = await rig.gateway(("users", {**stamp(), "user_id": "s:qc", "erase": True}))
    assert verdict["reason"] == "reserved_id"


async def test_a_worker_killed_around_erasures_erases_all_and_nothing_else(rig: Rig) -> None:
    (worker,) = await rig.start()
    await rig.catalogue(make_items(GENRES, 10))
    victims, others = [f"qvictim-{n}" for n in range(12)], [f"other-{n}" for n in range(4)]
    visits = dict(
        zip([*victims, *others], [await visit(rig, user) for user in victims + others], strict=True)
    )
    await rig.counts(decisions=16, impressions=16, clicks=16, feedback=16)
    before = await rig.epochs()
    async with asyncio.TaskGroup() as group:
        for number, user in enumerate(victims):
            group.create_task(call(rig, "DELETE", user, wait_ms=0))
            if number == len(victims) // 2:
                await asyncio.sleep(0.03)
                worker.send_signal(signal.SIGKILL)
    assert await rig.ended(worker) == -signal.SIGKILL
    second = rig.processes.worker()
    await rig.claimed(since=before)

    async def are_erased() -> bool:
        return all([(await call(rig, "GET", f"{user}/receipt"))[0] == 200 for user in victims])

    await until(are_erased, "every victim has a receipt")
    receipts = [decode_receipt((await call(rig, "GET", f"{user}/receipt"))[1]) for user in victims]
    assert {(r.removed.records, r.removed.decisions, r.removed.sessions) for r in receipts} == {(1, 1, 1)}
    decided = [decision for user in victims for decision in visits[user]]
    assert await traces(rig, ["qvictim", *decided]) == []
    assert {(await rig.subject(user)).clicks for user in others} == {1}
    kept = [decision for user in others for decision in visits[user]]
    assert {word for _, word in await traces(rig, kept)} == set(kept)
    assert is_alive(second)


async def test_who_refuses_consent_leaves_no_trace_whatever_follows(engine: Rig) -> None:
    rig = engine
    decisions = await visit(rig, "qrefuser")
    await rig.counts(decisions=1, clicks=1, impressions=1, feedback=1)
    await rig.gateway(("users", {**stamp(), "user_id": "qrefuser", "consent": "none"}))
    await rig.counts(users=1)
    for _ in range(5):
        answer = await rig.ask("qrefuser", k=3)
        assert answer.items
        decisions.append(answer.decision_id)
        await rig.publish(
            impression_of("qrefuser", answer),
            click_on("qrefuser", answer.items[0].item_id, answer.decision),
            feedback_on("qrefuser", answer.items[1].item_id, "hide"),
        )
    await anonymous_visit(rig, "qlater")
    await rig.publish(
        User(**stamp(), user_id="qrefuser", merge_session="qlater", attributes={"q": "qsecret"})
    )
    await rig.counts(no_consent=15, users=3)
    mark = [key for key, word in await traces(rig, ["qrefuser", "qlater", "qsecret", *decisions]) if word]
    assert [key.rsplit(":", 1)[-1] for key in mark] == ["qrefuser"]
    record = await rig.subject("qrefuser")
    assert (record.consent, record.recent, record.hidden, record.merged) == ("none", [], [], [])
    logged = await rig.events("decisions", 2)  # of before, and of the anonymous visit
    assert {event.event_id for event in logged}.isdisjoint(decisions[1:])


async def test_dead_letters_of_the_erased_are_hidden_from_readers(engine: Rig) -> None:
    rig = engine
    bad = b'{"user_id": "qvictim", "item_id": 7}'
    await rig.send("clicks", bad, b"qvictim", 0)
    await rig.send("clicks", bad.replace(b"qvictim", b"other"), b"other", 0)
    letters: list[DeadLetter] = await rig.events("deadletters", 2)
    await erase(rig, "qvictim")
    async with redis_client(rig.settings, timeout_s=5.0) as redis:
        erasures = await read_erasures(redis, rig.settings)
    assert sorted(erasures.hides(letter) for letter in letters) == [False, True]


async def test_without_a_worker_an_erasure_is_pending_and_bad_ids_are_named(rig: Rig) -> None:
    rig.processes.server()
    await rig.ready(rig.api)
    status, raw = await call(rig, "DELETE", "qvictim", wait_ms=100)
    pending = msgspec.json.decode(raw)
    assert (status, pending["status"]) == (202, "pending")
    assert (await call(rig, "GET", "qvictim/receipt", receipt_id=pending["receipt_id"]))[0] == 404
    rig.processes.worker()

    async def is_there() -> bool:
        query = {"receipt_id": pending["receipt_id"]}
        return (await call(rig, "GET", "qvictim/receipt", **query))[0] == 200

    await until(is_there, "the receipt is there")
    for method, path in (("DELETE", "s:"), ("GET", "x" * 129), ("DELETE", "x" * 129), ("GET", "s:/receipt")):
        status, raw = await call(rig, method, path)
        assert (status, msgspec.json.decode(raw)["field"]) == (400, "user_id")
