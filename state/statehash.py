"""The canonical hash of a namespace's folded state: the same for the same state, however it was reached.

In are all keys that folding writes, whatever their order: by unit, in families. Out is what tells where a
unit stands and not what it has learnt: offsets, epochs, commit and outbox numbers, arrival windows, feeds,
outboxes, times to live. What a compacted topic no longer tells is out as well: counters of the catalogue. A
key family nobody has decided on is in.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from state.packing import pack_arrays, unpack_arrays
from state.scan import Held, entries, held_keys

Families = dict[str, "Family"]
APART = frozenset({"decisions", "decision indexes", "erasure list"})
"""Families shown but left out of every sum.

The store collects logged decisions by its own clock; the erasure list is read by a replay, not made by it.
"""

_IGNORED = frozenset({"feed", "outbox", "hold"})
_NAMES = {
    "s": "subjects",
    "d": "decisions",
    "sd": "decision indexes",
    "erased": "erasure list",
    "meta": "watermark",
}
_SAID = frozenset({b"watermark"})
_LEAF = np.dtype([("high", ">u8"), ("low", ">u8")])
_ATTEMPTS = 5


class MovingError(RuntimeError):
    """A namespace that is written to while it is read."""


class Family(Struct):
    """How many entries a family of keys holds in a unit, and their hash."""

    entries: int
    hash: str


class StateHash(Struct):
    """The hash of a namespace: of each unit's families, of each unit, and in all."""

    namespace: str
    hash: str
    units: dict[str, str]
    families: dict[str, Families]

    def differences(self, other: "StateHash") -> list[str]:
        """Return one sentence for each family that differs from another namespace's."""
        found = []
        for unit in sorted({*self.families, *other.families}):
            ours, theirs = self.families.get(unit, {}), other.families.get(unit, {})
            for name in sorted({*ours, *theirs}):
                left, right = (side.get(name, Family(0, "nothing")) for side in (ours, theirs))
                if left.hash != right.hash:
                    note = " (apart)" if name in APART else ""
                    found.append(
                        f"unit {unit}, {name}{note}: {left.entries} entries {left.hash[:16]} in "
                        f"{self.namespace}, {right.entries} entries {right.hash[:16]} in {other.namespace}"
                    )
        return found


class Leaves:
    """Digests of a family's entries, 16 bytes each; an entry that comes twice counts once."""

    def __init__(self) -> None:
        self._digests = bytearray()

    def add(self, *parts: bytes) -> None:
        """Take in one entry, said by its parts."""
        digest = hashlib.blake2b(digest_size=16)
        for part in parts:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        self._digests += digest.digest()

    def family(self) -> Family:
        """Return the entries' count and their hash, whatever order they came in."""
        held = np.unique(np.frombuffer(self._digests, _LEAF))
        return Family(len(held), hashlib.blake2b(held.tobytes(), digest_size=32).hexdigest())


def family_of(held: Held) -> str | None:
    """Return the family of a key; None where it is no folded state."""
    first = held.name.partition(b":")[0].decode(errors="replace")
    if first in _IGNORED or (first == "counters" and _is_compacted(held.unit)):
        return None
    return _NAMES.get(first, first)


def _is_compacted(unit: str) -> bool:
    return unit.startswith("i")


def canonical(family: str, name: bytes, value: bytes) -> bytes | None:
    """Return an entry's value without what is no folded state; None where nothing is left."""
    if family == "watermark":
        return value if name in _SAID else None
    strip = _STRIPPED.get(family)
    return value if strip is None else strip(value)


def _without_offset(value: bytes) -> bytes:
    arrays, document = unpack_arrays(value)
    document.pop("offset", None)
    return pack_arrays(arrays, document)


def _without_offsets(value: bytes) -> bytes:
    document: dict[str, Any] = msgspec.json.decode(value)
    for version in document["versions"]:
        del version["offset"], version["checksum"]
    return msgspec.json.encode(document, order="sorted")


_STRIPPED: dict[str, Callable[[bytes], bytes]] = {
    "models": _without_offset,
    "model_shadows": _without_offset,
    "model_versions": _without_offset,
    "lifecycle": _without_offsets,
}


async def hash_state(redis: Any, namespace: str) -> StateHash:
    """Return the hash of a namespace that holds still.

    Raises
    ------
    MovingError
        If it was written to while it was read, several times over.
    """
    for _ in range(_ATTEMPTS):
        before = await _commits(redis, namespace)
        leaves = await _read(redis, namespace)
        if before == await _commits(redis, namespace):
            return _summed(namespace, leaves)
    raise MovingError(
        f"namespace {namespace} is written to while it is read; wished: workers that stand still"
    )


async def _commits(redis: Any, namespace: str) -> dict[str, bytes | None]:
    metas = {held.unit: held.key async for held in held_keys(redis, namespace, name="meta")}
    return {unit: await redis.hget(key, "commit") for unit, key in sorted(metas.items())}


async def _read(redis: Any, namespace: str) -> dict[str, dict[str, Leaves]]:
    leaves: dict[str, dict[str, Leaves]] = defaultdict(lambda: defaultdict(Leaves))
    async for held in held_keys(redis, namespace):
        family = family_of(held)
        if family is None:
            continue
        if held.value is not None:
            leaves[held.unit][family].add(held.name, canonical(family, b"", held.value) or b"")
            continue
        async for part in entries(redis, held):
            for name, value in part:
                kept = canonical(family, name, value)
                if kept is not None:
                    leaves[held.unit][family].add(held.name, name, kept)
    return leaves


def _summed(namespace: str, leaves: dict[str, dict[str, Leaves]]) -> StateHash:
    families = {
        unit: {name: held[name].family() for name in sorted(held)} for unit, held in sorted(leaves.items())
    }
    counted = {unit: _counted(held) for unit, held in families.items()}
    units = {unit: _sum_of(hashes) for unit, hashes in counted.items() if hashes}
    return StateHash(namespace, _sum_of(units), units, families)


def _counted(families: Families) -> dict[str, str]:
    return {name: family.hash for name, family in families.items() if name not in APART}


def _sum_of(parts: Mapping[str, str]) -> str:
    text = "".join(f"{name}={digest}\n" for name, digest in parts.items())
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()
