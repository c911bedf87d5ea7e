"""What goes wrong on purpose: workers killed and paused, the store and the brokers killed and restarted."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from msgspec import Struct

from headwater.embedded import EmbeddedStore
from tests.integration.rig import Child, Processes, is_alive

TWO_AT_ONCE = 0.15
WATCH_S = 0.5
BROKER_AWAY_S = (2.0, 12.0)


class Pace(Struct, frozen=True):
    """How often each fault happens, s; 0 for never."""

    kill_s: float = 7.5
    pause_s: float = 25.0
    restart_s: float = 40.0
    broker_kill_s: float = 0.0


class Broker(Protocol):
    """A broker that can die and come back."""

    def kill(self) -> None:
        """End it as a crash would."""

    def restart(self) -> None:
        """Start it on its old data and wait until it answers."""


class Chaos:
    """Breaks things at a seeded, uneven pace, and sets up again what it broke.

    Parameters
    ----------
    processes
        Starts workers.
    store
        Keeps its data in append-only files, each write forced to disk.
    brokers
        Those that may die, one at a time.
    pace
        How often.
    """

    def __init__(
        self, processes: Processes, store: EmbeddedStore, brokers: Sequence[Broker], pace: Pace
    ) -> None:
        self._processes, self._store, self._brokers, self._pace = processes, store, brokers, pace
        self._seed = processes.settings.seed
        self._rng = random.Random(f"chaos {self._seed}")
        self._paused: set[int] = set()
        self.workers: list[Child] = []
        self.figures = Counter(kills=0, pauses=0, restarts=0, store_kills=0, broker_kills=0, crashes=0)

    async def run(self, workers: Sequence[Child], seconds: float) -> None:
        """Break things for a time; afterwards everything runs."""
        self.workers = list(workers)
        end = time.monotonic() + seconds
        faults: list[tuple[float, Callable[[], Coroutine[Any, Any, None]]]] = [
            (self._pace.kill_s, self._kill),
            (self._pace.pause_s, self._pause),
            (self._pace.restart_s, self._restart_store),
            (self._pace.broker_kill_s if self._brokers else 0.0, self._kill_broker),
        ]
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(end))
            for every, fault in faults:
                if every > 0:
                    group.create_task(self._repeat(fault, every, end))

    async def _repeat(self, fault: Callable[[], Coroutine[Any, Any, None]], every: float, end: float) -> None:
        rng = random.Random(f"{fault.__name__} {self._seed}")
        due = time.monotonic() + every * rng.uniform(0.4, 0.9)
        while due < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await fault()
            due = max(time.monotonic(), due + every * rng.uniform(0.6, 1.4))

    async def _kill(self) -> None:
        """Kill a worker, sometimes two, in whatever they are doing, and start others in their places."""
        running = [place for place in range(len(self.workers)) if place not in self._paused]
        wished = 2 if self._rng.random() < TWO_AT_ONCE else 1
        for place in self._rng.sample(running, min(wished, len(running))):
            self.workers[place].kill()
            self.workers[place].wait()
            self.figures["kills"] += 1
            self.workers[place] = self._processes.worker()

    async def _pause(self) -> None:
        """Stop a worker until the group has given it up, then wake it up: it must not write any more."""
        place = self._rng.choice([place for place in range(len(self.workers)) if place not in self._paused])
        worker = self.workers[place]
        self._paused.add(place)
        worker.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(self._processes.settings.session_timeout_s * self._rng.uniform(1.5, 3.0))
        finally:
            worker.send_signal(signal.SIGCONT)
            self._paused.discard(place)
        self.figures["pauses"] += 1

    async def _restart_store(self) -> None:
        """End the store, in order and by force in turn, and start it on its files."""
        if self.figures["restarts"] % 2 == 0:
            await asyncio.to_thread(self._store.kill)
            self.figures["store_kills"] += 1
            await asyncio.sleep(self._rng.uniform(0.0, 1.0))
        await asyncio.to_thread(self._store.restart)
        self.figures["restarts"] += 1

    async def _kill_broker(self) -> None:
        """Kill one broker and bring it back; the others go on without it."""
        broker = self._rng.choice(self._brokers)
        await asyncio.to_thread(broker.kill)
        self.figures["broker_kills"] += 1
        await asyncio.sleep(self._rng.uniform(*BROKER_AWAY_S))
        await asyncio.to_thread(broker.restart)

    async def _watch(self, end: float) -> None:
        """Start a worker in the place of one that ended although nobody killed it, and count that."""
        while time.monotonic() < end:
            self.replace_crashed()
            await asyncio.sleep(WATCH_S)

    def replace_crashed(self) -> None:
        """Start anew what has ended by itself."""
        for place, worker in enumerate(self.workers):
            if not is_alive(worker):
                self.figures["crashes"] += 1
                self.workers[place] = self._processes.worker()
