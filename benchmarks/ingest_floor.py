"""What Faust alone can do: the throughput of an agent that does nothing, plain and with our bundles.

``python -m benchmarks.ingest_floor plain --bootstrap 127.0.0.1:9092 --events 100000 topic`` reads what the
topics hold, in a fresh consumer group, and prints events per second from the first event seen to the last.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faust
import uvloop

from stream.bundles import Bundle
from stream.engine import EngineSettings, build_app

TAKE = 500
TAKE_WITHIN_S = 0.1
SESSION_TIMEOUT_S = 6.0
ROOT = Path(__file__).parents[1]


@dataclass
class Meter:
    """Counts events until all have come, from the clock time of the first to that of the last."""

    expected: int
    seen: int = 0
    first_s: float = 0.0
    last_s: float = 0.0

    def __post_init__(self) -> None:
        self.complete = asyncio.Event()
        self._before_first = 0

    def count(self, events: int) -> None:
        """Note that events have come."""
        self.last_s = time.perf_counter()
        if not self.seen:
            # The first lot came in no measured time, so it is not counted either.
            self.first_s, self._before_first = self.last_s, events
        self.seen += events
        if self.seen >= self.expected:
            self.complete.set()

    @property
    def per_second(self) -> float:
        """Events a second."""
        return (self.seen - self._before_first) / max(1e-9, self.last_s - self.first_s)


class NoPositions:
    """Reads everything from the beginning and owns nothing."""

    async def claim(self, assigned: frozenset[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
        """Return no positions."""
        return dict.fromkeys(assigned, 0)

    async def release(self, revoked: frozenset[tuple[str, int]]) -> None:
        """Do nothing."""


def plain_app(bootstrap: str, topics: Sequence[str], meter: Meter) -> faust.App:
    """Build a plain Faust app: one agent, ``take(500)``, nothing done."""
    app = faust.App(
        f"floor-{uuid.uuid4().hex}",
        broker=[f"kafka://{address}" for address in bootstrap.split(",")],
        broker_session_timeout=SESSION_TIMEOUT_S,
        value_serializer="raw",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
    )

    @app.agent(app.topic(*topics, value_type=bytes, key_type=bytes))
    async def noop(stream: Any) -> None:
        async for events in stream.take(TAKE, within=TAKE_WITHIN_S):
            meter.count(len(events))

    return app


def bundled_app(bootstrap: str, topics: Sequence[str], meter: Meter) -> faust.App:
    """Build our engine with handlers that only count."""

    async def noop(bundle: Bundle) -> None:
        meter.count(len(bundle))

    settings = EngineSettings(
        bootstrap=bootstrap, group=f"floor-{uuid.uuid4().hex}", session_timeout_s=SESSION_TIMEOUT_S
    )
    return build_app(settings, dict.fromkeys(topics, noop), NoPositions())


APPS = {"plain": plain_app, "bundled": bundled_app}


async def measure(kind: str, bootstrap: str, topics: Sequence[str], events: int) -> float:
    """Read `events` events in this process and return events per second."""
    meter = Meter(events)
    app = APPS[kind](bootstrap, topics, meter)
    await app.start()
    try:
        await meter.complete.wait()
    finally:
        await app.stop()
    return meter.per_second


def run_noop(
    kind: str, bootstrap: str, topics: Sequence[str], events: int, timeout_s: float = 300.0
) -> float:
    """Measure in a process of its own, as a worker has one.

    Parameters
    ----------
    kind : str
        ``plain`` or ``bundled``.
    bootstrap : str
        Brokers.
    topics : sequence of str
        Topics that hold the events already.
    events : int
        How many they hold in all.
    timeout_s : float
        When to give up.

    Returns
    -------
    float
        Events per second.
    """
    command = [sys.executable, "-m", "benchmarks.ingest_floor", kind, "--bootstrap", bootstrap]
    done = subprocess.run(
        [*command, "--events", str(events), *topics],
        capture_output=True,
        check=True,
        cwd=ROOT,
        text=True,
        timeout=timeout_s,
    )
    return float(json.loads(done.stdout.splitlines()[-1])["events_per_s"])


def run_plain_noop(bootstrap: str, topics: Sequence[str], events: int, timeout_s: float = 300.0) -> float:
    """Return the events per second of a plain no-op Faust agent with ``take(500)``: promise 3's floor."""
    return run_noop("plain", bootstrap, topics, events, timeout_s)


def run_bundled_noop(bootstrap: str, topics: Sequence[str], events: int, timeout_s: float = 300.0) -> float:
    """Return the events per second of our engine with handlers that do nothing: the ceiling of a worker."""
    return run_noop("bundled", bootstrap, topics, events, timeout_s)


def main() -> None:
    """Measure once, and print the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=sorted(APPS))
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("topics", nargs="+")
    given = parser.parse_args()
    # A plain app makes its data directory wherever it runs.
    with (
        tempfile.TemporaryDirectory() as scratch,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        os.chdir(scratch)
        rate = runner.run(measure(given.kind, given.bootstrap, given.topics, given.events))
    print(json.dumps({"kind": given.kind, "events": given.events, "events_per_s": round(rate, 1)}))


if __name__ == "__main__":
    main()
