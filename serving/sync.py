"""Keeps a server's live state true to the store: loads snapshots, then follows every unit's change feed."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from serving.asides import BlockRefresher, StepBackWatch
from serving.following import Entries, store_reads
from serving.live import PRIOR, SETTLED_AT_ONCE, SHARED, LiveState
from serving.moved import MovedItems
from serving.observed import Ages
from serving.past import PastSessions
from serving.store import UNREACHABLE
from state.exploring import decode_progress, decode_stretches
from state.feed import decode_item_feed, decode_names_feed, decode_shard_feed
from state.keys import (
    CONTROL,
    bandit_key,
    control_key,
    feed_key,
    item_unit,
    items_key,
    lane_unit,
    models_key,
    newcomers_key,
    sessions_key,
    spending_key,
    subject_unit,
    trends_key,
    unit_prefix,
)
from state.sessions import decode_session
from state.settings import Settings

log = structlog.get_logger(__name__)
AFTER_DEFECT_S = 2.0
"""Wait before everything is loaded anew because an entry or a stored value could not be taken in."""
RECALLED = 2_000
"""Latest commits of a shard that a load looks through for what surfaces and segments have taken."""
Sessions = dict[int, tuple[Sequence[str], Sequence[int]]]


class Cursor(Struct):
    """How far a unit's feed was applied: the epoch and the commit."""

    epoch: int
    commit: int


