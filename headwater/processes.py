"""Child processes that never outlive us: free ports, start, readiness, orderly end."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

SUPERVISOR = Path(__file__).with_name("supervise.py")
LOG_TAIL_LINES = 12
STOP_TIMEOUT_S = 8.0
TEMP_PATH_MAX = 60  # a unix socket's path may have 107 bytes, some as few as 103


class EmbeddedError(RuntimeError):
    """An embedded server cannot be found, started or stopped; the text says which and why."""


def free_port() -> int:
    """Return a TCP port that was free on the loopback interface a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def new_workspace(prefix: str) -> Path:
    """Make a private temporary directory whose path is short enough to hold a unix socket."""
    parent = tempfile.gettempdir()
    if len(parent) > TEMP_PATH_MAX:
        parent = "/tmp"  # noqa: S108 mkdtemp makes a private directory in it
    return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))


class ServerProcess:
    """One server run by a supervisor that ends it when this process ends, even by SIGKILL.

    Parameters
    ----------
    name : str
        What the server is called in errors.
    workspace : Path
        Directory of the log; the supervisor deletes it if this process dies without stopping the server.
    """

    def __init__(self, name: str, workspace: Path) -> None:
        self.name = name
        self.workspace = workspace
        self.log = workspace / f"{name}.log"
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._pid = 0

    @property
    def pid(self) -> int:
        """Process id of the server itself (not of its supervisor), 0 before the start."""
        return self._pid

    @property
    def exit_code(self) -> int | None:
        """Exit code of the server, None while it runs."""
        return self._supervisor.poll() if self._supervisor else None

    def start(self, command: Sequence[str | Path]) -> None:
        """Start the server; its output is appended to the log."""
        with self.log.open("ab") as log:
            self._supervisor = subprocess.Popen(  # noqa: S603 the command line is made by us
                [sys.executable, "-I", "-S", SUPERVISOR, str(os.getpid()), self.workspace, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.workspace,
                env=_clean_environment(),
                start_new_session=True,
            )
        self._pid = self._read_pid()

    def _read_pid(self) -> int:
        assert self._supervisor is not None
        assert self._supervisor.stdout is not None
        with self._supervisor.stdout as line:
            return int(line.readline() or 0)

    def wait_until_ready(self, probe: Callable[[], object], timeout_s: float) -> None:
        """Call `probe` until it returns without an error.

        Raises
        ------
        EmbeddedError
            If the server ends first or the time is over; the text carries the last lines of the log.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                probe()
            except OSError as error:
                self._check_starting(deadline, error)
                time.sleep(0.005)
            else:
                return

    def _check_starting(self, deadline: float, error: OSError) -> None:
        if self.exit_code is not None:
            ended = f"{self.name} ended with exit code {self.exit_code} while starting"
            raise EmbeddedError(f"{ended}\n{self.tail()}") from error
        if time.monotonic() > deadline:
            raise EmbeddedError(f"{self.name} is not ready in time ({error})\n{self.tail()}") from error

    def tail(self) -> str:
        """Return the last lines of the log, for errors."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(
            ["last lines of its log:", *lines[-LOG_TAIL_LINES:]] if lines else ["its log is empty"]
        )

    def stop(self) -> None:
        """End the server in order, by force after a grace period; harmless if it has ended already."""
        self._end(b"q")

    def kill(self) -> None:
        """End the server as a crash would, by SIGKILL; harmless if it has ended already."""
        self._end(b"k")

    def _end(self, request: bytes) -> None:
        supervisor, self._supervisor = self._supervisor, None
        # A forked copy of this process must not end a server that still serves the original.
        if supervisor is None or self._owner != os.getpid():
            return
        assert supervisor.stdin is not None
        with contextlib.suppress(BrokenPipeError), supervisor.stdin as pipe:
            pipe.write(request)
        try:
            supervisor.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()

    def remove_workspace(self) -> None:
        """Delete the log and whatever else is in the workspace."""
        if self._owner == os.getpid():
            shutil.rmtree(self.workspace, ignore_errors=True)


def _clean_environment() -> dict[str, str]:
    """Pass on only what a server needs: the broker would obey a LISTENER_URL it found there."""
    return {key: os.environ[key] for key in ("HOME", "LANG", "PATH", "TMPDIR", "TZ") if key in os.environ}
