"""Promise 13: hostile input finds no crash, no hang and no growth of memory.

``python -m benchmarks.fuzz --cases 200000 --seconds 120 --json fuzz.json``. Mutated events go through the
decoder and mutated expressions through the filter language, in this process, seeded; then schemathesis tries
everything the OpenAPI document of a real server says, with all its checks. Exit code 1 where anything failed.
"""

import argparse
import asyncio
import sys
from typing import Any

import msgspec

from benchmarks import _run
from benchmarks._fuzzing import AT, Found, fuzz, hostile_events, hostile_filters
from benchmarks._schemathesis import Run, run_schemathesis
from benchmarks._synthetic import Shop
from headwater.embedded import EmbeddedRuntime
from headwater.logs import configure_logs
from serving.filters import evaluate
from serving.items import ItemTable
from state.decoding import decode_event
from state.filters import parse_filter
from tests.integration.rig import Processes, Rig, engine_settings, is_alive, make_items


def fuzz_decoder(seed: int, cases: int) -> Found:
    """Feed mutated events to the decoder."""
    return fuzz(lambda given: decode_event(given[0], given[1], received_at=AT), hostile_events(seed), cases)


def fuzz_filters(seed: int, cases: int) -> Found:
    """Feed mutated expressions to the parser, and those it understands to items."""
    items = ItemTable(16)
    for item in Shop(50, 100, AT, seed).catalogue():
        items.put(item)
    return fuzz(lambda text: evaluate(parse_filter(text), items, slice(0, 50)), hostile_filters(seed), cases)


async def fuzz_api(given: argparse.Namespace) -> tuple[Run, dict[str, float]]:
    """Run schemathesis against an engine of its own; returns its server's memory, too."""
    with EmbeddedRuntime() as runtime:
        settings = engine_settings(runtime.kafka, runtime.redis, "fuzz", log_level="ERROR")
        with Processes(settings) as processes:
            async with Rig(processes) as rig:
                await rig.start()
                await rig.catalogue(make_items(("drama", "comedy"), 50))
                (server,) = processes.servers
                before = _run.resident_mb(server.pid)
                options = {"examples": given.examples, "seconds": given.seconds, "seed": given.seed}
                found = await asyncio.to_thread(run_schemathesis, rig.api, **options)
                assert is_alive(server), "the server ended"
                after = _run.resident_mb(server.pid)
    return found, {"resident_mb_before": before, "resident_mb_after": after}


def _rows(found: Found) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(found)
    return told | {"slowest_ms": round(found.slowest_ms, 2)}


def main() -> int:
    """Fuzz, print, and return the exit code."""
    parser = _run.options(__doc__, seconds=120.0, rate=0.0)
    parser.add_argument("--cases", type=int, default=200_000, help="of each of decoder and filters")
    parser.add_argument("--examples", type=int, default=50, help="of each operation, by schemathesis")
    given = parser.parse_args()
    configure_logs("ERROR")
    decoder, filters = fuzz_decoder(given.seed, given.cases), fuzz_filters(given.seed, given.cases)
    for name, one in (("decoder", decoder), ("filters", filters)):
        _run.console.print(_run.figures(f"{name}: {given.cases} cases", _rows(one)))
    report: dict[str, Any] = {"decoder": _rows(decoder), "filters": _rows(filters)}
    is_bad = bool(decoder.crashes or filters.crashes)
    if given.seconds > 0:
        api, memory = asyncio.run(fuzz_api(given))
        rows = {"operations": api.operations, "cases": api.cases, "failures": api.failures, **memory}
        _run.console.print(_run.figures("schemathesis, all checks", rows))
        if given.json is not None:
            given.json.with_suffix(".txt").write_text(api.printed)
        if api.exit_code:
            _run.console.print(api.printed, markup=False, highlight=False)
        report["api"], is_bad = rows, is_bad or api.exit_code != 0
    _run.finish(given, report)
    return int(is_bad)


if __name__ == "__main__":
    sys.exit(main())
