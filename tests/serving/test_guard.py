"""The guard: who may do what, how often, and how many at once; values in, answers out."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from serving.admission import Admission
from serving.api import routes
from serving.callers import WatchedKeys
from serving.guard import Guard, guarded, is_loopback, refuse_open
from serving.listening import tls_context
from serving.scopes import needed
from state.api_keys import SCOPES, Scope, new_key, revoke, write_keys
from state.settings import Settings, SettingsError

AT = 1_750_000_000_000


class Door:
    """An application behind a guard, and the keys of its file."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.path = folder / "keys"
        self.keys = {scope: new_key(scope, [scope], AT) for scope in SCOPES}
        write_keys(self.path, [kept for _, kept in self.keys.values()])
        self.guard = Guard(Settings(keys_file=str(self.path), **changes))
        self.met: list[Any] = []

    def key(self, scope: Scope) -> bytes:
        return self.keys[scope][0].encode()

    async def ask(
        self, method: str, path: str, *headers: tuple[bytes, bytes]
    ) -> tuple[int, dict[bytes, bytes], Any]:
        """Return status, headers and problem of an answer."""
        return await ask(self.guard, self.met, method, path, *headers)

    async def asked(self, method: str, path: str, scope: Scope | None = None) -> int:
        headers = [] if scope is None else [(b"authorization", b"Bearer " + self.key(scope))]
        return (await self.ask(method, path, *headers))[0]


async def ask(
    guard: Guard, met: list[Any], method: str, path: str, *headers: tuple[bytes, bytes]
) -> tuple[int, dict[bytes, bytes], Any]:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        met.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers), "state": {}}
    await guarded(app, guard)(scope, None, send)
    return sent[0]["status"], dict(sent[0]["headers"]), msgspec.json.decode(sent[1]["body"])


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


ROUTES: list[tuple[str, str, Scope | None]] = [
    ("GET", "/healthz", None),
    ("GET", "/", None),
    ("GET", "/docs/openapi.json", None),
    ("POST", "/v1/recommendations", "read"),
    ("GET", "/v1/similar/i1", "read"),
    ("POST", "/v1/events", "events"),
    ("GET", "/v1/exploration/home", "observe"),
    ("GET", "/metrics", "observe"),
    ("GET", "/v1/decisions/d1/why", "observe"),
    ("PUT", "/v1/exploration/home", "tune"),
    ("POST", "/v1/anything/new", "tune"),
    ("GET", "/v1/users/anna", "admin"),
    ("DELETE", "/v1/users/anna", "admin"),
    ("GET", "/v1/audit", "admin"),
    ("GET", "/nobody/thought/of", "admin"),
    ("GET", "//v1/recommendations", "admin"),
    ("GET", "/docsx", "admin"),
]


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
async def test_a_route_is_open_to_its_scope_and_those_above_it_alone(
    door: Door, method: str, path: str, scope: Scope | None
) -> None:
    assert await door.asked(method, path) == (401 if scope else 200)
    for held in SCOPES:
        may = scope in (None, held) or held == "admin" or (held, scope) == ("tune", "observe")
        assert await door.asked(method, path, held) == (200 if may else 403), held


def test_no_route_of_the_server_writes_or_tells_of_people_without_a_scope() -> None:
    for route in routes().routes:
        for method in getattr(route, "methods", []):
            scope = needed(method, route.path)
            assert method in ("GET", "HEAD", "OPTIONS") or scope in ("read", "events", "tune", "admin")
            assert scope == "admin" or not route.path.startswith("/v1/users")
            assert scope is not None or route.path in ("/", "/healthz", "/readyz", "/openapi.json")


