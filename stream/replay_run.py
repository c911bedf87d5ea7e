"""Replays a namespace into another one: reads journal and topics, folds anew, commits as a worker does."""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

import msgspec
from aiokafka.errors import KafkaError
from msgspec import Struct, field

from online_models import trends
from state.clients import redis_client
from state.commit import FencedError, claim_unit, commit
from state.keys import CONTROL, item_unit, lane_unit, meta_key, subject_unit, unit_prefix
from state.scan import held_keys, read_meta
from state.settings import Settings
from stream.journal import JournalEntry, JournalError, Mark, read_mark
from stream.replay import Rewind, Skips, leaving_out
from stream.replay_log import UnitLog, journal_entries, raw_entries
from stream.rules import unit_rules
from stream.units import logic_maker

AT_ONCE = 8
GENESIS = "genesis"
_OF, _FROM = "replay_of", "replay_from"


class ReplayError(RuntimeError):
    """A replay that cannot begin or go on; the message says why."""


class Until(Struct, frozen=True):
    """Where a replay ends; the journal's present end where nothing is said.

    Attributes
    ----------
    at_ms
        Commits after this time (the owner's clock) are left.
    commit
        Commits after this number are left, in every unit.
    commits
        The same for units by name.
    """

    at_ms: int | None = None
    commit: int | None = None
    commits: Mapping[str, int] = {}

    def includes(self, unit: str, entry: JournalEntry) -> bool:
        """Return whether an entry is folded."""
        last = self.commits.get(unit, self.commit)
        return (last is None or entry.commit <= last) and (self.at_ms is None or entry.at <= self.at_ms)


class Plan(Struct, frozen=True):
    """What to replay.

    Attributes
    ----------
    into
        Namespace that is filled.
    origin
        What it began with: `GENESIS`, or the snapshot that was restored into it.
    until
        Where it ends.
    skips
        Whether a subject's rows are left out, as if the subject never was; None leaves out nothing.
    only
        The one unit to go on with, where not all.
    """

    into: str
    origin: str = GENESIS
    until: Until = Until()
    skips: Skips | None = None
    only: str | None = None

    def folds(self, unit: str) -> bool:
        """Return whether a unit is replayed."""
        return self.only is None or unit == self.only


class Replayed(Struct):
    """How far a replay has come.

    Attributes
    ----------
    events, commits
        Rows and commits folded in this run.
    missing
        Records the journal names and the broker no longer has: compacted, or removed.
    left_out
        Rows left out for their subject.
    units
        Unit -> number of the last commit folded.
    """

    events: int = 0
    commits: int = 0
    missing: int = 0
    left_out: int = 0
    units: dict[str, int] = field(default_factory=dict)


def units_of(settings: Settings) -> dict[str, int]:
    """Return every unit of a namespace with its partition."""
    subjects = {subject_unit(n): n for n in range(settings.shards)}
    items = {item_unit(n): n for n in range(settings.item_shards)}
    return subjects | items | {lane_unit(n): n for n in range(settings.lanes)} | {CONTROL: 0}


def replay_marks(settings: Settings, origin: str) -> dict[str, str]:
    """Return what the units of a replay's target say of themselves."""
    return {_OF: settings.namespace, _FROM: origin}


