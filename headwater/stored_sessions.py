"""A namespace's sessions as a click log: what servers build their session index from."""

import gzip
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from headwater.evaluation.clicks import Clicks, in_time
from state.clients import redis_client
from state.keys import sessions_key, subject_unit, unit_prefix
from state.sessions import SessionRow, decode_session
from state.settings import Settings

_SCANNED = 500


async def read_sessions(settings: Settings) -> list[SessionRow]:
    """Return the stored sessions of a namespace, in no order.

    Raises
    ------
    RedisError, OSError
        If the store cannot be reached.
    """
    found: dict[bytes, SessionRow] = {}
    async with redis_client(settings, timeout_s=30.0) as redis:
        for shard in range(settings.shards):
            key = sessions_key(unit_prefix(settings.namespace, subject_unit(shard)))
            async for name, raw in redis.hscan_iter(key, count=_SCANNED):
                found[bytes(name)] = decode_session(raw)
    return list(found.values())


def clicks_of(sessions: Iterable[SessionRow]) -> Clicks:
    """Return sessions as clicks in order of time; sessions are numbered in the order in which they begin."""
    numbers: dict[str, int] = {}
    begun = sorted((row for row in sessions if row.items), key=lambda row: (row.at_ms[0], row.items))
    keys = np.repeat(np.arange(len(begun)), [len(row.items) for row in begun])
    items = [numbers.setdefault(item, len(numbers)) for row in begun for item in row.items]
    times = [at for row in begun for at in row.at_ms]
    return in_time(Clicks(keys, np.array(items, np.int64), np.array(times, np.int64)))


def write_log(sessions: Iterable[SessionRow], folder: Path) -> Path:
    """Write sessions as `stream.tsv.gz` (session, no user, item, seconds), by time; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        (at, number, item)
        for number, row in enumerate(sessions)
        for item, at in zip(row.items, row.at_ms, strict=True)
    ]
    path = folder / "stream.tsv.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(f"{number}\t\t{item}\t{at / 1000:.3f}\n" for at, number, item in sorted(rows))
    return path
