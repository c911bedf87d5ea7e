"""Security on a real engine: one worker, and one server with keys and pseudonyms."""

import asyncio
import os
import signal
import ssl
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from headwater.embedded import EmbeddedRuntime
from headwater.processes import free_port
from state.api_keys import SCOPES, Scope, new_key, write_keys
from state.clients import redis_client
from state.keys import subject_key, subject_unit, unit_prefix
from state.partition import shard_of
from state.pseudonyms import Pseudonyms
from state.settings import Settings
from tests.integration.rig import Processes, Rig, engine_settings, make_items, now_ms, stamp, until

SECRET = "kept away from the store"
USER = "anna.personal@example.com"


class Secured:
    """An engine whose server wants keys and whose log is kept.

    Parameters
    ----------
    runtime
        Broker and store.
    folder
        Of the file of keys and the log.
    """

    def __init__(self, runtime: EmbeddedRuntime, folder: Path) -> None:
        self.keys_file, self.log = folder / "keys", folder / "server.log"
        made = {scope: new_key(scope, [scope], now_ms()) for scope in SCOPES}
        self.keys: dict[Scope, str] = {scope: key for scope, (key, _) in made.items()}
        self.kept = [kept for _, kept in made.values()]
        write_keys(self.keys_file, self.kept)
        settings = engine_settings(
            runtime.kafka,
            runtime.redis,
            f"t{uuid.uuid4().hex[:12]}",
            shards=1,
            keys_file=str(self.keys_file),
            pseudonym_secret=SECRET,
            port=free_port(),
            drain_s=1.5,
            log_level="INFO",
        )
        self.processes = Processes(settings)
        self.processes.apis.append(f"http://127.0.0.1:{settings.port}")

    def serve(self) -> None:
        """Start the server."""
        self.processes.children.append(start_server(self.processes.settings, self.log))


def start_server(settings: Settings, log: Path) -> "subprocess.Popen[bytes]":
    """Start a server that writes what it says to a file."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HEADWATER_")}
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "headwater", "serve"],
            env=environment | settings.environment(),
            stderr=file,
            stdout=file,
        )


@pytest.fixture(scope="module")
def secured(runtime: EmbeddedRuntime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One engine for all tests of this file; the last test stops its server."""
    engine = Secured(runtime, tmp_path_factory.mktemp("secured"))
    with engine.processes:
        yield engine


@pytest.fixture
async def rig(secured: Secured) -> AsyncIterator[Rig]:
    """The engine, started by whoever comes first."""
    async with Rig(secured.processes) as rig:
        if not rig.processes.children:
            rig.processes.worker()
            secured.serve()
            await asyncio.gather(rig.claimed(), rig.ready(rig.api))
            await rig.catalogue(make_items(("drama", "jazz"), 10))
        yield rig


async def ask(
    rig: Rig, key: str | None, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any, Any]:
    """Return status, headers and document of an answer."""
    given = {**({} if key is None else {"authorization": f"Bearer {key}"}), **headers}
    async with rig.http.request(method, rig.api + path, json=body, headers=given) as answer:
        raw = await answer.read()
        return answer.status, answer.headers, msgspec.json.decode(raw) if raw[:1] in (b"{", b"[") else raw


def event_of(kind: str, **fields: Any) -> dict[str, Any]:
    return {"events": [{"kind": kind, "event": {**stamp(), **fields}}]}


async def test_nothing_is_written_without_a_key_and_each_scope_writes_its_own(
    rig: Rig, secured: Secured
) -> None:
    click = event_of("clicks", session_id="s", item_id="drama-1")
    writes = [
        ("POST", "/v1/events", click),
        ("PUT", "/v1/exploration/home", {"rate": 0.02}),
        ("POST", "/v1/exploration/home/stop", {}),
        ("PUT", "/v1/exploration-budget", {"cost_per_hour": 5}),
        ("PUT", "/v1/ranking/home", {"diversity": 0.1}),
        ("DELETE", "/v1/users/somebody", None),
    ]
    for method, path, body in writes:
        for key in (None, "hwk_000000000000_" + "a" * 43, secured.keys["read"]):
            status, _, problem = await ask(rig, key, method, path, body)
            assert status == (403 if key == secured.keys["read"] else 401), path
            assert problem["detail"]
    assert (await ask(rig, secured.keys["events"], "POST", "/v1/events", click))[0] == 200
    item = event_of("items", item_id="bought", title="an advertisement")
    (verdict,) = (await ask(rig, secured.keys["events"], "POST", "/v1/events", item))[2]["verdicts"]
    assert (verdict["accepted"], verdict["reason"], verdict["field"]) == (False, "forbidden", "kind")
    erase = event_of("users", user_id="somebody", erase=True)
    (verdict,) = (await ask(rig, secured.keys["events"], "POST", "/v1/events", erase))[2]["verdicts"]
    assert (verdict["accepted"], verdict["reason"], verdict["field"]) == (False, "forbidden", "erase")


