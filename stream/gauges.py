"""How far a worker is behind: lag, watermark age, queue and outbox of each unit, as of each scrape."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

TopicPartition = tuple[str, int]


class Reading(Struct, frozen=True):
    """One unit at one moment.

    Attributes
    ----------
    unit
        Its name.
    watermark
        Event time up to which it is complete, ms; 0 before its first event.
    queued
        Events read and not yet folded.
    unsent
        Messages derived and not yet acknowledged by Kafka.
    folded
        Topic kind and partition -> next offset to fold, as stored.
    """

    unit: str
    watermark: int
    queued: int
    unsent: int
    folded: Mapping[TopicPartition, int]


class UnitGauges(Collector):
    """Gauges of the units a worker owns now; those of a unit it gave up go with it.

    Parameters
    ----------
    now_s
        The clock, seconds since 1970.

    Attributes
    ----------
    read
        Reads the units; set by the worker.
    lag
        Topic and partition -> records the broker holds and the store does not know as folded.
    """

    def __init__(self, now_s: Callable[[], float] = time.time) -> None:
        self._now_s = now_s
        self.read: Callable[[], Sequence[Reading]] = tuple
        self.lag: Mapping[TopicPartition, int] = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield every gauge."""
        lag = GaugeMetricFamily(
            "headwater_consumer_lag", "Records not yet folded", labels=["topic", "partition"]
        )
        for (topic, partition), records in self.lag.items():
            lag.add_metric([topic, str(partition)], records)
        age = _by_unit("headwater_watermark_age_seconds", "Age of a unit's watermark, in event time")
        queue = _by_unit("headwater_queue_events", "Events read and not yet folded")
        outbox = _by_unit("headwater_outbox_messages", "Derived messages Kafka has not acknowledged yet")
        for one in self.read():
            if one.watermark:
                age.add_metric([one.unit], max(0.0, self._now_s() - one.watermark / 1000))
            queue.add_metric([one.unit], one.queued)
            outbox.add_metric([one.unit], one.unsent)
        yield from (lag, age, queue, outbox)


def _by_unit(name: str, about: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, labels=["unit"])


def lag_of(
    folded: Mapping[TopicPartition, int], bounds: Mapping[TopicPartition, tuple[int, int]]
) -> dict[TopicPartition, int]:
    """Return how many records of each topic-partition the broker holds beyond what is folded."""
    return {tp: max(0, end - max(first, folded[tp])) for tp, (first, end) in bounds.items() if tp in folded}
