"""``headwater attribution``: what became of decisions and their events, surface by surface."""

import asyncio

import click
from redis.exceptions import RedisError

from headwater.console import command_settings, finish
from state.attributed import KINDS_OF_COUNT, AttributionCounts, SurfaceCounts, read_attribution
from state.clients import redis_client
from state.settings import Settings

_ALL = "all"


@click.command()
def attribution() -> None:
    """Show what became of decisions and their events, surface by surface."""
    finish(asyncio.run(_shown(command_settings())))


async def _shown(settings: Settings) -> tuple[bool, list[str]]:
    redis = redis_client(settings, timeout_s=5.0)
    try:
        return True, table(await read_attribution(redis, settings))
    except (RedisError, OSError, TimeoutError) as error:
        return False, [f"cannot reach the store: {error}"]
    finally:
        await redis.aclose()


def table(counts: AttributionCounts) -> list[str]:
    """Return the counts as lines, one a surface and one for all, in columns."""
    named = [*counts.surfaces.items(), (_ALL, counts.total)]
    rows = [("surface", *KINDS_OF_COUNT), *((name, *_figures(one)) for name, one in named)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    ]


def _figures(counts: SurfaceCounts) -> list[str]:
    return [str(getattr(counts, kind)) for kind in KINDS_OF_COUNT]
