"""What the replay command does: puts a snapshot in place if there is one, replays, says how far it is."""

import time
from pathlib import Path
from typing import Any

import click
from redis.exceptions import RedisError

from state.clients import redis_client
from state.erasure import read_erasures
from state.frames import FrameError, check_file
from state.scan import UnreadableKeyError, read_meta
from state.settings import Settings
from state.snapshots import SnapshotError, read_head, restore_snapshot
from stream.journal import JournalError
from stream.replay import Skips
from stream.replay_run import (
    GENESIS,
    Plan,
    Replay,
    Replayed,
    ReplayError,
    Until,
    check_target,
    replay_marks,
    reporting,
)

Ending = tuple[int | None, int | None, dict[str, int]]
REFUSALS = (ReplayError, JournalError, SnapshotError, FrameError, UnreadableKeyError, RedisError, OSError)


async def replay_into(
    settings: Settings, into: str, path: Path | None, ending: Ending
) -> tuple[bool, list[str]]:
    """Replay a namespace into another; returns whether it went well, and lines to print."""
    started = time.monotonic()
    try:
        check_target(settings, into)
        origin = GENESIS if path is None else await put_in_place(settings, into, path)
        run = Replay(settings, Plan(into, origin, Until(*ending), await erased(settings)))
        done = await reporting(run, lambda so_far: click.echo(said(so_far, time.monotonic() - started)))
    except REFUSALS as error:
        return False, [str(error)]
    lasted = time.monotonic() - started
    return True, [f"{settings.namespace} replayed into {into} in {lasted:.1f} s", *described(done, lasted)]


async def erased(settings: Settings) -> Skips:
    """Return which rows a replay leaves out: those of subjects on the erasure list, read before anything."""
    async with redis_client(settings, timeout_s=30.0) as redis:
        return (await read_erasures(redis, settings)).skips


async def put_in_place(settings: Settings, into: str, path: Path) -> str:
    """Restore a snapshot as the beginning of a replay, unless that replay is under way; returns its name.

    Raises
    ------
    SnapshotError
        If it is of another namespace, or the target holds something else.
    FrameError
        If the file is not whole.
    """
    head = read_head(path)
    if head["namespace"] != settings.namespace:
        raise SnapshotError(
            f"file {path} is a snapshot of {head['namespace']!r}; wished: one of {settings.namespace!r}"
        )
    origin = check_file(path).hex()
    marks = replay_marks(settings, origin)
    redis: Any = redis_client(settings, timeout_s=30.0)
    try:
        metas = [await read_meta(redis, into, unit) for unit in head["units"]]
        if not all(marks.items() <= meta.items() for meta in metas):
            await restore_snapshot(redis, path, into, marks)
    finally:
        await redis.aclose()
    return origin


def said(done: Replayed, seconds: float) -> str:
    """Return how far a replay is, in one line."""
    units = " ".join(f"{unit}:{commit}" for unit, commit in sorted(done.units.items()))
    rate = done.events / max(seconds, 1e-9)
    return f"{done.events:,} events, {done.commits:,} commits, {rate:,.0f} events/s; at {units}"


def described(done: Replayed, seconds: float) -> list[str]:
    """Return what a replay did, as lines."""
    lines = [said(done, seconds)]
    if done.missing:
        lines.append(f"{done.missing:,} records the journal names are no longer in their topics")
    return lines
