"""Fixtures of the integration tests: an engine of its own for each test, all of it real processes."""

from collections.abc import AsyncIterator

import pytest

from headwater.embedded import EmbeddedRuntime
from tests.integration.rig import Processes, Rig, engine_settings


@pytest.fixture
async def rig(runtime: EmbeddedRuntime, namespace: str) -> AsyncIterator[Rig]:
    """A namespace with topics; the test starts the processes it wants."""
    settings = engine_settings(runtime.kafka, runtime.redis, namespace)
    with Processes(settings) as processes:
        async with Rig(processes) as running:
            yield running
