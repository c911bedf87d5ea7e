"""Measures of the click models a worker's lanes learn, as metrics."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from state.models import Evidence, HeadFacts, Lifecycle

_LABELS = ["unit", "surface"]
_HEAD = {
    "rows": "Slots judged and learnt since the start",
    "window_log_loss": "Mean log loss of the latest slots",
    "window_auc": "Area under the ROC curve of the latest slots",
    "rate": "Share of the latest slots with the label",
    "calibration": "Promised over came, latest slots",
    "calibration_error": "Expected calibration error after correction, latest slots",
    "raw_calibration_error": "Expected calibration error before correction, latest slots",
    "memory_rows": "Slots over which past gradients are forgotten",
}


class ModelCollector(Collector):
    """Reads the measures when it is asked; they are as old as the lane's last refresh.

    Parameters
    ----------
    read
        Returns unit name and surface -> lifecycle of each lane owned now.
    """

    def __init__(self, read: Callable[[], Iterable[tuple[str, Mapping[str, Lifecycle]]]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Yield one gauge a measure."""
        heads = {name: _gauge(f"headwater_model_{name}", about, "head") for name, about in _HEAD.items()}
        alarms = _gauge("headwater_model_drift_alarms", "Drift alarms", "head")
        mean = _gauge("headwater_shadow_log_loss_difference", "Shadow's loss less the champion's", "shadow")
        high = _gauge("headwater_shadow_log_loss_difference_high", "Upper end of its interval", "shadow")
        for unit, surfaces in self._read():
            for surface, life in dict(surfaces).items():
                where = [unit, surface]
                for head, facts in dict(life.heads).items():
                    _note_head([*where, head], facts, heads, alarms)
                for shadow, about in dict(life.shadows).items():
                    _note_shadow([*where, shadow], about.evidence, mean, high)
        yield from (*heads.values(), alarms, mean, high)


def _gauge(name: str, about: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, labels=[*_LABELS, label])


def _note_head(
    labels: list[str], facts: HeadFacts, gauges: Mapping[str, GaugeMetricFamily], alarms: GaugeMetricFamily
) -> None:
    for name, gauge in gauges.items():
        gauge.add_metric(labels, getattr(facts, name))
    alarms.add_metric(labels, facts.calibration_alarms + facts.loss_alarms)


def _note_shadow(
    labels: list[str], evidence: Evidence, mean: GaugeMetricFamily, high: GaugeMetricFamily
) -> None:
    mean.add_metric(labels, evidence.mean)
    if evidence.high is not None:
        high.add_metric(labels, evidence.high)
