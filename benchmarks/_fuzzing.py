"""Seeded hostile input: mutated events and filter expressions, and what they did to whoever read them."""

import json
import random
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from state.decoding import Refusal
from state.events import EVENT_TYPES

AT = 1_750_000_000_000
_HOSTILE: list[Any] = [
    None, True, 0, -1, 1e308, -0.0, 2**63, 2**64, 10**40, "", "\x00", "s:", "s:a", "a" * 129, "\ud800",
    "é" * 64,    [], {}, [[]], {"": {}}, AT, AT + 10**12, "NaN", "../../etc", [0] * 300,
    {"a": None},
]  # fmt: skip
_BYTES = [
    b"\x00",
    b"\xff",
    b"\xc3\x28",
    b"\\u0000",
    b'"',
    b"}",
    b"{",
    b"[",
    b"]",
    b",",
    b":",
    b"1e999",
    b"-",
    b"\\ud800",
]
_WORDS = [
    "and", "or", "not", "in", "(", ")", "[", "]", ",", "==", "!=", "<", "<=", ">", ">=", "category", "price",
    "`odd name`", '"text"', "'it'", "1", "-2.5", "1e308", "1e999", "true", "false", "null", "\\", '"',
    "\x00", "attributes.brand", "item_id", "__class__", "é", "\u202e", "0x10", "1_000", "--", "''",
]  # fmt: skip


class Found(Struct):
    """What a fuzzer met.

    Attributes
    ----------
    cases, understood, refused
        Counts.
    reasons
        Refusals by reason.
    crashes
        Whatever else was raised, with the input that did it, at most twenty.
    slowest_ms
        Longest time of one case, processor time.
    grown_kb
        Resident memory at the end beyond that after a tenth of the cases.
    """

    cases: int = 0
    understood: int = 0
    refused: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    slowest_ms: float = 0.0
    grown_kb: int = 0


def fuzz(read: Callable[[Any], object], inputs: Iterator[Any], cases: int) -> Found:
    """Feed inputs to a reader that either understands or refuses; returns what it did."""
    found, before_kb = Found(), 0
    for number in range(cases):
        given = next(inputs)
        if number == cases // 10:
            before_kb = _resident_kb()
        began = time.thread_time()
        try:
            read(given)
            found.understood += 1
        except Refusal as refusal:
            found.refused += 1
            found.reasons[refusal.reason] += 1
        except Exception as error:  # the very thing that is looked for
            if len(found.crashes) < 20:
                found.crashes.append(f"{type(error).__name__}: {error}: {given!r}"[:500])
        found.slowest_ms = max(found.slowest_ms, 1000 * (time.thread_time() - began))
        found.cases += 1
    found.grown_kb = _resident_kb() - before_kb
    return found


def _resident_kb() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not on Linux: the most there ever was
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * resource.getpagesize() // 1024


_GOOD: dict[str, dict[str, Any]] = {
    "impressions": {"session_id": "s", "surface": "home", "items": [{"item_id": "a", "position": 0}]},
    "clicks": {"session_id": "s", "user_id": "u", "item_id": "a", "surface": "home", "decision": "t"},
    "feedback": {"session_id": "s", "item_id": "a", "kind": "dwell", "value": 3.5},
    "items": {"item_id": "a", "title": "A", "categories": ["x"], "attributes": {"p": 1.5, "q": ["a"]}},
    "users": {"user_id": "u", "attributes": {"a": True}, "consent": "full"},
    "control": {"name": "exploration/home", "document": {"rate": 0.05}},
    "outcomes": {}, "directives": {}, "deadletters": {}, "decisions": {},
}  # fmt: skip


