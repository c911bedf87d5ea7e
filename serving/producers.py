"""Whether each producer's events are understood: what the folders counted, with a verdict in words."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from serving.verdicts import Unknown, Verdict, judge
from state.keys import item_unit, items_key, producers_key, subject_unit, unit_prefix
from state.producers import (
    HOUR_MS,
    MAX_ITEMS,
    ProducerRecord,
    Refused,
    Tally,
    decode_producer,
    merged,
)
from state.settings import Settings

EXAMPLES = 5


class RefusalCount(Struct):
    """One way in which events were refused; the dead letters have every one of them, with its bytes.

    ``value`` is what stood there at first; empty where it might tell who somebody is.
    """

    kind: str
    reason: str
    field: str
    count: int
    value: str
    wished: str


class Figures(Struct):
    """Counts of a span of time.

    Attributes
    ----------
    since
        Kafka timestamp from which on is counted, ms.
    events
        Topic kind -> events that arrived, refused, late and repeated ones included.
    refused, refusals
        Events that could not be understood; in which ways, most frequent first.
    late, duplicate
        Events without effect: older than the watermark; with an id that was folded before.
    clock_skew
        Refused events: too far ahead of the broker's clock.
    misrouted
        Events that lay on the wrong partition and were forwarded.
    clicks_without_decision
        Clicks that no decision token came with.
    lead_ms, lag_ms
        How far event time was at most ahead of the Kafka timestamp, and behind it.
    """

    since: int
    events: dict[str, int]
    refused: int
    refusals: list[RefusalCount]
    late: int
    duplicate: int
    clock_skew: int
    misrouted: int
    clicks_without_decision: int
    lead_ms: int
    lag_ms: int


class UnknownItem(Struct):
    """An item that is not in the catalogue, and how often it was named of late."""

    item_id: str
    count: int


class ProducerReport(Struct):
    """One producer.

    Attributes
    ----------
    producer
        Its name.
    healthy, verdict
        Whether there is nothing to mend; in words.
    last_seen_at, latest_event_at
        Kafka timestamp of its latest record; event time of its newest event, 0 where none was understood. ms.
    recent, total
        Counts of this hour and the one before; of all time.
    items, unknown_items
        Different items it named of late; how many of those are not in the catalogue.
    unknown_examples
        The unknown items named most often.
    """

    producer: str
    healthy: bool
    verdict: str
    last_seen_at: int
    latest_event_at: int
    recent: Figures
    total: Figures
    items: int
    unknown_items: int
    unknown_examples: list[UnknownItem]


class ProducersAnswer(Struct):
    """Every producer the folders have heard of, those to look at first."""

    as_of: int
    producers: list[ProducerReport]


class ProducersReader:
    """Reads producer health from the store.

    Parameters
    ----------
    settings
        Of the namespace.
    redis
        Client of the store; not the one requests use.
    """

    def __init__(self, settings: Settings, redis: Any) -> None:
        self._redis = redis
        self._items = [_prefix(settings, item_unit(n)) for n in range(settings.item_shards)]
        self._units = [_prefix(settings, subject_unit(n)) for n in range(settings.shards)] + self._items

    async def read(self) -> ProducersAnswer:
        """Return the health of this moment."""
        known: dict[str, list[ProducerRecord]] = defaultdict(list)
        for prefix in self._units:
            for name, raw in (await self._redis.hgetall(producers_key(prefix))).items():
                record = decode_producer(raw)
                if record is not None:
                    known[name.decode(errors="replace")].append(record)
        named = {item_id for records in known.values() for one in records for item_id in _latest(one)}
        unknown = named - await self._in_catalogue(sorted(named))
        now = time.time_ns() // 1_000_000
        reports = [report(name, records, unknown, now) for name, records in known.items()]
        return ProducersAnswer(now, sorted(reports, key=lambda one: (one.healthy, one.producer)))

    async def _in_catalogue(self, item_ids: list[str]) -> set[str]:
        found: set[str] = set()
        for prefix in self._items:
            async with self._redis.pipeline(transaction=False) as pipe:
                for item_id in item_ids:
                    pipe.hexists(items_key(prefix), item_id)
                found |= {one for one, held in zip(item_ids, await pipe.execute(), strict=True) if held}
        return found


def _prefix(settings: Settings, unit: str) -> str:
    return unit_prefix(settings.namespace, unit)


def report(name: str, records: Iterable[ProducerRecord], unknown: set[str], now_ms: int) -> ProducerReport:
    """Return what all units know of one producer, judged.

    Parameters
    ----------
    name
        Of the producer.
    records
        One a unit.
    unknown
        Items that are not in the catalogue.
    now_ms
        The present.
    """
    records = list(records)
    whole, items = merged(records), _all_items(map(_latest, records))
    since = (now_ms // HOUR_MS - 1) * HOUR_MS
    missing = sorted(((-count, item) for item, count in items.items() if item in unknown))
    seen = Unknown(len(items), len(missing), [item for _, item in missing[:EXAMPLES]])
    recent, total = whole.since(since), whole.total()
    verdict: Verdict = judge(name, recent, total, (seen, whole.seen_at, now_ms))
    return ProducerReport(
        name,
        verdict.healthy,
        verdict.text,
        whole.seen_at,
        whole.event_at,
        _figures(recent, since),
        _figures(total, whole.first_at),
        len(items),
        len(missing),
        [UnknownItem(item, -count) for count, item in missing[:EXAMPLES]],
    )


def _latest(record: ProducerRecord) -> dict[str, int]:
    return dict(list(record.items.items())[-MAX_ITEMS:])


def _all_items(each: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for items in each:
        for item_id, count in items.items():
            total[item_id] = total.get(item_id, 0) + count
    return total


def _figures(tally: Tally, since: int) -> Figures:
    ranked = sorted(tally.refusals, key=lambda one: -one.count)
    return Figures(
        since=since,
        events=tally.events,
        refused=tally.refused,
        refusals=[_refusal(one) for one in ranked],
        late=tally.late,
        duplicate=tally.duplicate,
        clock_skew=sum(one.count for one in ranked if one.reason == "clock_skew"),
        misrouted=tally.misrouted,
        clicks_without_decision=tally.unattributed,
        lead_ms=tally.lead_ms,
        lag_ms=tally.lag_ms,
    )


def _refusal(one: Refused) -> RefusalCount:
    return RefusalCount(one.kind, one.reason, one.field, one.count, one.value, one.wished)
