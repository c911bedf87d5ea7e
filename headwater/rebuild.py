"""``headwater rebuild``: state folded anew without erased subjects, put in the place of the live one."""

import asyncio
import time
from typing import Any

import click
from msgspec import Struct
from msgspec.structs import replace

from headwater.console import become_service, checked_secret, command_settings, finish
from headwater.replaying import REFUSALS
from state.clients import redis_client
from state.erasure import read_erasures
from state.keys import subject_unit, unit_prefix
from state.receipts import mark_rebuilt, waiting_for_rebuild
from state.replacing import ReplacedMeanwhileError, drop_namespace, replace_state
from state.scan import read_meta
from state.settings import Settings
from state.snapshots import Hold
from stream.journal import read_mark
from stream.replay_run import Plan, Replay, ReplayError, units_of

CATCH_UP_PATIENCE_S = 60.0
NOT_REBUILT = ("i", "c")
"""Item shards and control: nothing in them was learnt from a subject."""


class Rebuilt(Struct):
    """What a rebuild did: units and keys replaced, entries of the erasure list it settled, seconds held."""

    units: int = 0
    keys: int = 0
    erasures: int = 0
    longest_hold_s: float = 0.0


@click.command()
@click.option("--beside", default=None, help="Namespace to fold into meanwhile  [default: NAMESPACE-rebuild]")
@click.option("--always", is_flag=True, help="Also when no erasure waits for it.")
def rebuild(beside: str | None, *, always: bool) -> None:
    """Fold the journal anew without erased subjects, and put that state in place of the live one.

    Workers and servers go on meanwhile; each unit is held for the moment its state is exchanged. Run it at
    least as often as HEADWATER_REBUILD_WITHIN_S says; with nothing to do it does nothing.
    """
    become_service()
    settings = checked_secret(command_settings())
    finish(asyncio.run(_rebuild(settings, beside or f"{settings.namespace}-rebuild", always=always)))


async def _rebuild(settings: Settings, beside: str, *, always: bool) -> tuple[bool, list[str]]:
    redis: Any = redis_client(settings, timeout_s=30.0)
    try:
        if not always and not await waiting_for_rebuild(redis, settings):
            return True, ["no erasure waits for a rebuild"]
        done = await run_rebuild(redis, settings, beside)
    except (*REFUSALS, ReplacedMeanwhileError, TimeoutError) as error:
        return False, [f"not rebuilt: {error}", "said again, it goes on"]
    finally:
        await redis.aclose()
    return True, [
        f"{done.units} units rebuilt, {done.keys:,} keys; the longest hold took {done.longest_hold_s:.2f} s",
        f"{done.erasures} erasures settled",
    ]


async def run_rebuild(redis: Any, settings: Settings, beside: str) -> Rebuilt:
    """Rebuild every unit that learns; a rebuild that was stopped begins with what it had folded.

    Raises
    ------
    ReplayError, JournalError
        If the journal cannot be folded anew.
    SnapshotError, ReplacedMeanwhileError
        If a unit did not hold still.
    """
    commits = {n: await _commit_of(redis, settings, subject_unit(n)) for n in range(settings.shards)}
    plan = Plan(beside, skips=(await read_erasures(redis, settings)).skips)
    done = Rebuilt()
    for unit in units_of(settings):
        if not unit.startswith(NOT_REBUILT):
            await _exchange(redis, settings, replace(plan, only=unit), done)
    now_ms = time.time_ns() // 1_000_000
    for shard, commit in commits.items():
        prefix = unit_prefix(settings.namespace, subject_unit(shard))
        done.erasures += await mark_rebuilt(redis, prefix, commit, now_ms)
    await drop_namespace(redis, beside)
    return done


async def _exchange(redis: Any, settings: Settings, plan: Plan, done: Rebuilt) -> None:
    assert plan.only is not None
    await _fold_anew(settings, plan)  # nearly all of it, while nobody waits for it
    started = time.monotonic()
    async with Hold(redis, unit_prefix(settings.namespace, plan.only)) as hold:
        commit = await _catch_up(redis, settings, plan, hold)
        place = (settings.namespace, plan.only)
        done.keys += await replace_state(redis, place, plan.into, commit, hold)
    done.units += 1
    done.longest_hold_s = max(done.longest_hold_s, time.monotonic() - started)


async def _fold_anew(settings: Settings, plan: Plan) -> None:
    done = await Replay(settings, plan).run()
    if done.missing:
        raise ReplayError(
            f"unit {plan.only}: of the records its journal names {done.missing} are gone; wished: all of them"
        )


async def _catch_up(redis: Any, settings: Settings, plan: Plan, hold: Hold) -> int:
    """Fold what a held unit has journalled until nothing is missing; returns the unit's commit."""
    assert plan.only is not None
    live = await read_meta(redis, settings.namespace, plan.only)
    async with asyncio.timeout(CATCH_UP_PATIENCE_S):
        while read_mark(await read_meta(redis, plan.into, plan.only)).commit < read_mark(live).commit:
            await _fold_anew(settings, plan)  # the last entry may still be on its way to the broker
            await hold.renew()
    return int(live.get("commit", "0"))


async def _commit_of(redis: Any, settings: Settings, unit: str) -> int:
    return int((await read_meta(redis, settings.namespace, unit)).get("commit", "0"))
