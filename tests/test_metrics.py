"""The page of metrics lists what servers and workers export, with the same labels, and nothing else."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from serving.admission import Lateness
from serving.guard import Guard
from serving.metrics import ServerMetrics
from serving.observed import Ages, DecisionSample, DoorMetrics
from serving.reader import SubjectReader
from state.clients import redis_client
from state.settings import Settings
from stream.metrics import WorkerMetrics
from stream.model_metrics import ModelCollector

PAGE = (Path(__file__).parents[1] / "docs/metrics.md").read_text()
LINE = re.compile(r"^\| `(\w+)` \| ([\w, ]*)\|", re.MULTILINE)


def documented(section: str) -> dict[str, set[str]]:
    text = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    return {name: set(labels.replace(",", " ").split()) for name, labels in LINE.findall(text)}


def exported(registry: CollectorRegistry) -> Iterator[str]:
    for family in registry.collect():
        yield f"{family.name}_total" if family.type == "counter" else family.name


def labelled(metrics: object) -> dict[str, set[str]]:
    found = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    return {f"{one._name}{'_total' if one._type == 'counter' else ''}": set(one._labelnames) for one in found}


def test_every_metric_of_a_worker_is_documented() -> None:
    assert set(documented("Worker")) == set(exported(WorkerMetrics().registry))


def test_every_metric_of_a_server_is_documented() -> None:
    settings, metrics = Settings(token_secret="sixteen or more letters"), ServerMetrics()
    reader = SubjectReader(settings, redis_client(settings), metrics)
    for collector in (DecisionSample([]), Ages(), DoorMetrics(Guard(settings), Lateness(), reader)):
        metrics.registry.register(collector)
    assert set(documented("Server")) == set(exported(metrics.registry))


def test_the_documented_labels_are_the_exported_ones() -> None:
    for section, metrics in (("Worker", WorkerMetrics()), ("Server", ServerMetrics())):
        listed = documented(section)
        for name, labels in labelled(metrics).items():
            assert listed[name] == labels, name


def test_every_measure_of_a_click_model_is_documented() -> None:
    families: list[Any] = list(ModelCollector(tuple).collect())
    told = {one.name: {*one._labelnames} for one in families}
    assert documented("Click models") == told
