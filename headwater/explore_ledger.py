"""What ``headwater explore ledger`` prints: new items and cost of exploration, read from the store."""

import time
from datetime import UTC, datetime
from typing import Any

import msgspec
from redis.exceptions import RedisError

from bandits.budgets import Spending
from serving.ledger import Newcomer, count_states, newcomers
from serving.newcomers import HOUR_MS, HOUR_STRETCHES
from state.changing import now_in_force
from state.clients import redis_client
from state.control_reads import read_current
from state.exploration import Explorations, Quota
from state.exploring import columns_of, read_progress, read_spending
from state.keys import item_unit, items_key, unit_prefix
from state.settings import Settings

Said = tuple[bool, list[str]]


class _Dated(msgspec.Struct):
    published_at: int | None = None
    available: bool = True


_dated = msgspec.json.Decoder(_Dated)


async def show_ledger(settings: Settings, surface: str, state: str | None, limit: int) -> Said:
    """Return the ledger of a surface as lines, the youngest items first."""
    now_ms = time.time_ns() // 1_000_000
    redis = redis_client(settings, timeout_s=5.0)
    try:
        document = now_in_force(await read_current(redis, settings, f"exploration/{surface}"), now_ms)
        assert isinstance(document, Explorations)
        columns = columns_of(await read_spending(redis, settings, surface), now_ms)
        cost = float(Spending(**columns).costs()[-HOUR_STRETCHES:].sum())
        bound = "" if document.cost_per_hour is None else f" of {document.cost_per_hour:g}"
        lines = [f"{surface}: exploration cost {cost:.3g}{bound} rewards in the last hour"]
        if document.quota is None:
            return True, [*lines, "new items are owed nothing: the document has no quota"]
        items = await _items(redis, settings, surface, document.quota, now_ms)
    except (RedisError, OSError) as error:
        return False, [f"cannot reach the store: {error}"]
    finally:
        await redis.aclose()
    counts = ", ".join(f"{count} {name}" for name, count in count_states(items).items())
    lines.append(f"new items are owed {document.quota.impressions} in {document.quota.hours:g} h: {counts}")
    shown = [one for one in items if state in (None, one.state)][:limit]
    return True, [*lines, *map(_line, shown)]


async def _items(redis: Any, settings: Settings, surface: str, quota: Quota, now_ms: int) -> list[Newcomer]:
    progress = await read_progress(redis, settings, surface)
    published: dict[str, int] = {}
    for shard in range(settings.item_shards):
        key = items_key(unit_prefix(settings.namespace, item_unit(shard)))
        async for name, raw in redis.hscan_iter(key, count=1_000):
            item_id, item = name.decode(), _dated.decode(raw)
            at_ms = item.published_at or 0
            is_new = item.available and now_ms - quota.hours * HOUR_MS < at_ms <= now_ms
            if is_new or item_id in progress:
                published[item_id] = at_ms
    return newcomers(quota, progress, published, now_ms)


def _line(one: Newcomer) -> str:
    since = datetime.fromtimestamp(one.since / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    waiting = f", {one.pending} under way" if one.pending else ""
    return (
        f"  {one.item_id}  {one.state} since {since}  {one.impressions} impressions "
        f"({one.exploratory} exploratory{waiting}), {one.rewards:g} rewards"
    )
