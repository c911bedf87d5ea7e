"""Several server processes on one port: a core each, started, restarted and ended together."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping

import structlog

from headwater.supervise import die_with_parent
from state.settings import Settings

log = structlog.get_logger(__name__)
STOP_S = 30.0
POLL_S = 0.1
IN_ORDER = (0, -signal.SIGTERM, -signal.SIGINT)
"""How a server ends that was told to: by the signal, once it has finished."""
SOON_S = 5.0
"""A process that ends sooner after its start is started again only after so long."""


class Servers:
    """A number of ``headwater serve`` processes that share a port, by the kernel's choice of a process.

    Parameters
    ----------
    settings
        Of all of them, and how many there are.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, count = settings, settings.servers
        self._running: list[subprocess.Popen[bytes] | None] = [None] * count
        self._started_at = [-SOON_S] * count
        self._is_stopping = False

    def run(self) -> int:
        """Keep them running until SIGTERM or SIGINT; returns the exit code: 0 where all ended in order."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        while not self._is_stopping:
            for place in range(len(self._running)):
                self._tend(place)
            time.sleep(POLL_S)
        return self._end()

    def _stop(self, *_: object) -> None:
        self._is_stopping = True

    def _tend(self, place: int) -> None:
        """Start the process of a place where none runs."""
        process, now = self._running[place], time.monotonic()
        if process is not None and process.poll() is not None:
            log.error("a server process ended", pid=process.pid, exit_code=process.returncode)
            process = self._running[place] = None
        if process is None and now - self._started_at[place] >= SOON_S:
            self._started_at[place] = now
            self._running[place] = self._start(place)

    def _start(self, place: int) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "headwater", "serve"]
        environment = {**os.environ, **environment_of(self._settings, place)}
        return subprocess.Popen(command, env=environment, preexec_fn=die_with_parent)  # noqa: PLW1509, S603

    def _end(self) -> int:
        """Ask all to stop; by force who has not half a minute after the time they have to drain."""
        running = [process for process in self._running if process is not None]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._settings.drain_s + STOP_S
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return max((abs(code) for one in running if (code := one.returncode) not in IN_ORDER), default=0)


def environment_of(settings: Settings, place: int) -> Mapping[str, str]:
    """Return what the environment of one of several processes has besides the settings."""
    metrics = settings.metrics_port
    return {
        "HEADWATER_SERVERS": "1",
        "HEADWATER_SHARED_PORT": "true",
        "HEADWATER_METRICS_PORT": str(metrics + place if metrics else 0),
    }