class Replay:
    """One replay of a namespace.

    Parameters
    ----------
    settings
        Of the namespace that is replayed.
    plan
        What to replay, and into what.
    """

    def __init__(self, settings: Settings, plan: Plan) -> None:
        self._settings, self._plan = settings, plan
        self._target = msgspec.structs.replace(settings, namespace=plan.into)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._sent: dict[str, Sent] = {}
        self.done = Replayed()

    async def run(self) -> Replayed:
        """Replay every unit; a replay that was stopped goes on where its target stands.

        Raises
        ------
        ReplayError, JournalError
            If the target holds something else, the journal is broken, records are gone, or rules changed.
        """
        check_target(self._settings, self._plan.into)
        trends.warm_up()
        self._redis: Any = redis_client(self._target, timeout_s=30.0)
        try:
            await self._prepare()
            await self._run_units()
        except FencedError as error:
            raise ReplayError(f"somebody else writes into {self._plan.into}: {error}") from None
        except KafkaError as error:
            raise ReplayError(f"broker {self._settings.kafka}: {error!r}; said again, it goes on") from error
        finally:
            await self._redis.aclose()
        return self.done

    async def _run_units(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for unit, partition in units_of(self._settings).items():
                    if not self._plan.folds(unit):
                        continue
                    group.create_task(self._replay_unit(unit, partition))
        except* Exception as errors:
            raise _first(errors) from None

    async def _prepare(self) -> None:
        await claim_target(self._redis, self._settings, self._plan)
        if self._plan.skips is not None and not (self._plan.only or "").isdigit():
            for unit in units_of(self._settings):
                if unit.isdigit():
                    self._sent[unit] = await read_sent(self._settings, unit)

    async def _replay_unit(self, unit: str, partition: int) -> None:
        async with self._turns:
            prefix = unit_prefix(self._plan.into, unit)
            claim = await claim_unit(self._redis, prefix)
            logic = logic_maker(self._target, unit, partition)()
            logic.restore(claim.meta, {key: await self._redis.hgetall(key) for key in logic.hashes})
            rewind = Rewind(logic, dict(claim.meta), unit_rules(self._settings, unit), self._leaves_out(unit))
            mark = read_mark(claim.meta)
            self.done.units[unit] = mark.commit
            async with UnitLog(self._settings, logic.kinds, partition) as log:
                await log.begin(claim.next_offsets())
                await self._follow(rewind, (claim.epoch, mark), log)
                self.done.missing += log.missing

    def _leaves_out(self, unit: str) -> Any:
        if self._plan.skips is None:
            return None
        return leaving_out(unit, self._plan.skips, lambda source, number: self._sent[source].commit(number))

    async def _follow(self, rewind: Rewind, standing: tuple[int, Mark], log: UnitLog) -> None:
        epoch, mark = standing
        unit = rewind.logic.place.unit
        async with aclosing(journal_entries(self._settings, unit, mark)) as entries:
            async for entry in entries:
                if not self._plan.until.includes(unit, entry):
                    return
                read = await log.rows(entry.order)
                with _named(unit, entry):
                    await self._fold(rewind, entry, epoch, read)

    async def _fold(self, rewind: Rewind, entry: JournalEntry, epoch: int, read: Sequence[Any]) -> None:
        rows = rewind.rows(entry, read)
        wanted = rewind.logic.wanted(rows, entry.watermark)
        if wanted:
            rewind.logic.put(await self._redis.mget(wanted))
        await commit(self._redis, rewind.logic.place.prefix, epoch, rewind.change(entry, rows))
        self.done.events += len(rows)
        self.done.left_out += len(read) - len(rows)
        self.done.commits += 1
        self.done.units[rewind.logic.place.unit] = entry.commit


def check_target(settings: Settings, into: str) -> None:
    """Refuse to replay a namespace into itself.

    Raises
    ------
    ReplayError
        If that is asked.
    """
    if into == settings.namespace:
        raise ReplayError(f"--into is {into!r}, the namespace that is replayed; wished: another one")


async def claim_target(redis: Any, settings: Settings, plan: Plan) -> None:
    """Mark a namespace that holds nothing as the target of a replay, or find the mark of the same replay.

    Raises
    ------
    ReplayError
        If it holds anything else.
    """
    wished = replay_marks(settings, plan.origin)
    for unit in units_of(settings):
        meta = await read_meta(redis, plan.into, unit)
        if not meta:
            await _check_bare(redis, plan.into, unit)
            await redis.hset(meta_key(unit_prefix(plan.into, unit)), mapping=wished)
        elif (found := {name: meta.get(name) for name in wished}) != wished:
            raise ReplayError(
                f"namespace {plan.into} holds other state (unit {unit}: a replay of {found[_OF]} from "
                f"{found[_FROM]}); wished: an empty namespace, or one that is a replay of "
                f"{settings.namespace} from {plan.origin}"
            )


async def _check_bare(redis: Any, namespace: str, unit: str) -> None:
    async for held in held_keys(redis, namespace, unit):
        raise ReplayError(f"namespace {namespace} holds {held.key!r}; wished: an empty namespace")


class Sent:
    """Which commit of a shard sent which outbox numbers.

    Parameters
    ----------
    entries
        The shard's journal: (outbox number of the entry, commit), in order.
    """

    def __init__(self, entries: Sequence[tuple[int, int]]) -> None:
        self._numbers = [number for number, _ in entries]
        self._commits = [commit for _, commit in entries]

    def commit(self, number: int) -> int:
        """Return the commit a message was sent by; the newest known where it came after all of them."""
        place = bisect_left(self._numbers, number)
        return self._commits[min(place, len(self._commits) - 1)] if self._commits else 0


async def read_sent(settings: Settings, unit: str) -> Sent:
    """Read from a shard's journal which commit sent what."""
    known = {entry.number: entry.commit async for entry in raw_entries(settings, unit)}
    return Sent(sorted(known.items()))


@contextmanager
def _named(unit: str, entry: JournalEntry) -> Iterator[None]:
    """Say of an unexpected failure where it happened."""
    try:
        yield
    except (JournalError, FencedError):
        raise
    except (ValueError, KeyError, TypeError, AssertionError, IndexError) as error:
        raise ReplayError(f"unit {unit}: commit {entry.commit} cannot be folded again: {error!r}") from error


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    one: BaseException = errors
    while isinstance(one, BaseExceptionGroup):
        one = one.exceptions[0]
    return one


Report = Callable[[Replayed], None]


async def reporting(replay: Replay, report: Report, every_s: float = 2.0) -> Replayed:
    """Run a replay and report now and then how far it is."""
    running = asyncio.create_task(replay.run())
    while not running.done():
        await asyncio.wait([running], timeout=every_s)
        report(replay.done)
    return await running
