"""Three primaries and three replicas on loopback ports, formed by the commands an operator would use."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from headwater.embedded import EmbeddedStore
from headwater.processes import free_port

PRIMARIES = 3
SLOTS = 16_384
NODE_TIMEOUT_MS = 2_000
PATIENCE_S = 60.0


class StoreNode(EmbeddedStore):
    """One node of a cluster; it keeps nothing on disk but the cluster's topology."""

    def __init__(self) -> None:
        super().__init__()
        self._bus_port = free_port()

    def _command(self) -> Sequence[str | Path]:
        return [
            *super()._command(), "--cluster-enabled", "yes", "--cluster-port", str(self._bus_port),
            "--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--cluster-require-full-coverage", "no",
            "--cluster-replica-validity-factor", "0", "--cluster-allow-replica-migration", "no",
            "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1",
        ]  # fmt: skip

    def ask(self, *command: str | int) -> Any:
        """Say something to this node and return its answer."""
        options: dict[str, Any] = {"socket_timeout": 5.0, "retry": Retry(NoBackoff(), 0)}
        with redis.Redis(host="127.0.0.1", port=self.port, **options) as client:
            answer = client.execute_command(*command)
        return answer.decode() if isinstance(answer, bytes) else answer

    def meet(self, other: "StoreNode") -> None:
        """Make another node known."""
        self.ask("CLUSTER", "MEET", "127.0.0.1", other.port, other._bus_port)

    @property
    def number(self) -> str:
        """The id the cluster knows this node by."""
        return str(self.ask("CLUSTER", "MYID"))

    def is_primary(self) -> bool:
        """Return whether this node takes writes."""
        return bool(self.ask("ROLE")[0] == b"master")

    def pause(self) -> None:
        """Let the node sleep; it notices nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """Let the node go on."""
        os.kill(self.pid, signal.SIGCONT)


class StoreClusterNodes:
    """A cluster as a context manager."""

    def __init__(self) -> None:
        self.primaries = [StoreNode() for _ in range(PRIMARIES)]
        self.replicas = [StoreNode() for _ in range(PRIMARIES)]
        self._stack = ExitStack()

    @property
    def nodes(self) -> list[StoreNode]:
        """All nodes, primaries first; node n's replica stands `PRIMARIES` places behind it."""
        return [*self.primaries, *self.replicas]

    @property
    def url(self) -> str:
        """What the settings call this cluster: two of its nodes, so that one may be away at the start."""
        return f"redis+cluster://{self.primaries[0].address},{self.replicas[1].address}"

    def owner(self, key: str) -> int:
        """Return which primary's slots a key was given to."""
        return min(key_slot(key.encode()) * PRIMARIES // SLOTS, PRIMARIES - 1)

    def __enter__(self) -> Self:
        try:
            for node in self.nodes:
                self._stack.enter_context(node)
            self._form()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _form(self) -> None:
        for number, node in enumerate(self.primaries):
            first, after = (-(-n * SLOTS // PRIMARIES) for n in (number, number + 1))
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, after - 1)
        for node in self.nodes[1:]:
            self.nodes[0].meet(node)
        wait_for(lambda: all(self._knows_all(node) for node in self.nodes), "every node knows every other")
        for primary, replica in zip(self.primaries, self.replicas, strict=True):
            replica.ask("CLUSTER", "REPLICATE", primary.number)
        wait_for(lambda: all(_is_complete(node) for node in self.nodes), "the cluster is complete")
        wait_for(lambda: all(_follows(node) for node in self.replicas), "every replica follows its primary")

    def _knows_all(self, node: StoreNode) -> bool:
        known = str(node.ask("CLUSTER", "NODES"))
        return len(known.splitlines()) == len(self.nodes) and "handshake" not in known


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until something holds.

    Raises
    ------
    TimeoutError
        If it does not in time.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE_S:.0f} s: {what}")
        time.sleep(0.05)


def _is_complete(node: StoreNode) -> bool:
    info = node.ask("CLUSTER", "INFO")
    return "cluster_state:ok" in str(info) or (isinstance(info, dict) and info["cluster_state"] == "ok")


def _follows(node: StoreNode) -> bool:
    role = node.ask("ROLE")
    return bool(role[0] == b"slave" and role[3] == b"connected")
