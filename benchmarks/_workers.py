"""Worker processes that all begin to fold at the same moment: the store holds their claims until told."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from itertools import chain
from subprocess import Popen
from typing import Any

import msgspec

from benchmarks._run import child
from state.cluster import ClusterClient
from state.settings import Settings

HOLD_MS = 120_000
CALM_S = 1.5


@asynccontextmanager
async def held_workers(
    redis: Any, settings: Settings, count: int, timeout_s: float = 90.0
) -> AsyncIterator[list["Popen[bytes]"]]:
    """Start workers and yield them in the moment they are let go.

    While the store takes no writes, workers wait in their claims; once every unit is waited for by one of
    them, and each waits for some, the group has settled and the store goes on.
    """
    units = settings.shards + settings.item_shards + settings.lanes + 1
    with ExitStack() as stack:
        await redis.ping()  # a cluster's nodes are known from the first command on
        await redis.client_pause(HOLD_MS, all=False, **_everywhere(redis))
        try:
            started = [
                stack.enter_context(child("worker", _named(settings, n, count > 1))) for n in range(count)
            ]
            await _settled(redis, units, count, timeout_s)
        finally:
            await redis.client_unpause(**_everywhere(redis))
        yield started


def _everywhere(redis: Any) -> dict[str, Any]:
    """Return what sends a command to every primary of a cluster; nothing for a single store."""
    return {"target_nodes": redis.get_primaries()} if isinstance(redis, ClusterClient) else {}


def _named(settings: Settings, number: int, first: bool) -> Settings:
    mark = "&" if "?" in settings.redis else "?"
    port = settings.metrics_port if number == 0 or not first else 0
    return msgspec.structs.replace(
        settings, redis=f"{settings.redis}{mark}client_name=worker-{number}", metrics_port=port
    )


async def _settled(redis: Any, units: int, count: int, timeout_s: float) -> None:
    """Wait until the workers' claims have been the same for a while.

    Raises
    ------
    TimeoutError
        If they are not in time.
    """
    deadline, since = time.monotonic() + timeout_s, time.monotonic()
    known: dict[str, int] = {}
    while time.monotonic() < deadline:
        listed = await redis.client_list(**_everywhere(redis))
        claims = waiting_claims([*chain(*listed.values())] if isinstance(listed, dict) else listed)
        if claims != known:
            since, known = time.monotonic(), claims
        done = len(claims) == count and sum(claims.values()) == units
        if done and time.monotonic() - since > CALM_S:
            return
        await asyncio.sleep(0.1)
    raise TimeoutError(f"workers did not share {units} units within {timeout_s:.0f} s; they claim {known}")


def waiting_claims(clients: list[dict[str, str]]) -> dict[str, int]:
    """Return how many scripts each worker waits for, from the store's list of clients."""
    claims: dict[str, int] = {}
    for one in clients:
        name = one.get("name", "")
        if name.startswith("worker-") and one.get("cmd") == "eval" and "b" in one.get("flags", ""):
            claims[name] = claims.get(name, 0) + 1
    return claims
