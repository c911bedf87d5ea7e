"""``headwater snapshot``: all state of a namespace in one file, and back."""

import asyncio
import time
from pathlib import Path
from typing import Any

import click
from redis.exceptions import RedisError

from headwater.console import command_settings, finish, with_namespace
from state.settings import Settings


@click.group()
def snapshot() -> None:
    """Write all state of a namespace to a file, or put it back."""


@snapshot.command("create")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--namespace", help="Which namespace; that of the settings otherwise.")
def create(file: Path, namespace: str | None) -> None:
    """Write a snapshot; each unit's commits wait while that unit is read."""
    settings = command_settings()
    name = with_namespace(settings, namespace or settings.namespace).namespace
    finish(asyncio.run(created(settings, name, file)))


@snapshot.command("restore")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--into", required=True, help="Namespace to fill; it must hold nothing.")
def restore(file: Path, into: str) -> None:
    """Put a snapshot into an empty namespace; said again after a stop, it goes on."""
    settings = command_settings()
    with_namespace(settings, into)
    finish(asyncio.run(restored(settings, into, file)))


async def created(settings: Settings, namespace: str, file: Path) -> tuple[bool, list[str]]:
    """Write a snapshot; returns whether it went well, and lines to print."""
    from state.scan import UnreadableKeyError
    from state.snapshots import SnapshotError, create_snapshot

    redis = _client(settings)
    about = {"created_at": time.time_ns() // 1_000_000}
    try:
        written = await create_snapshot(redis, namespace, about, file)
    except (SnapshotError, UnreadableKeyError, RedisError, OSError) as error:
        return False, [str(error) or repr(error)]
    finally:
        await redis.aclose()
    units = " ".join(f"{unit}:{commit}" for unit, commit in written.commits.items())
    return True, [f"{file}: {written.bytes:,} bytes of {namespace}, at {units}"]


async def restored(settings: Settings, into: str, file: Path) -> tuple[bool, list[str]]:
    """Put a snapshot back; returns whether it went well, and lines to print."""
    from state.frames import FrameError
    from state.snapshots import SnapshotError, restore_snapshot

    redis = _client(settings)
    try:
        units = await restore_snapshot(redis, file, into)
    except (SnapshotError, FrameError, RedisError, OSError) as error:
        return False, [str(error) or repr(error)]
    finally:
        await redis.aclose()
    return True, [f"{into}: {len(units)} units restored from {file}"]


def _client(settings: Settings) -> Any:
    from state.clients import redis_client

    return redis_client(settings, timeout_s=30.0)
