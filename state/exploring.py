"""What shards fold of exploration: progress of new items, spending, and how each version did."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from state.keys import newcomers_key, spending_key, subject_unit, tried_key, unit_prefix
from state.packing import FloatArray
from state.settings import Settings

STRETCH_MS = 300_000
"""Event time whose spending is added up."""
STRETCHES = 36
"""Stretches that are kept: three hours."""
HOUR = 3_600_000 // STRETCH_MS
"""Stretches of an hour."""


class Progress(Struct, array_like=True):
    """What a new item has had on a surface.

    Attributes
    ----------
    pending
        Slots decided whose window is still open.
    shown, explored
        Eligible impressions, and those of slots that explored.
    reward
        Their rewards.
    first_at, last_at
        Decision times of the first and last of them, ms; 0 for none.
    """

    pending: int = 0
    shown: int = 0
    explored: int = 0
    reward: float = 0.0
    first_at: int = 0
    last_at: int = 0


class Stretch(Struct, array_like=True):
    """What exploration did on a surface in one stretch of decision time; only slots that teach the policy.

    Attributes
    ----------
    slots, explored
        Decided, and those that explored.
    exploited_shown, exploited_reward, explored_shown, explored_reward
        Closed slots that were shown, and their rewards.
    """

    slots: int = 0
    explored: int = 0
    exploited_shown: int = 0
    exploited_reward: float = 0.0
    explored_shown: int = 0
    explored_reward: float = 0.0


class Tried(Struct, array_like=True):
    """How decisions under one version of an exploration document did.

    Attributes
    ----------
    decided, fallback
        Decisions, and those that were answered without the policy.
    closed, reward, reward_squares
        Closed decisions the policy made, the rewards of each in all, and their squares.
    explored, explored_reward, explored_squares
        Shown slots that explored, their rewards, and the squares of each decision's sum of those.
    first_at, last_at
        Decision times, ms.
    recent
        Stretch -> slots decided in it that explored, of the version's last hour.
    """

    decided: int = 0
    fallback: int = 0
    closed: int = 0
    reward: float = 0.0
    reward_squares: float = 0.0
    explored: int = 0
    explored_reward: float = 0.0
    explored_squares: float = 0.0
    first_at: int = 0
    last_at: int = 0
    recent: dict[int, int] = {}

    def add(self, other: "Tried") -> None:
        """Add another shard's."""
        self.first_at = min(filter(None, (self.first_at, other.first_at)), default=0)
        self.last_at = max(self.last_at, other.last_at)
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for number, explored in other.recent.items():
            self.recent[number] = self.recent.get(number, 0) + explored

    def explore(self, number: int, explored: int) -> None:
        """Count slots of a decision that explored; an hour of stretches up to the latest is kept."""
        if explored:
            self.recent[number] = self.recent.get(number, 0) + explored
            for old in [one for one in self.recent if one <= max(self.recent) - HOUR]:
                del self.recent[old]

    def explored_lately(self, now_ms: int) -> int:
        """Return how many slots explored in the last hour."""
        first = now_ms // STRETCH_MS - HOUR + 1
        return sum(explored for number, explored in self.recent.items() if number >= first)


_SUMS = Tried.__struct_fields__[: Tried.__struct_fields__.index("first_at")]


encode_folded = msgspec.msgpack.Encoder().encode
_progress = msgspec.msgpack.Decoder(Progress)
_stretches = msgspec.msgpack.Decoder(dict[int, Stretch])
_tried = msgspec.msgpack.Decoder(Tried)


def decode_progress(raw: bytes) -> Progress:
    """Return a new item's progress in one shard."""
    return _progress.decode(raw)


def decode_stretches(raw: bytes) -> dict[int, Stretch]:
    """Return stretch number (since 1970) -> what was done in it."""
    return _stretches.decode(raw)


def decode_tried(raw: bytes) -> Tried:
    """Return how one version did in one shard."""
    return _tried.decode(raw)


def item_field(surface: str, item_id: str) -> str:
    """Return the field of a new item on a surface."""
    return f"{surface}:{item_id}"


def tried_field(surface: str, version: int) -> str:
    """Return the field of a version."""
    return f"{surface}@{version}"


def _prefixes(settings: Settings) -> list[str]:
    return [unit_prefix(settings.namespace, subject_unit(shard)) for shard in range(settings.shards)]


async def read_tried(redis: Any, settings: Settings, surface: str, version: int) -> Tried:
    """Return how a version did, over all shards."""
    total = Tried()
    for prefix in _prefixes(settings):
        raw = await redis.hget(tried_key(prefix), tried_field(surface, version))
        if raw is not None:
            total.add(decode_tried(raw))
    return total


async def read_progress(redis: Any, settings: Settings, surface: str) -> dict[str, list[Progress]]:
    """Return item -> its progress on a surface in each shard that met it."""
    found: dict[str, list[Progress]] = {}
    for prefix in _prefixes(settings):
        for name, raw in (await redis.hgetall(newcomers_key(prefix))).items():
            at, _, item_id = name.decode().partition(":")
            if at == surface:
                found.setdefault(item_id, []).append(decode_progress(raw))
    return found


async def read_spending(redis: Any, settings: Settings, surface: str) -> list[dict[int, Stretch]]:
    """Return the stretches of a surface, shard by shard."""
    raws = [await redis.hget(spending_key(prefix), surface) for prefix in _prefixes(settings)]
    return [decode_stretches(raw) for raw in raws if raw is not None]


def columns_of(shards: Iterable[Mapping[int, Stretch]], now_ms: int) -> dict[str, FloatArray]:
    """Return what was done in the latest stretches over all shards, by name, oldest first, (STRETCHES,) each.

    Names are those of a stretch but ``slots``.
    """
    names = Stretch.__struct_fields__[1:]
    sums, first = np.zeros((STRETCHES, len(names))), now_ms // STRETCH_MS - STRETCHES + 1
    for held in shards:
        for number, stretch in held.items():
            if 0 <= number - first < STRETCHES:
                sums[number - first] += [getattr(stretch, name) for name in names]
    return dict(zip(names, sums.T, strict=True))
