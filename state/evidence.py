"""What lanes fold of closed decisions for previews and the scoreboard: its layout and how to read it.

Bounded: a lane keeps `EVIDENCE_HOURS` hours of event time, a few cells an hour and surface.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from state.keys import evidence_key, lane_unit, scoreboard_key, unit_prefix
from state.packing import FloatArray, unpack_arrays
from state.retention import EVIDENCE_HOURS
from state.settings import Settings

HOUR_MS = 3_600_000


class Cell(Struct, array_like=True):
    """Decisions of one hour that explored by the same coin.

    Attributes
    ----------
    segment
        Whose they were; empty for visitors of no segment.
    rate
        Chance of each coin.
    is_single
        Whether one coin decided about the whole slate.
    counts, sums, squares
        By how many slots explored, 0 to all: decisions, their rewards and the squares of those.
    fresh, fresh_else
        Impressions of items that only newness brought: by exploring, and as the scheme drew them.
    """

    segment: str
    rate: float
    is_single: bool
    counts: list[int]
    sums: list[float]
    squares: list[float]
    fresh: int = 0
    fresh_else: int = 0

    @property
    def place(self) -> tuple[str, float, bool, int]:
        """What decisions of one cell have in common."""
        return self.segment, self.rate, self.is_single, len(self.counts)


class Sight(Struct, array_like=True):
    """What a lane has of one shadow policy beside one version of the exploration.

    Attributes
    ----------
    version, exploration
        Of the document that declares it and of the exploration it is compared with.
    since, until
        Event times of the first and last decision, ms.
    """

    version: int
    exploration: int
    since: int
    until: int

    @property
    def versions(self) -> tuple[int, int]:
        """Both versions."""
        return self.version, self.exploration


_decoder = msgspec.msgpack.Decoder(list[Cell])
encode_cells = msgspec.msgpack.Encoder().encode


def decode_cells(raw: bytes) -> list[Cell]:
    """Return the cells of one hour."""
    return _decoder.decode(raw)


def hour_field(surface: str, hour: int) -> str:
    """Return the field of one surface and hour, counted since 1970."""
    return f"{surface}:{hour}"


def shadow_field(surface: str, shadow: str, exploration: int) -> str:
    """Return the field of one shadow policy beside one version of the exploration."""
    return f"{surface}:{shadow}@{exploration}"


def sight_of(document: Mapping[str, Any]) -> Sight:
    """Return the sight that is kept beside a shadow's sums."""
    return Sight(*(int(document[name]) for name in Sight.__struct_fields__))


async def read_cells(
    redis: Any, settings: Settings, surface: str, hours: Iterable[int]
) -> dict[int, list[Cell]]:
    """Return hour -> cells of a surface, of every lane; hours without any are left out."""
    wanted = list(hours)[-EVIDENCE_HOURS:]
    fields, found = [hour_field(surface, hour) for hour in wanted], dict[int, list[Cell]]()
    for lane in range(settings.lanes):
        key = evidence_key(unit_prefix(settings.namespace, lane_unit(lane)))
        for hour, raw in zip(wanted, await redis.hmget(key, fields), strict=True):
            if raw is not None:
                found.setdefault(hour, []).extend(decode_cells(raw))
    return found


async def read_sights(
    redis: Any, settings: Settings, surface: str
) -> dict[str, list[tuple[Sight, Mapping[str, FloatArray]]]]:
    """Return shadow -> its sights and sums, of every lane that met it and version it was seen beside."""
    found: dict[str, list[tuple[Sight, Mapping[str, FloatArray]]]] = {}
    for lane in range(settings.lanes):
        key = scoreboard_key(unit_prefix(settings.namespace, lane_unit(lane)))
        for field, raw in sorted((await redis.hgetall(key)).items()):
            at, _, shadow = field.decode().partition(":")
            if at == surface:
                arrays, document = unpack_arrays(raw)
                found.setdefault(shadow.partition("@")[0], []).append((sight_of(document), arrays))
    return found
