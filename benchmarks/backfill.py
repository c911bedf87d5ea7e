"""How many rows of history a second an import takes: read and checked, sent, and folded until lag is 0.

``python -m benchmarks.backfill --rows 100000 --json backfill.json``. One worker with all learning on. Each
figure is of the whole import, process start and compilation left out. The floor publishes the same bytes with
the same headers by a plain producer that has them ready in memory.
"""

import argparse
import asyncio
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from benchmarks import _run
from benchmarks._backfill_load import publish_plainly, write_file
from headwater.demo.counts import read_folded
from headwater.imports.plan import Plan
from headwater.imports.run import Import
from headwater.imports.shape import Shape
from state.clients import redis_client
from state.keys import meta_key, subject_unit, unit_prefix
from state.settings import Settings

WARM_ROWS = 1_000


class Silent:
    """A screen nobody looks at."""

    def fingerprinting(self, read: int, size: int) -> None:
        """Say nothing."""

    def going(self, read: int, size: int, counts: Counter[str]) -> None:
        """Say nothing."""

    def tell(self, sentence: str) -> None:
        """Say nothing."""


async def warmed_up(settings: Settings, path: Path) -> None:
    """Let a worker that has claimed its shards fold a few rows, so that its loops are compiled."""
    few = path.with_name("few.jsonl")
    with path.open("rb") as file:
        few.write_bytes(b"".join(file.readline() for _ in range(WARM_ROWS)))
    await import_file(settings, few)


async def import_file(settings: Settings, path: Path, **plan: Any) -> tuple[float, Counter[str]]:
    """Import a file; returns the seconds it took and what became of its rows."""
    shape = Shape(f"import-{time.time_ns() % 10**9}", "clicks")
    started = time.perf_counter()
    counts = await Import(settings, Plan(shape, [path], **plan), Silent()).run()
    return time.perf_counter() - started, counts


async def claimed(settings: Settings) -> None:
    """Wait until a worker has claimed the shards."""
    redis = redis_client(settings, timeout_s=5.0)
    keys = [
        meta_key(unit_prefix(settings.namespace, subject_unit(shard))) for shard in range(settings.shards)
    ]
    try:
        while not all([await redis.hget(key, "epoch") for key in keys]):
            await asyncio.sleep(0.05)
    finally:
        await redis.aclose()


async def measure(settings: Settings, rows: int, path: Path) -> dict[str, float]:
    """Return rows a second of every stage."""
    apart = msgspec.structs.replace(settings, namespace=f"{settings.namespace}-floor")
    await _run.prepare(settings)
    await _run.prepare(apart)
    floor = await publish_plainly(apart, rows, settings.seed or 0)
    looked, _ = await import_file(settings, path, dry_run=True)
    alone, _ = await import_file(apart, path, ahead=0)
    with _run.child("worker", settings) as worker:
        await claimed(settings)
        await warmed_up(settings, path)
        used = _run.cpu_seconds(worker.pid)
        folded, counts = await import_file(settings, path)
        used = _run.cpu_seconds(worker.pid) - used
    counted = (await read_folded(settings)).subjects.get("imported.clicks", 0)
    if counts["sent"] != rows or counted != rows + WARM_ROWS:
        raise RuntimeError(f"{rows} rows and {WARM_ROWS} before, {counts['sent']} sent, {counted} counted")
    return {
        "plain producer, rows/s": rows / floor,
        "read and checked only, rows/s": rows / looked,
        "importer alone, rows/s": rows / alone,
        "importer alone / plain producer": floor / alone,
        "importer and worker until folded, rows/s": rows / folded,
        "worker, microseconds of processor a row": 1e6 * used / rows,
    }


def main() -> None:
    """Run the benchmark."""
    parser = _run.options(__doc__, seconds=0.0, rate=0.0)
    parser.add_argument("--rows", type=int, default=100_000, help="of history")
    given: argparse.Namespace = parser.parse_args()
    with _run.bench_settings(given) as settings, TemporaryDirectory() as folder:
        path = Path(folder) / "clicks.jsonl"
        write_file(path, given.rows, given.seed)
        found = asyncio.run(measure(settings, given.rows, path))
    _run.console.print(_run.figures(f"import of {given.rows:,} clicks", found))
    _run.finish(given, {"rows": given.rows, "figures": found})


if __name__ == "__main__":
    main()
