"""Fixtures shared by all rooms: one broker and one store a session, one namespace a test."""

import os
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from headwater.embedded import EmbeddedRuntime

TEST_KAFKA = "HEADWATER_TEST_KAFKA"
# The same examples every time, however busy the machine is.
settings.register_profile(
    "steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def runtime() -> Iterator[EmbeddedRuntime]:
    """The embedded broker and store; the broker is Apache Kafka when HEADWATER_TEST_KAFKA names one."""
    with EmbeddedRuntime(kafka=os.environ.get(TEST_KAFKA)) as running:
        yield running


@pytest.fixture
def namespace() -> str:
    """A prefix of topics and keys that no other test uses, so tests share one broker and one store."""
    return f"t{uuid.uuid4().hex[:12]}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts servers as integration, and skip what needs Apache Kafka when there is none."""
    without_kafka = pytest.mark.skip(reason=f"{TEST_KAFKA} names no broker (make test-kafka)")
    for item in items:
        if "runtime" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.integration)
        if item.get_closest_marker("kafka") and TEST_KAFKA not in os.environ:
            item.add_marker(without_kafka)