async def test_a_refusal_is_a_problem_that_says_what_is_wished(door: Door) -> None:
    status, headers, problem = await door.ask("POST", "/v1/events")
    assert (status, headers[b"www-authenticate"]) == (401, b"Bearer")
    assert headers[b"content-type"] == b"application/problem+json"
    assert problem["status"] == 401
    assert "wished: 'Authorization: Bearer KEY'" in problem["detail"]
    _, _, problem = await door.ask("POST", "/v1/events", (b"x-api-key", door.key("read")))
    assert problem["detail"] == "key 'read' has scopes ['read']; wished: 'events'"
    assert door.guard.turned == {"unauthenticated": 1, "forbidden": 1}
    assert not door.met


@pytest.mark.parametrize("shown", [b"", b"Bearer", b"Bearer ", b"Basic eDp5", b"Bearer hwk_", b"Bearer \xff"])
async def test_what_is_no_key_opens_nothing(door: Door, shown: bytes) -> None:
    assert (await door.ask("POST", "/v1/events", (b"authorization", shown)))[0] == 401


async def test_the_application_learns_who_calls(door: Door) -> None:
    await door.ask("POST", "/v1/events", (b"authorization", b"bearer " + door.key("events")))
    await door.ask("GET", "/healthz")
    assert [scope["state"]["caller"].name for scope in door.met] == ["events", ""]


async def test_keys_are_made_and_ended_while_the_server_runs(door: Door) -> None:
    watched = door.guard.keys
    assert watched is not None
    key, kept = new_key("late", ["events"], AT)
    held = [kept for _, kept in door.keys.values()]
    late = (b"x-api-key", key.encode())
    assert (await door.ask("POST", "/v1/events", late))[0] == 401
    write_keys(door.path, [*held, kept])
    watched.look()
    assert (await door.ask("POST", "/v1/events", late))[0] == 200
    write_keys(door.path, revoke([*held, kept], "late", AT + 1)[0])
    watched.look()
    assert (await door.ask("POST", "/v1/events", late))[0] == 401
    assert await door.asked("POST", "/v1/events", "events") == 200


async def test_a_broken_file_leaves_the_keys_that_were_known(door: Door) -> None:
    watched = door.guard.keys
    assert watched is not None
    door.path.write_text("{")
    watched.look()
    door.path.unlink()
    watched.look()
    assert watched.failures == 2
    assert await door.asked("POST", "/v1/events", "events") == 200


async def test_an_expired_key_opens_nothing(tmp_path: Path) -> None:
    door = Door(tmp_path)
    key, kept = new_key("over", ["events"], AT)
    write_keys(door.path, [msgspec.structs.replace(kept, expires_at=AT + 1)])
    assert door.guard.keys is not None
    door.guard.keys.look()
    assert (await door.ask("POST", "/v1/events", (b"x-api-key", key.encode())))[0] == 401


def test_a_file_of_keys_that_is_not_there_keeps_the_server_from_starting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="wished: a readable file"):
        WatchedKeys(Settings(keys_file=str(tmp_path / "none")))


async def test_each_key_has_its_rate_and_keeps_what_it_used_when_keys_are_read_again(tmp_path: Path) -> None:
    door = Door(tmp_path, rate_limit=0.001, rate_burst=2.0)
    assert [await door.asked("POST", "/v1/events", "events") for _ in range(3)] == [200, 200, 429]
    assert await door.asked("POST", "/v1/events", "admin") == 200
    write_keys(door.path, [kept for _, kept in door.keys.values()])
    assert door.guard.keys is not None
    door.guard.keys.look()
    shown = (b"x-api-key", door.key("events"))
    status, headers, problem = await door.ask("POST", "/v1/events", shown)
    assert status == 429
    assert 900 < int(headers[b"retry-after"]) <= 1000
    assert "'events' asks too often" in problem["detail"]


async def test_a_key_may_have_a_rate_of_its_own(tmp_path: Path) -> None:
    door = Door(tmp_path, rate_limit=0.001, rate_burst=1.0)
    key, kept = new_key("fast", ["read"], AT)
    write_keys(door.path, [msgspec.structs.replace(kept, rate=0.001, burst=3.0)])
    assert door.guard.keys is not None
    door.guard.keys.look()
    fast = (b"x-api-key", key.encode())
    assert [(await door.ask("POST", "/v1/recommendations", fast))[0] for _ in range(4)] == [
        200, 200, 200, 429,
    ]  # fmt: skip