async def test_a_key_made_or_ended_by_the_command_counts_within_seconds_and_without_a_restart(
    rig: Rig, secured: Secured
) -> None:
    key = (await rig.command("keys", "create", "late", "--scope", "observe")).splitlines()[0]

    async def opens() -> bool:
        return (await ask(rig, key, "GET", "/v1/stats"))[0] == 200

    async def opens_not() -> bool:
        return (await ask(rig, key, "GET", "/v1/stats"))[0] == 401

    await until(opens, "the new key opens", 5.0)
    assert "late: observe" in await rig.command("keys", "list")
    assert "revoked" in await rig.command("keys", "revoke", "late")
    await until(opens_not, "the revoked key opens nothing", 5.0)
    assert key not in secured.keys_file.read_text()


async def test_every_change_is_on_record_with_the_key_that_asked(rig: Rig, secured: Secured) -> None:
    body = {"rate": 0.07, "changed_by": "somebody else", "why": "a trial"}
    assert (await ask(rig, secured.keys["tune"], "PUT", "/v1/exploration/shelf", body))[0] == 200
    await rig.command("explore", "--surface", "shelf", "--rate", "0.06", "--why", "less")
    _, _, (second, first) = await ask(
        rig, secured.keys["admin"], "GET", "/v1/audit?name=exploration/shelf&limit=5"
    )
    assert (first["principal"], first["changed_by"], first["why"]) == ("key:tune", "somebody else", "a trial")
    assert (first.get("before", 0), first["after"], first["changes"]["rate"]) == (0, 1, ["0.05", "0.07"])
    assert (second["principal"].split(":")[0], second["before"], second["after"]) == ("command", 1, 2)
    printed = await rig.command("audit", "--name", "exploration/shelf")
    assert "key:tune (says somebody else)  version 0 -> 1  [rate 0.05 -> 0.07]: a trial" in printed


async def test_every_answer_has_the_headers_and_none_is_kept(rig: Rig, secured: Secured) -> None:
    body = {"session_id": "s", "k": 3}
    asked = [
        (secured.keys["read"], "POST", "/v1/recommendations", body),
        (None, "GET", "/healthz", None),
        (None, "POST", "/v1/events", body),
    ]
    for key, method, path, given in asked:
        _, headers, _ = await ask(rig, key, method, path, given)
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


async def test_what_is_too_long_too_many_or_too_deep_is_refused_by_its_name(
    rig: Rig, secured: Secured
) -> None:
    events, read = secured.keys["events"], secured.keys["read"]
    many = {"events": [{"kind": "clicks", "event": {}}] * 501}
    status, _, problem = await ask(rig, events, "POST", "/v1/events", many)
    assert (status, problem["field"]) == (400, "events")
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    (verdict,) = (await ask(rig, events, "POST", "/v1/events", event_of("clicks", note=deep)))[2]["verdicts"]
    assert (verdict["reason"], verdict["field"]) == ("too_deep", "note")
    headers = {"authorization": f"Bearer {events}", "content-type": "application/json"}
    large = BytesIO(b'{"events": ["' + b"x" * 2_100_000 + b'"]}')
    async with rig.http.post(f"{rig.api}/v1/events", data=large, headers=headers) as answer:
        assert (answer.status, (await answer.json(content_type=None))["field"]) == (413, "body")
    status, _, problem = await ask(rig, read, "POST", "/v1/recommendations", {"session_id": "s" * 129})
    assert (status, problem["field"]) == (400, "session_id")
    match = {"If-Match": '"' + "9" * 5_000 + '"'}
    status, _, problem = await ask(rig, secured.keys["tune"], "PUT", "/v1/exploration/home", {}, **match)
    assert (status, problem["field"]) == (400, "If-Match")


async def test_a_head_without_end_is_cut_off(rig: Rig) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.settings.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\nlong: ")
    sent = 0
    try:
        while sent < 1_000_000:
            writer.write(b"a" * 10_000)
            await writer.drain()
            sent += 10_000
            await asyncio.sleep(0)
        answer = await reader.read(200)
    except ConnectionError:
        answer = b"HTTP/1.1 431 (the connection was closed before it could be read)"
    writer.close()
    assert answer.startswith(b"HTTP/1.1 431"), answer
    assert (await ask(rig, None, "GET", "/healthz"))[0] == 200


