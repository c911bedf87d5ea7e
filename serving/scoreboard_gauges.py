"""The scoreboard as metrics: read every half minute, so that it can be alerted on."""

import asyncio

import structlog
from redis.exceptions import RedisError

from serving.live import LiveState
from serving.metrics import ServerMetrics
from serving.scoreboard import ScoreboardAnswer, ScoreboardReader

log = structlog.get_logger(__name__)
_EXPORT_EVERY_S = 30.0


async def export_scores(reader: ScoreboardReader, live: LiveState, metrics: ServerMetrics) -> None:
    """Keep the gauges of every surface's shadows up to date, for ever."""
    while True:
        for surface in live.watched:
            try:
                show_scores(await reader.read(surface), metrics)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("scoreboard not read", surface=surface, why=str(error))
        await asyncio.sleep(_EXPORT_EVERY_S)


def show_scores(board: ScoreboardAnswer, metrics: ServerMetrics) -> None:
    """Set the gauges of one surface; a shadow whose log cannot tell has decisions and no reward."""
    for one in board.shadows:
        metrics.shadow_decisions.labels(board.surface, one.shadow).set(one.decisions)
        if one.reward is not None:
            for bound in ("value", "low", "high"):
                gauge = metrics.shadow_reward.labels(board.surface, one.shadow, bound)
                gauge.set(getattr(one.reward, bound))
