"""Metrics of a worker process."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from stream.gauges import UnitGauges

_AGES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0)


class WorkerMetrics:
    """Counters and histograms of one worker, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.commits = Counter("headwater_commits", "Commits of a unit", ["unit"], registry=self.registry)
        self.events = Counter("headwater_events", "Events folded by a unit", ["unit"], registry=self.registry)
        self.failures = Counter(
            "headwater_fold_failures", "Folds that failed unexpectedly", ["unit"], registry=self.registry
        )
        self.fold_seconds = Histogram(
            "headwater_fold_seconds", "Load, fold and commit of a micro-batch", registry=self.registry
        )
        self.commit_age = Histogram(
            "headwater_commit_age_seconds",
            "Age of a batch's oldest event at its commit",
            registry=self.registry,
            buckets=_AGES,
        )
        self.gauges = UnitGauges()
        self.registry.register(self.gauges)
        self.units = Gauge("headwater_units", "Units this worker owns", registry=self.registry)