async def test_a_user_id_stands_nowhere_in_store_topics_or_logs_and_is_found_by_it(
    rig: Rig, secured: Secured
) -> None:
    stored = Pseudonyms(SECRET.encode()).of(USER)
    read = {"session_id": "visit", "user_id": USER, "k": 3}
    click = event_of("clicks", session_id="visit", user_id=USER, item_id="drama-2")
    (verdict,) = (await ask(rig, secured.keys["events"], "POST", "/v1/events", click))[2]["verdicts"]
    asked = {**read, "after": verdict["token"], "wait_ms": 1_000}
    status, _, answer = await ask(rig, secured.keys["read"], "POST", "/v1/recommendations", asked)
    assert (status, answer["rung"], answer["stale"]) == (200, "personal", False)
    _, _, access = await ask(rig, secured.keys["admin"], "GET", f"/v1/users/{USER}")
    assert access["record"]["recent"]
    assert USER not in str(access)
    assert (await rig.command("users", "pseudonym", USER)).strip() == stored

    prefix = unit_prefix(rig.settings.namespace, subject_unit(shard_of(stored, rig.settings.shards)))
    async with redis_client(rig.settings, timeout_s=5.0) as redis:
        assert await redis.exists(subject_key(prefix, stored))
        names = [name async for name in redis.scan_iter(match=f"{{{rig.settings.namespace}:*")]
        assert not [name for name in names if USER.encode() in name]
    for kind in ("clicks", "decisions"):
        records = await rig.read(kind, bool)
        assert records
        assert not [one for one in records if USER.encode() in (one.key or b"") + (one.value or b"")]

    status, _, receipt = await ask(rig, secured.keys["admin"], "DELETE", f"/v1/users/{USER}?why=asked")
    assert (status, receipt["why"], receipt["removed"]["records"]) == (200, "asked", 1)
    async with redis_client(rig.settings, timeout_s=5.0) as redis:
        assert not [name async for name in redis.scan_iter(match=f"*{stored}*")]


async def test_told_to_stop_a_server_is_first_not_ready_and_still_answers(rig: Rig, secured: Secured) -> None:
    server = rig.processes.children[-1]
    body = {"session_id": "last", "k": 3}
    server.send_signal(signal.SIGTERM)

    async def is_unready() -> bool:
        return (await ask(rig, None, "GET", "/readyz"))[0] == 503

    await until(is_unready, "readiness goes first", 1.0)
    status, headers, answer = await ask(rig, secured.keys["read"], "POST", "/v1/recommendations", body)
    assert (status, len(answer["items"]), headers["connection"]) == (200, 3, "close")
    assert await rig.ended(server) in (0, -signal.SIGTERM)

    async def is_logged() -> bool:
        found = await rig.read("decisions", bool)
        return any(answer["decision_id"].encode() in (one.value or b"") for one in found)

    await until(is_logged, "the last decision is in Kafka", 10.0)


def test_no_secret_and_nobodys_id_was_logged(secured: Secured) -> None:
    said = secured.log.read_text()
    assert "keys taken in" in said
    for secret in (*secured.keys.values(), SECRET, USER, "integration-tests", "anna.personal"):
        assert secret not in said


def certificate(folder: Path) -> tuple[Path, Path]:
    """Return files of a certificate for this machine and of its key, made by the system's openssl."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


async def test_with_tls_only_clients_of_the_authority_are_answered(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    nowhere = engine_settings("127.0.0.1:9", "redis://127.0.0.1:9/0", "tls", port=free_port())
    settings = msgspec.structs.replace(
        nowhere, tls_certificate=str(cert), tls_key=str(key), tls_client_ca=str(cert)
    )
    server = start_server(settings, tmp_path / "log")
    ours, stranger = (ssl.create_default_context(cafile=str(cert)) for _ in range(2))
    ours.load_cert_chain(cert, key)
    try:
        async with aiohttp.ClientSession() as http:

            async def asked(tls: ssl.SSLContext) -> int:
                try:
                    url = f"https://127.0.0.1:{settings.port}/healthz"
                    async with http.get(url, ssl=tls) as answer:
                        assert "max-age" in answer.headers["strict-transport-security"]
                        return answer.status
                except (aiohttp.ClientError, ConnectionError):
                    return 0

            await until(lambda: asked(ours), "the server answers over TLS")
            assert await asked(stranger) == 0
    finally:
        server.terminate()
        server.wait(30)


def test_a_server_for_others_without_keys_does_not_start(tmp_path: Path) -> None:
    settings = engine_settings(
        "127.0.0.1:9", "redis://127.0.0.1:9/0", "open", host="0.0.0.0", port=free_port()
    )
    server = start_server(settings, tmp_path / "log")
    assert server.wait(120) == 1
    assert "HEADWATER_ALLOW_OPEN=true" in (tmp_path / "log").read_text()
