"""Bytes the store really needs for a synthetic population, beside what ``headwater plan`` predicts.

Each size fills a store process of its own through the commit script, with records made by the classes that
fold real events (`headwater/population.py`): geometric numbers of interactions (mean 8), sessions of five,
items by Zipf(1). Up to 20,000 visitors and 5,000 decisions are made one by one; more are copies of these
under keys of their own.
"""

import argparse
import asyncio
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from benchmarks._memory_fill import Filling, fill
from benchmarks._run import console
from headwater.embedded import EmbeddedStore
from headwater.population import Population
from headwater.sizing import Plan
from headwater.sizing import plan as make_plan
from state.clients import redis_client
from state.settings import Settings
from state.store_memory import LAYOUTS

DAY_S = 86_400.0
QUIET_S = 0.4
PATIENCE_S = 60.0
JITTER = 8_192
GOAL = 0.10
TELLING = 500_000
"""Bytes below which a family says little: the store's own buffers move by tens of kilobytes."""
_HEADLINES = {"subject": "user", "items": "item", "sessions": "session"}


def population(users: int, seed: int) -> Population:
    """Return the population of a size: an item for each 20 users, a session for each second one."""
    return Population(users, max(1_000, users // 20), users // 2, decisions_per_day=users // 20, seed=seed)


def settings_of(people: Population, redis: str) -> Settings:
    """Return settings under which a day of decisions is kept: a month of them would fill any machine."""
    return Settings(
        namespace=f"mem-{time.time_ns() // 10**6 % 10**9}", redis=redis, max_sessions=max(1, people.sessions),
        decision_ttl_s=DAY_S, block_life_s=DAY_S,
    )  # fmt: skip


async def measure(people: Population, settings: Settings, layout: str) -> dict[str, Any]:
    """Fill a store and return what was measured beside what was predicted."""
    # The plan must not see the very records it is compared with, only the population they come from.
    plan = make_plan(msgspec.structs.replace(people, seed=people.seed + 1_000), settings, LAYOUTS[layout])
    started = time.monotonic()
    async with redis_client(settings, timeout_s=120.0) as redis:
        first = before = await _settled(redis)
        families: dict[str, dict[str, Any]] = {}
        async for name, count in fill(Filling(redis, settings, people, plan)):
            after = await _settled(redis)
            families[name] = _compared(plan, name, count, after - before)
            before = after
        memory = await redis.info("memory")
    return _report(people, families, before - first, memory) | {
        "seconds": round(time.monotonic() - started, 1)
    }


async def _settled(redis: Any) -> int:
    """Return used memory once it stands still: tables grow to their new size in the background."""
    used, deadline = -1, time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        last, used = used, int((await redis.info("memory"))["used_memory"])
        if abs(used - last) < JITTER:
            break
        await asyncio.sleep(QUIET_S)
    return used


def _compared(plan: Plan, name: str, count: int, measured: int) -> dict[str, Any]:
    predicted = plan.family(name)
    return {
        "count": count, "measured": measured, "predicted_count": predicted.count,
        "predicted": round(predicted.total),
        "relative_error": round((predicted.total - measured) / max(1, measured), 4),
    }  # fmt: skip


def _report(
    people: Population, families: dict[str, dict[str, Any]], measured: int, memory: dict[str, Any]
) -> dict[str, Any]:
    predicted = sum(family["predicted"] for family in families.values())
    total = {
        "measured": measured,
        "predicted": predicted,
        "relative_error": round(predicted / measured - 1, 4),
    }
    each: dict[str, float] = {}
    for name, word in _HEADLINES.items():
        family = families[name]
        each[f"bytes_per_{word}"] = round(family["measured"] / family["count"], 1)
        each[f"predicted_bytes_per_{word}"] = round(family["predicted"] / family["predicted_count"], 1)
    telling = [f for f in families.values() if f["measured"] > TELLING]
    return {
        "population": msgspec.to_builtins(people),
        **each,
        "families": families,
        "total": total,
        "max_relative_error": max(abs(f["relative_error"]) for f in [*telling, total]),
        "allocator": memory["mem_allocator"],
        "fragmentation": memory["mem_fragmentation_ratio"],
        "resident": memory["used_memory_rss"],
    }


def show(result: dict[str, Any]) -> None:
    """Print one size's table."""
    title = f"{result['population']['users']:,} users, {result['seconds']} s, {result['allocator']}"
    table = Table("family", "entries", "bytes each", "predicted", "in all", "error", title=title)
    for name, family in [*result["families"].items(), ("in all", result["total"])]:
        count = family.get("count")
        each = (
            [f"{count:,}", *(f"{family[one] / count:,.1f}" for one in ("measured", "predicted"))]
            if count
            else [""] * 3
        )
        mega, error = f"{family['measured'] / 1e6:,.1f} MB", f"{family['relative_error']:+.1%}"
        table.add_row(name, *each, mega, error)
    console.print(table)
    ok = "within" if result["max_relative_error"] <= GOAL else "not within"
    resident = f"resident {result['resident'] / 1e6:,.0f} MB, fragmentation {result['fragmentation']}"
    console.print(f"{ok} {GOAL:.0%}: largest error {result['max_relative_error']:.1%}; {resident}")


def run_size(users: int, given: argparse.Namespace) -> dict[str, Any]:
    """Measure one size in a store of its own, or in the one that was named."""
    people = population(users, given.seed)
    with ExitStack() as stack:
        redis = given.redis or stack.enter_context(EmbeddedStore()).unix_url
        result = asyncio.run(measure(people, settings_of(people, redis), given.store))
    show(result)
    return result


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--users-list", type=int, nargs="+", help="several sizes, one after another")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--redis", metavar="URL", help="an empty store, left filled; embedded otherwise")
    parser.add_argument(
        "--store", choices=sorted(LAYOUTS), default="valkey", help="the layout to compare with"
    )
    given = parser.parse_args()
    sizes = [run_size(users, given) for users in given.users_list or [given.users]]
    figures = {
        **sizes[-1],
        "max_relative_error": max(one["max_relative_error"] for one in sizes),
        "sizes": sizes,
    }
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(figures)))


if __name__ == "__main__":
    main()
