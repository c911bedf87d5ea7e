"""The scoreboard as metrics: read every half minute, so that it can be alerted on."""

import asyncio
from collections.abc import Iterable, Mapping

import structlog

from serving.live import LiveState
from serving.metrics import ServerMetrics
from serving.scoreboard import ScoreboardAnswer, ScoreboardReader
from serving.store import UNREACHABLE

log = structlog.get_logger(__name__)
_EXPORT_EVERY_S = 30.0


async def export_scores(reader: ScoreboardReader, live: LiveState, metrics: ServerMetrics) -> None:
    """Keep the gauges of every surface's shadows up to date, for ever."""
    boards: dict[str, ScoreboardAnswer] = {}
    while True:
        boards = await read_boards(reader, live.watched, boards)
        show_scores(boards.values(), metrics)
        await asyncio.sleep(_EXPORT_EVERY_S)


async def read_boards(
    reader: ScoreboardReader, surfaces: Iterable[str], held: Mapping[str, ScoreboardAnswer]
) -> dict[str, ScoreboardAnswer]:
    """Return the boards of surfaces, what is held of one that cannot be read now."""
    boards: dict[str, ScoreboardAnswer] = {}
    for surface in surfaces:
        try:
            boards[surface] = await reader.read(surface)
        except UNREACHABLE as error:
            log.warning("scoreboard not read", surface=surface, why=str(error))
        except Exception:  # as what a newer worker wrote: the other surfaces' gauges go on
            log.exception("scoreboard not understood", surface=surface)
        if surface not in boards and surface in held:
            boards[surface] = held[surface]
    return boards


def show_scores(boards: Iterable[ScoreboardAnswer], metrics: ServerMetrics) -> None:
    """Set the gauges of all surfaces; a shadow whose log cannot tell has decisions and no reward.

    What no board tells of any longer has no gauge.
    """
    metrics.shadow_decisions.clear()
    metrics.shadow_reward.clear()
    for board in boards:
        for one in board.shadows:
            metrics.shadow_decisions.labels(board.surface, one.shadow).set(one.decisions)
            if one.reward is not None:
                for bound in ("value", "low", "high"):
                    gauge = metrics.shadow_reward.labels(board.surface, one.shadow, bound)
                    gauge.set(getattr(one.reward, bound))