async def test_who_finds_no_place_is_told_to_come_again_and_health_is_always_told(tmp_path: Path) -> None:
    door = Door(tmp_path)
    door.guard.recommendations = Admission(ceiling=0)
    shown = (b"x-api-key", door.key("read"))
    status, headers, problem = await door.ask("POST", "/v1/recommendations", shown)
    assert (status, headers[b"retry-after"], problem["title"]) == (503, b"1", "Overloaded")
    assert await door.asked("POST", "/v1/events", "events") == 200
    door.guard.others = Admission(ceiling=0)
    assert await door.asked("POST", "/v1/events", "events") == 503
    assert await door.asked("GET", "/healthz") == 200
    assert door.guard.turned == {"overloaded": 2}


async def test_every_place_is_given_back_also_where_the_application_fails(tmp_path: Path) -> None:
    door = Door(tmp_path)

    async def broken(*_: object) -> None:
        assert door.guard.others.in_flight == 1
        raise RuntimeError

    scope = {
        "type": "http", "method": "POST", "path": "/v1/events", "state": {},
        "headers": [(b"x-api-key", door.key("events"))],
    }  # fmt: skip
    with pytest.raises(RuntimeError):
        await guarded(broken, door.guard)(scope, None, None)
    assert door.guard.others.in_flight == 0


# -- without keys


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({b"host": b"127.0.0.1:8080"}, 200),
        ({b"host": b"[::1]:8080", b"origin": b"http://localhost:3000"}, 200),
        ({b"host": b"evil.example"}, 403),
        ({b"host": b"localhost", b"origin": b"https://evil.example"}, 403),
        ({b"host": b"localhost", b"origin": b"null"}, 403),
        ({b"host": b"localhost.evil.example"}, 403),
        ({b"host": b"127.0.0.1.evil.example"}, 403),
        ({b"host": b"\xff" * 2_000}, 403),
    ],
)
async def test_an_open_server_answers_no_page_from_elsewhere(headers: Any, status: int) -> None:
    assert (await ask(Guard(Settings()), [], "POST", "/v1/events", *headers.items()))[0] == status


async def test_a_server_that_is_open_to_all_by_a_setting_answers_by_any_name() -> None:
    guard = Guard(Settings(host="0.0.0.0", allow_open=True))
    assert (await ask(guard, [], "POST", "/v1/events", (b"host", b"shop.example")))[0] == 200


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("", False), ("10.0.0.1", False), ("shop.example", False)],
)  # fmt: skip
def test_without_keys_a_server_listens_on_loopback_alone(host: str, local: bool, tmp_path: Path) -> None:
    assert is_loopback(host) == local
    if local:
        refuse_open(Settings(host=host))
    else:
        with pytest.raises(SettingsError, match=r"HEADWATER_HOST has value .* HEADWATER_ALLOW_OPEN=true"):
            refuse_open(Settings(host=host))
    refuse_open(Settings(host=host, allow_open=True))
    refuse_open(Settings(host=host, keys_file=str(tmp_path)))


def test_settings_of_tls_that_cannot_work_are_refused(tmp_path: Path) -> None:
    assert tls_context(Settings()) is None
    with pytest.raises(SettingsError, match="wished: both, or no setting of TLS"):
        tls_context(Settings(tls_certificate="c.pem"))
    with pytest.raises(SettingsError, match="wished: both, or no setting of TLS"):
        tls_context(Settings(tls_client_ca="ca.pem"))
    (tmp_path / "c.pem").write_text("no certificate")
    named = str(tmp_path / "c.pem")
    with pytest.raises(SettingsError, match="cannot be used"):
        tls_context(Settings(tls_certificate=named, tls_key=named))
