"""What the files in docker/ name exists: settings, commands, ports, routes, metrics and labels, files."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from headwater.cli import main
from serving import api
from serving.candidates import SOURCES
from serving.metrics import ServerMetrics
from state.settings import PREFIX, Settings, load_settings
from stream.metrics import WorkerMetrics

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
OURS = ("topics", "worker", "server")
SUFFIXES = {Counter: ("_total",), Gauge: ("",), Histogram: ("_bucket", "_sum", "_count")}
# What Prometheus itself adds to every series, and to every histogram.
ADDED_LABELS = {"instance", "job", "le"}


def read_yaml(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


COMPOSE = read_yaml(DOCKER / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROMETHEUS = read_yaml(DOCKER / "prometheus.yml")
DASHBOARD = json.loads((DOCKER / "grafana/dashboards/headwater.json").read_text())
DOCKERFILE = re.sub(r"\\\n\s*", "", (DOCKER / "Dockerfile").read_text())
INSTRUCTIONS = [line.split(maxsplit=1) for line in DOCKERFILE.splitlines() if line and line[0].isupper()]


def instructions(name: str) -> list[str]:
    return [rest for word, rest in INSTRUCTIONS if word == name]


def image_environment() -> dict[str, str]:
    pairs = [pair.split("=", 1) for rest in instructions("ENV") for pair in rest.split()]
    return {name: value for name, value in pairs if name.startswith(PREFIX)}


def given(value: str) -> str:
    """Return the text that compose puts in place of ${NAME:-default} and ${NAME:?error}."""
    value = re.sub(r"\$\{\w+:\?[^}]*\}", "x" * 32, value)
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def settings_of(service: str) -> Settings:
    environment = {name: given(str(value)) for name, value in SERVICES[service]["environment"].items()}
    return load_settings(image_environment() | environment)


def series() -> dict[str, set[str]]:
    """Return the labels of every time series that servers and workers offer."""
    server, worker = ServerMetrics(), WorkerMetrics()
    server.note_slots(1, [*SOURCES])
    counted = {s.name: set(s.labels) for family in server.registry.collect() for s in family.samples}
    # A series with labels is there once it was counted; all but those above know their labels before.
    return counted | {
        f"{one._name}{suffix}": set(one._labelnames)
        for metrics in (server, worker)
        for one in vars(metrics).values()
        if isinstance(one, MetricWrapperBase)
        for suffix in SUFFIXES[type(one)]
    }


def test_every_setting_of_the_image_and_of_the_services_exists() -> None:
    for service in OURS:
        names = {*image_environment(), *SERVICES[service]["environment"]}
        assert all(name.startswith(PREFIX) for name in names)
        settings_of(service)


def test_the_token_secret_must_be_given_and_is_the_same_for_all() -> None:
    secrets = {SERVICES[service]["environment"]["HEADWATER_TOKEN_SECRET"] for service in OURS}
    assert len(secrets) == 1
    assert secrets.pop().startswith("${HEADWATER_TOKEN_SECRET:?")
    assert len(settings_of("server").secret()) >= 16


def test_every_variable_of_the_host_is_a_setting() -> None:
    names = set(re.findall(r"\$\{(\w+)", (DOCKER / "compose.yaml").read_text()))
    assert {name.removeprefix(PREFIX).lower() for name in names} <= set(Settings.__struct_fields__)


@pytest.mark.parametrize("service", OURS)
def test_every_command_exists(service: str) -> None:
    command: click.Command = main
    for word in SERVICES[service]["command"]:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    assert not isinstance(command, click.Group)


def test_the_image_runs_our_entry_point_as_a_plain_user() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert json.loads(instructions("ENTRYPOINT")[0])[0] in scripts
    assert json.loads(instructions("CMD")[-1])[0] in main.commands
    assert instructions("USER") == ["headwater"]
    assert {rest.split(" AS ")[0] for rest in instructions("FROM")} == {"python:3.11-slim"}


def test_everything_copied_into_the_image_exists_and_is_let_through() -> None:
    sources = [word for rest in instructions("COPY") if "--from" not in rest for word in rest.split()[:-1]]
    rules = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    assert [name for name in sources if f"!{name}" not in rules] == []
    assert [name for name in sources if not (ROOT / name).exists()] == []


def test_every_package_of_ours_is_copied() -> None:
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    assert {name for name in found["include"] if "*" not in name} <= {
        word for rest in instructions("COPY") for word in rest.split()
    }


def test_health_is_asked_on_routes_and_ports_that_exist() -> None:
    routes = {path for name in ("healthz", "readyz", "metrics") for path in getattr(api, name).paths}
    image_check = instructions("HEALTHCHECK")[0]
    assert re.search(r"'(/\w+)'", image_check)[1] in routes  # type: ignore[index]
    assert "HEADWATER_PORT" in image_check
    worker = " ".join(SERVICES["worker"]["healthcheck"]["test"])
    assert f"127.0.0.1:{settings_of('worker').metrics_port}/metrics" in worker


def test_prometheus_asks_each_service_where_it_listens() -> None:
    wished = {"server": settings_of("server").port, "worker": settings_of("worker").metrics_port}
    jobs = {job["job_name"]: job["dns_sd_configs"][0] for job in PROMETHEUS["scrape_configs"]}
    assert {name: job["port"] for name, job in jobs.items()} == wished
    assert all(job["names"] == [name] for name, job in jobs.items())
    assert settings_of("server").host == "0.0.0.0"
    assert {str(port) for port in wished.values()} == set(instructions("EXPOSE")[0].split())


def test_published_ports_stay_on_this_machine_and_lead_to_listeners() -> None:
    published = {name: port for name, one in SERVICES.items() for port in one.get("ports", [])}
    assert all(port.startswith("127.0.0.1:") for port in published.values())
    assert published["server"].endswith(f":{settings_of('server').port}")


def test_our_services_find_broker_and_store_by_name() -> None:
    kafka = SERVICES["kafka"]["environment"]
    for service in OURS:
        settings = settings_of(service)
        assert f"INTERNAL://{settings.kafka}" in kafka["KAFKA_ADVERTISED_LISTENERS"]
        assert settings.redis.split("://")[1].split(":")[0] in SERVICES
    assert kafka["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_everything_waits_for_the_topics() -> None:
    for service in ("worker", "server"):
        waits = SERVICES[service]["depends_on"]
        assert waits["topics"]["condition"] == "service_completed_successfully"
        assert waits["redis"]["condition"] == "service_healthy"
    names = {name for one in SERVICES.values() for name in one.get("depends_on", [])}
    assert names <= SERVICES.keys()


def mounts() -> Iterator[str]:
    for service in SERVICES.values():
        yield from (mount.split(":")[0] for mount in service.get("volumes", []))


def test_every_mounted_file_and_volume_exists() -> None:
    files = {source for source in mounts() if source.startswith(".")}
    assert files
    assert all((DOCKER / source).exists() for source in files)
    assert set(mounts()) - files == set(COMPOSE["volumes"])


def queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("query", queries())
def test_the_dashboard_asks_for_metrics_and_labels_that_exist(query: str) -> None:
    named = re.findall(r"headwater_\w+", query)
    assert named
    offered: Mapping[str, set[str]] = series()
    labels = {label for group in re.findall(r"by \(([^)]*)\)", query) for label in re.split(r",\s*", group)}
    assert labels - ADDED_LABELS <= set.intersection(*(offered[name] for name in named))


def test_the_dashboard_reads_the_provisioned_source() -> None:
    source = read_yaml(DOCKER / "grafana/provisioning/datasources/prometheus.yaml")["datasources"][0]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source["uid"]}
    assert source["url"].split("//")[1].split(":")[0] in SERVICES
    provider = read_yaml(DOCKER / "grafana/provisioning/dashboards/headwater.yaml")["providers"][0]
    assert any(mount.split(":")[1] == provider["options"]["path"] for mount in SERVICES["grafana"]["volumes"])