def hostile_events(seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield kinds and raw events: good ones with fields changed, dropped or added, and bytes broken."""
    rng, kinds = random.Random(f"events {seed}"), sorted(EVENT_TYPES)
    while True:
        kind = rng.choice(kinds)
        body: Any = {"event_id": "e", "occurred_at": AT, **_copy(_GOOD[kind])}
        for _ in range(rng.randrange(4)):
            body = _changed(body, rng)
        raw = _encoded(body, rng)
        for _ in range(rng.choice((0, 0, 1, 3))):
            raw = _broken(raw, rng)
        yield kind, raw


def _copy(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _changed(body: Any, rng: random.Random) -> Any:
    """Return a document with one place of it changed, somewhere inside."""
    node = body
    while isinstance(node, dict | list) and node:
        keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = rng.choice(keys)
        inner = node[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.6:
            node = inner
            continue
        how = rng.randrange(4)
        if how == 0 and isinstance(node, dict):
            del node[key]
        elif how == 1 and isinstance(node, dict):
            node[rng.choice(["x", "", "schema", "user_id", "carried", "proof", "embedding", "a" * 300])] = (
                _hostile(rng)
            )
        elif how == 2:
            node[key] = [inner] * rng.choice((1, 2, 300))
        else:
            node[key] = _hostile(rng)
        return body
    return _hostile(rng)


def _hostile(rng: random.Random) -> Any:
    if rng.random() < 0.05:
        deep: Any = 0
        for _ in range(rng.choice((10, 500))):
            deep = [deep] if rng.random() < 0.5 else {"a": deep}
        return deep
    return _copy(rng.choice(_HOSTILE))


def _encoded(body: Any, rng: random.Random) -> bytes:
    text = json.dumps(body, ensure_ascii=rng.random() < 0.7)
    return text.encode("utf-8", "surrogatepass")


def _broken(raw: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(raw) + 1)
    how = rng.randrange(5)
    if how == 0:
        return raw[:at]
    if how == 1:
        return raw[:at] + rng.choice(_BYTES) + raw[at:]
    if how == 2:
        return raw[:at] + bytes([rng.randrange(256)]) + raw[at + 1 :]
    if how == 3:
        return raw[:at] + raw[rng.randrange(len(raw) + 1) :]
    return rng.choice((b"[" * 100_000, b'{"a":' * 20_000, raw * 3, b" " * 20_000, b"", b"null", b"1" * 5_000))


def hostile_filters(seed: int) -> Iterator[str]:
    """Yield expressions: words of the language in any order, broken ones, and deep, long or odd ones."""
    rng = random.Random(f"filters {seed}")
    while True:
        how = rng.randrange(4)
        if how == 0:
            yield " ".join(rng.choice(_WORDS) for _ in range(rng.randrange(1, 30)))
        elif how == 1:
            yield _broken(_expression(rng, 3).encode(), rng).decode("utf-8", "replace")[:5_000]
        elif how == 2:
            yield _expression(rng, rng.randrange(1, 20))
        else:
            count = rng.choice((10, 100, 3_000))
            yield rng.choice(
                [
                    "(" * count + "a == 1" + ")" * count,
                    "not " * count + "a == 1",
                    "a in [" + "1," * count + "1]",
                    " or ".join(["a == 1"] * count),
                    chr(rng.randrange(0x110000)) * count,
                ]
            )


def _expression(rng: random.Random, depth: int) -> str:
    how = rng.randrange(5) if depth > 0 else 0
    if how == 1:
        return f"not ({_expression(rng, depth - 1)})"
    if how == 2:
        return f"({_expression(rng, depth - 1)}) and {_expression(rng, depth - 2)}"
    if how == 3:
        return f"{_expression(rng, depth - 2)} or ({_expression(rng, depth - 1)})"
    name = rng.choice(("category", "price", "brand", "tags", "`odd name`", "item_id"))
    if how == 4:
        return f'{name} {rng.choice(("in", "not in"))} ["a", 2, true, null]'
    return f"{name} {rng.choice(('==', '!=', '<', '>='))} {rng.choice(('1', '-2.5', '1e3'))}"
