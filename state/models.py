"""What is known of a surface's models besides their weights: versions, shadows, measures, history."""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct, field

from state.keys import lane_unit, lifecycle_key, unit_prefix
from state.settings import Settings


class SegmentFacts(Struct, omit_defaults=True):
    """Latest rows of one segment: weight of rows and clicks, calibration (0 without clicks), log loss."""

    name: str
    rows: float
    clicks: float
    calibration: float
    log_loss: float


class HeadFacts(Struct):
    """What one head's model is worth.

    Attributes
    ----------
    kind
        ``linear`` or ``fm``.
    rows, steps
        Rows judged and gradient steps learnt.
    log_loss, base_log_loss
        Means since the start, of the model and of always saying the overall rate.
    window_log_loss, window_auc
        Of the latest rows; 0 where unknown.
    rate
        Share of the latest rows that had the label.
    calibration, calibration_error, raw_calibration_error
        Probabilities over labels of the latest rows, and the expected calibration error after and before
        correction.
    correction
        Slope and shift of the correction.
    calibration_alarms, loss_alarms
        Of the drift watch.
    memory_rows
        Rows over which past gradients are forgotten just now.
    """

    kind: str
    rows: int
    steps: int
    log_loss: float
    base_log_loss: float
    window_log_loss: float
    window_auc: float
    rate: float
    calibration: float
    calibration_error: float
    raw_calibration_error: float
    correction: tuple[float, float]
    calibration_alarms: int
    loss_alarms: int
    memory_rows: float


class Version(Struct):
    """One kept snapshot of a champion.

    Attributes
    ----------
    number, label
        Its number in the lane, and its name where somebody gave it one.
    at
        Event time, ms.
    offset
        Of the outcomes topic: all before it, and none after, are in it.
    rows, log_loss
        Rows its click model had judged, and their mean log loss.
    checksum
        CRC-32 of the snapshot.
    why
        What it was kept for.
    """

    number: int
    label: str
    at: int
    offset: int
    rows: int
    log_loss: float
    checksum: int
    why: str


class Evidence(Struct):
    """A shadow's log loss less the champion's: outcomes, sum, sum of squares, mean and interval."""

    outcomes: int = 0
    sum: float = 0.0
    squares: float = 0.0
    mean: float = 0.0
    low: float | None = None
    high: float | None = None


class Shadow(Struct):
    """A model that learns and is judged without serving."""

    document: dict[str, Any]
    since: int
    by: str = ""
    why: str = ""
    heads: dict[str, HeadFacts] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence)


class Step(Struct):
    """One thing that was done, or refused, in a model's life.

    Attributes
    ----------
    at
        Event time, ms.
    what
        ``models``, ``challenger``, ``promotion``, ``rollback``, ``version``, ``drift`` or ``features``.
    done
        Whether it was done.
    detail
        In words, with the figures it was decided by.
    by, why
        Who asked for it and the reason given.
    asked
        Event id of the control document that asked for it; empty where the lane did it by itself.
    """

    at: int
    what: str
    done: bool
    detail: str
    by: str = ""
    why: str = ""
    asked: str = ""


class Lifecycle(Struct):
    """Everything about one surface's models in one lane that is not weights.

    Attributes
    ----------
    champion
        Number of the version the champion comes from: it has learnt since.
    number
        Number of the version given last.
    began
        Event time of its first outcome, ms.
    outcomes
        Outcomes learnt.
    promotes
        ``manual`` or ``automatic``.
    versions, shadows, steps
        Kept versions, running shadows, and the latest steps, oldest first.
    heads, segments
        Measures of the champion, refreshed now and then.
    features, crosses, hashed
        Fingerprint of its rows, and what it crosses.
    told_rows
        Rows at which the measures were refreshed.
    updated
        Event time of that, ms.
    """

    champion: int = 0
    number: int = 0
    began: int = 0
    outcomes: int = 0
    promotes: str = "manual"
    versions: list[Version] = field(default_factory=list)
    shadows: dict[str, Shadow] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    heads: dict[str, HeadFacts] = field(default_factory=dict)
    segments: list[SegmentFacts] = field(default_factory=list)
    features: str = ""
    crosses: list[tuple[str, str]] = field(default_factory=list)
    hashed: list[list[str]] = field(default_factory=list)
    told_rows: int = -1
    updated: int = 0


encode_lifecycle = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Lifecycle)


def decode_lifecycle(raw: bytes) -> Lifecycle:
    """Return what `encode_lifecycle` made bytes of."""
    return _decoder.decode(raw)


async def read_lifecycles(redis: Any, settings: Settings) -> dict[str, dict[int, Lifecycle]]:
    """Return surface -> lane -> lifecycle, as the lanes have committed them."""
    found: dict[str, dict[int, Lifecycle]] = {}
    for lane in range(settings.lanes):
        stored = await redis.hgetall(lifecycle_key(unit_prefix(settings.namespace, lane_unit(lane))))
        for surface, raw in sorted(stored.items()):
            found.setdefault(surface.decode(), {})[lane] = decode_lifecycle(raw)
    return found


def steps_asked(lanes: Iterable[Lifecycle], asked: str) -> list[Step]:
    """Return what lanes did of one control document, one step a lane that has met it."""
    return [step for lane in lanes for step in lane.steps if step.asked == asked]