class Sync:
    """Follows the store on behalf of one server process.

    Parameters
    ----------
    settings
        Of the namespace.
    redis
        A client that may wait for answers; not the one requests use.
    live
        The state to keep.
    """

    def __init__(self, settings: Settings, redis: Any, live: LiveState) -> None:
        self._redis, self._reads, self.live = redis, store_reads(settings, redis), live
        names = [subject_unit(n) for n in range(settings.shards)]
        names += [item_unit(n) for n in range(settings.item_shards)]
        names += [lane_unit(n) for n in range(settings.lanes)]
        self._prefixes = {name: unit_prefix(settings.namespace, name) for name in [*names, CONTROL]}
        self._past = PastSessions(live, redis, [p for n, p in self._prefixes.items() if n.isdigit()])
        self._names = {prefix: name for name, prefix in self._prefixes.items()}
        self._cursors: dict[str, Cursor] = {}
        shards = {int(name): prefix for name, prefix in self._prefixes.items() if name.isdigit()}
        self._blocks = BlockRefresher(redis, shards, self._put_blocks)
        self._watch = StepBackWatch(redis)
        self._moved = MovedItems(live)
        self._loaded_at = 0.0
        self.ages = Ages()
        self.reloads = 0
        self.applied = 0
        self.ready = asyncio.Event()

    def staleness_ms(self) -> int:
        """Return how long ago the feeds were last known to be read to their ends, ms."""
        read_at = max(self._loaded_at, self._reads.read_at())
        return round((time.monotonic() - read_at) * 1000) if read_at else 1_000_000_000

    async def run(self) -> None:
        """Load, follow, and load again whenever the feeds cannot be followed; runs until cancelled.

        Whatever cannot be taken in, as what a newer worker writes, must not end it: the server would answer
        from an ever older state.
        """
        delay = 0.05
        try:
            while True:
                try:
                    await self.load()
                    delay = 0.05
                    await self._follow()
                except UNREACHABLE as error:
                    log.warning("store unreachable", why=str(error))
                    await asyncio.sleep(delay)
                    delay = min(1.0, delay * 2)
                except Exception:
                    log.exception("state of the store not taken in: loading anew")
                    await asyncio.sleep(AFTER_DEFECT_S)
        finally:
            await self._stop_reading()

    async def _stop_reading(self) -> None:
        for reading in (self._reads, self._blocks, self._watch, self._past):
            await reading.stop()

    async def load(self) -> None:
        """Load everything the store holds of the namespace."""
        await self._stop_reading()  # whatever is under way is older than what is loaded
        began_at = time.monotonic()
        loaded = {name: await self._read_unit(name) for name in self._prefixes}
        self._apply_loaded(loaded)
        await self._recall()
        self.reloads += 1
        self._loaded_at = began_at
        self.ready.set()

    async def _recall(self) -> None:
        """Count what the latest entries say of surfaces and segments, which no loaded value holds."""
        for name, prefix in self._prefixes.items():
            if name.isdigit():
                upto = f"{self._cursors[name].commit}-0"
                for _, fields in await self._redis.xrevrange(feed_key(prefix), upto, "-", count=RECALLED):
                    self._recall_entry(fields[b"c"])

    def _recall_entry(self, change: bytes) -> None:
        try:
            self.live.recall(decode_shard_feed(change))
        except msgspec.DecodeError:  # of another version, or empty: what it changed is loaded already
            return

    async def _read_unit(self, name: str) -> list[Any]:
        prefix = self._prefixes[name]
        return await self._reads.unit(prefix, [key(prefix) for key in _loaded_keys(name)])

    def _apply_loaded(self, loaded: Mapping[str, list[Any]]) -> None:
        # The catalogue first: lessons of loaded sessions need it.
        for name, (_, *hashes) in loaded.items():
            if not name.isdigit():
                self._load_shared(name, hashes[0])
        catalogue = [hashes[0] for name, (_, *hashes) in loaded.items() if name.startswith("i")]
        self.live.keep_items({item_id.decode() for held in catalogue for item_id in held})
        self.live.forget_subjects()
        sessions: Sessions = {}
        for name, (_, *hashes) in loaded.items():
            if name.isdigit():
                self._load_shard(int(name), hashes, sessions)
        self.live.settle(len(self.live.items))
        self.live.load_sessions(sessions)
        for name, (meta, *_) in loaded.items():
            self._cursors[name] = Cursor(int(meta[0] or 0), int(meta[1] or 0))

    def _load_shared(self, name: str, stored: Mapping[bytes, bytes]) -> None:
        """Take in what the control unit, an item unit or a lane holds."""
        for key, raw in stored.items():
            if name == CONTROL:
                self.live.put_control(key.decode(), raw)
            elif name.startswith("i"):
                self.live.put_item(raw)
            else:
                self.live.put_model(key.decode(), raw, int(name[1:]))

    def _load_shard(self, shard: int, hashes: list[dict[bytes, bytes]], sessions: Sessions) -> None:
        trends, stored, blocks, newcomers, spending = hashes
        self.live.load_trends(shard, trends)
        for key, raw in stored.items():
            row = decode_session(raw)
            sessions[int(key)] = row.items, row.at_ms
        self.live.put_blocks(shard, {key.decode(): raw for key, raw in blocks.items()})
        progress = {name.decode(): decode_progress(raw) for name, raw in newcomers.items()}
        spent = {name.decode(): decode_stretches(raw) for name, raw in spending.items()}
        self.live.ledger.load(shard, progress, spent)

    def _put_blocks(self, shard: int, blocks: Mapping[str, bytes | None]) -> None:
        self.live.put_blocks(shard, {name: raw for name, raw in blocks.items() if raw is not None})
        self.live.forget_blocks(shard, [name for name, raw in blocks.items() if raw is None])

    async def _follow(self) -> None:
        while True:
            applied = {prefix: self._cursors[name].commit for name, prefix in self._prefixes.items()}
            if self._watch.has_stepped_back(applied):
                return
            self._past.tick()
            if not await self._apply(await self._reads.entries(applied)):
                return
            self._blocks.tick()
            self.live.settle(SETTLED_AT_ONCE)
            self._moved.tick()

    async def _apply(self, found: Mapping[str, Entries]) -> bool:
        """Apply feed entries in order; returns whether all continued what was known."""
        for prefix, entries in found.items():
            name = self._names[prefix]
            for entry_id, fields in entries:
                if not self._continues(name, int(entry_id.split(b"-")[0]), fields):
                    log.info("change feed has a gap: loading anew", unit=name)
                    return False
                await self._apply_entry(name, fields[b"c"])
                self.applied += 1
        return True

    def _continues(self, name: str, commit: int, fields: Mapping[bytes, bytes]) -> bool:
        cursor, epoch = self._cursors[name], int(fields[b"e"])
        if commit != cursor.commit + 1:
            return False
        new_owner = int(fields.get(b"p", -1)) == cursor.epoch and int(fields[b"n"]) == cursor.commit
        if epoch != cursor.epoch and not new_owner:
            return False
        self._cursors[name] = Cursor(epoch, commit)
        return True

    async def _apply_entry(self, name: str, change: bytes) -> None:
        if not change:
            return
        if name.isdigit():
            entry = decode_shard_feed(change)
            self.live.apply_shard(int(name), entry)
            if entry.interactions:
                self.ages.note(time.time() - entry.interactions[-1].at_ms / 1000)
            self._past.note(entry)
            shared = [SHARED, PRIOR] if entry.bandit_shared else []
            if shared or entry.bandit_items:  # without the shared block, they were forgotten
                self._blocks.note(int(name), [*shared, *(f"i:{item}" for item in entry.bandit_items)])
        elif name.startswith("i"):
            self.live.apply_items(decode_item_feed(change))
        else:
            await self._fetch_named(name, decode_names_feed(change).names)

    async def _fetch_named(self, name: str, fields: list[str]) -> None:
        if not fields:
            return
        key = control_key if name == CONTROL else models_key
        found = await self._redis.hmget(key(self._prefixes[name]), fields)
        for field, raw in zip(fields, found, strict=True):
            if raw is None:
                continue
            if name == CONTROL:
                self.live.put_control(field, raw)
            else:
                self.live.put_model(field, raw, int(name[1:]))


def _loaded_keys(name: str) -> list[Any]:
    if name.isdigit():
        return [trends_key, sessions_key, bandit_key, newcomers_key, spending_key]
    if name == CONTROL:
        return [control_key]
    return [items_key] if name.startswith("i") else [models_key]
