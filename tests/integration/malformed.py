"""Events of many kinds that nobody can understand, each with the reason it has to be refused for."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from state.outbox import FORWARDED_HEADER, NUMBER_HEADER
from state.partition import shard_of
from tests.integration.rig import now_ms, stamp

SHARDS = 4
FAR_AHEAD_MS = 3_600_000


@dataclass(frozen=True)
class Bad:
    """One record nobody can understand, and the reason its dead letter has to give."""

    kind: str
    reason: str
    raw: bytes | None
    key: bytes | None
    partition: int
    headers: tuple[tuple[str, bytes], ...] = field(default=())


def _with(kind: str, changes: dict[str, Any], without: str = "") -> bytes:
    body = GOOD[kind]() | stamp() | changes
    body.pop(without, None)
    return json.dumps(body).encode()


def _visitor() -> dict[str, Any]:
    return {"session_id": "bad-session", "user_id": "bad", "surface": "home"}


GOOD: dict[str, Callable[[], dict[str, Any]]] = {
    "clicks": lambda: {**_visitor(), "item_id": "drama-1"},
    "feedback": lambda: {**_visitor(), "item_id": "drama-1", "kind": "like"},
    "impressions": lambda: {**_visitor(), "items": [{"item_id": "drama-1", "position": 0}]},
    "users": lambda: {"user_id": "bad"},
    "items": lambda: {"item_id": "bad-item"},
    "control": lambda: {"name": "exploration/spoilt", "document": {"rate": 0.1}},
    "decisions": lambda: {
        **_visitor(),
        "rung": "personal",
        "slots": [{"item_id": "drama-1", "propensity": 0.5, "eligible": 2}],
        "candidates": {"item_ids": ["drama-1"], "scores": "", "sources": "n", "cuts": ""},
        "context": "",
        "features": "",
        "arms": "",
        "logits": "AAAAAAAAAAA=",
        "exploration": {},
        "versions": {"policy": "p", "model": 1, "exploration": 1, "features": "f"},
        "seed": 1,
    },
    "outcomes": lambda: {
        "subject": "bad",
        "surface": "home",
        "lane": 0,
        "shown_at": now_ms(),
        "slots": [],
        "features": "",
        "logits": "",
        "versions": {"policy": "p", "model": 1, "exploration": 1, "features": "f"},
    },
}


def _bytes_of(number: int) -> Iterator[tuple[str, str, bytes | None]]:
    """Records that are no JSON object at all: kind, reason, raw bytes."""
    click = _with("clicks", {})
    yield "clicks", "malformed_json", click[:-7]
    yield "clicks", "malformed_json", click + b"}"
    yield "impressions", "malformed_json", b""
    yield "feedback", "malformed_json", b"\xff\xfe not text %d" % number
    yield "feedback", "malformed_json", _with("feedback", {}).replace(b"drama-1", b"dr\xffma-1")
    yield "users", "malformed_json", b"\x00" * 40
    yield "decisions", "malformed_json", b"[" * 5000
    yield "outcomes", "malformed_json", b"{'single': 'quotes'}"
    yield "items", "malformed_json", _with("items", {}).decode().encode("utf-16")
    yield "control", "malformed_json", b"rate=0.1"
    yield "impressions", "wrong_type", b"[]"
    yield "clicks", "wrong_type", b"null"
    for kind in ("impressions", "clicks", "feedback", "users", "decisions", "outcomes", "control"):
        yield kind, "empty", None
    yield "clicks", "too_large", _with("clicks", {"more": "x" * 20_000})
    yield "items", "too_large", _with("items", {"title": "x" * 40_000})


def _fields_of() -> Iterator[tuple[str, str, bytes]]:
    """Objects whose fields are wrong: kind, reason, raw bytes."""
    for kind in GOOD:
        yield kind, "missing_field", _with(kind, {}, without="event_id")
        yield kind, "wrong_type", _with(kind, {"occurred_at": "yesterday"})
        yield kind, "out_of_bounds", _with(kind, {"occurred_at": 5})
        yield kind, "out_of_bounds", _with(kind, {"schema": 2})
        yield kind, "clock_skew", _with(kind, {"occurred_at": now_ms() + FAR_AHEAD_MS})
    yield "clicks", "missing_field", _with("clicks", {}, without="session_id")
    yield "clicks", "wrong_type", _with("clicks", {"item_id": 7})
    yield "clicks", "out_of_bounds", _with("clicks", {"item_id": ""})
    yield "clicks", "out_of_bounds", _with("clicks", {"item_id": "x" * 129})
    yield "clicks", "reserved_id", _with("clicks", {"user_id": "s:someone"})
    yield "clicks", "wrong_type", _with("clicks", {"occurred_at": 1.5e300})
    alone = {"kind": "telepathy", "item_id": f"drama-{stamp()['event_id']}"}  # else it is a copy of the last
    yield "feedback", "unknown_feedback", _with("feedback", alone)
    yield "feedback", "out_of_bounds", _with("feedback", {"kind": "NOT A NAME"})
    yield "feedback", "out_of_bounds", _with("feedback", {"value": 1e300})
    yield "impressions", "out_of_bounds", _with("impressions", {"items": []})
    yield "impressions", "wrong_type", _with("impressions", {"items": {"item_id": "drama-1"}})
    twice = [{"item_id": "drama-1", "position": 3}, {"item_id": "drama-2", "position": 3}]
    yield "impressions", "duplicate_position", _with("impressions", {"items": twice})
    yield "impressions", "out_of_bounds", _with("impressions", {"items": [{"item_id": "a", "position": -1}]})
    yield "impressions", "missing_field", _with("impressions", {"items": [{"item_id": "a"}]})
    yield "users", "unknown_value", _with("users", {"consent": "perhaps"})
    yield "users", "contradiction", _with("users", {"erase": True, "merge_session": "x"})
    yield "users", "reserved_id", _with("users", {"user_id": "s:someone"})
    yield "users", "reserved_id", _with("users", {"carried": "!!! no base64 !!!"})
    yield "items", "out_of_bounds", _with("items", {"embedding": [1.0]})
    yield "items", "wrong_type", _with("items", {"attributes": {"colour": {"deep": 1}}})
    yield "control", "unknown_control", _with("control", {"name": "weather/home"})
    yield "control", "bad_document", _with("control", {"document": {"rate": 0.9}})
    yield "control", "bad_document", _with("control", {"document": {"rates": 0.1}})
    yield "control", "bad_document", _with("control", {"document": {"segments": [{"name": "a"}]}})
    yield "control", "step_too_large", _with("control", {"document": {"rate": 0.4}})
    yield "control", "no_reason", _with("control", {"document": {"rate": 0.4}, "forced": True})
    yield "control", "version_conflict", _with("control", {"expects": 7})
    yield "control", "unknown_version", _with("control", {"restores": 7})
    yield "control", "out_of_bounds", _with("control", {"name": "no slash"})
    yield "decisions", "out_of_bounds", _with("decisions", {"features": "!!! no base64 !!!"})
    yield "decisions", "out_of_bounds", _with("decisions", {"logits": ""})
    no_chance = [{"item_id": "a", "propensity": 0.0, "eligible": 2}]
    yield "decisions", "out_of_bounds", _with("decisions", {"slots": no_chance})


def _addressed(kind: str, reason: str, raw: bytes | None, shards: int) -> Bad:
    """Give a record the key and the partition its event would have."""
    if kind == "items":
        return Bad(kind, reason, raw, b"bad-item", 0)
    if kind in ("outcomes", "control"):
        return Bad(kind, reason, raw, b"key", 0)
    subject = "s:someone" if reason == "reserved_id" and raw and b"s:someone" in raw else "bad"
    return Bad(kind, reason, raw, subject.encode(), shard_of(subject, shards))


def _misplaced(shards: int) -> Iterator[Bad]:
    """Records whose key, partition or headers are wrong."""
    home = shard_of("bad", shards)
    yield Bad("items", "bad_key", _with("items", {}), b"another-item", 0)
    yield Bad("items", "bad_key", _with("items", {}), b"\xff\xff", 0)
    yield Bad("items", "bad_key", None, b"", 0)
    wrong_number = ((NUMBER_HEADER, b"seven"),)
    yield Bad("clicks", "bad_header", _with("clicks", {}), b"bad", home, wrong_number)
    yield Bad("outcomes", "bad_header", _with("outcomes", {}), b"key", 0, wrong_number)
    forwarded = ((FORWARDED_HEADER, b"1"),)
    yield Bad("clicks", "misrouted", _with("clicks", {}), b"bad", (home + 1) % shards, forwarded)


def bad_events(number: int, shards: int = SHARDS) -> list[Bad]:
    """Return one record of each kind of mistake, over all topics a worker reads."""
    plain = [*_bytes_of(number), *_fields_of()]
    return [*(_addressed(*one, shards) for one in plain), *_misplaced(shards)]
