"""Attribution counts of the shards a worker owns, as metrics."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_LABELS = ["unit", "surface"]
_PENDING = "pending"


class SurfaceCollector(Collector):
    """Reads the counts when it is asked, so that folding pays nothing for them.

    Each shard has one owner and keeps its counts across owners: their sum over all workers is right.

    Parameters
    ----------
    read
        Returns unit name and counts (by ``kind:surface``) of each shard owned now.
    """

    def __init__(self, read: Callable[[], Iterable[tuple[str, Mapping[str, int]]]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Yield open decisions as a gauge, everything else as counters."""
        pending = GaugeMetricFamily(
            "headwater_attribution_pending", "Decisions whose window is open", labels=_LABELS
        )
        counted = CounterMetricFamily(
            "headwater_attribution", "Decisions, slots and events by what became of them",
            labels=[*_LABELS, "kind"],
        )  # fmt: skip
        for unit, counts in self._read():
            for name, number in dict(counts).items():  # copied at once: the folder goes on meanwhile
                kind, _, surface = name.partition(":")
                if kind == _PENDING:
                    pending.add_metric([unit, surface], number)
                else:
                    counted.add_metric([unit, surface, kind], number)
        yield from (pending, counted)
