"""Apache Kafka in KRaft mode on loopback ports: brokers that can die and come back."""

import base64
import subprocess
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from headwater.probes import kafka_cluster
from headwater.processes import ServerProcess, free_port, new_workspace
from tests.kafka.jars import KafkaUnavailableError, fetch_jars, program

READY_TIMEOUT_S = 90.0
HEAP = "-Xmx384m"
JVM_OPTIONS = ("-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
LOG_LEVEL = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"


@dataclass(frozen=True, slots=True)
class Node:
    """Identity of one broker, which is also a controller."""

    number: int
    port: int
    controller_port: int

    @property
    def address(self) -> str:
        """Address that clients use."""
        return f"127.0.0.1:{self.port}"

    @property
    def voter(self) -> str:
        """This node as the quorum's settings name it."""
        return f"{self.number}@127.0.0.1:{self.controller_port}"


class KafkaBroker:
    """One running broker with its own log directory, which survives `kill` and `restart`."""

    def __init__(self, node: Node, jars: Path, settings: str) -> None:
        self.node = node
        self._process = ServerProcess(f"kafka-{node.number}", new_workspace("headwater-kafka-"))
        self._settings = self._process.workspace / "server.properties"
        self._settings.write_text(f"{settings}log.dirs={self._process.workspace / 'data'}\n")
        self._java = [program("java"), HEAP, *JVM_OPTIONS, LOG_LEVEL, "-cp", f"{jars}/*"]

    @property
    def pid(self) -> int:
        """Process id of the Java process."""
        return self._process.pid

    def format(self, cluster_id: str) -> None:
        """Prepare the log directory, once in a cluster's life."""
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self._settings)]
        done = subprocess.run([*self._java, *tool], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise KafkaUnavailableError(f"storage of {self.node} cannot be formatted\n{done.stderr[-2000:]}")

    def launch(self) -> None:
        """Start the Java process without waiting for it."""
        self._process.start([*self._java, "kafka.Kafka", self._settings])

    def wait_until_ready(self, brokers: int) -> None:
        """Wait until this broker answers and sees at least so many living brokers."""

        def probe() -> None:
            if (seen := kafka_cluster(self.node.port).brokers) < brokers:
                raise ConnectionError(f"{self.node.address} sees {seen} brokers, {brokers} wished")

        self._process.wait_until_ready(probe, READY_TIMEOUT_S)

    def kill(self) -> None:
        """End the broker as a crash would."""
        self._process.kill()

    def restart(self) -> None:
        """Stop the broker if it runs, start it on its old data and port, and wait until it answers."""
        self._process.stop()
        self.launch()
        self.wait_until_ready(brokers=1)

    def close(self) -> None:
        """End the broker at once, since its data goes too."""
        self._process.kill()
        self._process.remove_workspace()


class KafkaCluster:
    """A cluster of `size` brokers as a context manager.

    Parameters
    ----------
    version : str
        As `tests.kafka.jars.fetch_jars` takes it.
    size : int
        Number of brokers, each of them a controller too.
    """

    def __init__(self, version: str = "4.x", size: int = 1) -> None:
        self.version = version
        self.nodes = [Node(number, free_port(), free_port()) for number in range(1, size + 1)]
        self.brokers: list[KafkaBroker] = []

    @property
    def bootstrap(self) -> str:
        """Addresses of all brokers, separated by commas."""
        return ",".join(node.address for node in self.nodes)

    def start(self) -> None:
        """Fetch, format and start, and return when every broker sees all others."""
        jars, cluster_id = fetch_jars(self.version), _new_cluster_id()
        self.brokers = [KafkaBroker(node, jars, _settings(node, self.nodes)) for node in self.nodes]
        for broker in self.brokers:
            broker.format(cluster_id)
        # A quorum needs a majority, so nobody is waited for before all are launched.
        for broker in self.brokers:
            broker.launch()
        for broker in self.brokers:
            broker.wait_until_ready(len(self.nodes))

    def stop(self) -> None:
        """Stop all brokers and delete their data."""
        with ExitStack() as ending:
            for broker in self.brokers:
                ending.callback(broker.close)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()


def _new_cluster_id() -> str:
    """Return an id as Kafka makes them: one that begins with a dash would be taken for an option."""
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return made


def _settings(node: Node, nodes: list[Node]) -> str:
    """Return server.properties: topics are never made on demand, and groups form without delay."""
    copies = min(3, len(nodes))
    settings = {
        "process.roles": "broker,controller",
        "node.id": node.number,
        "controller.quorum.voters": ",".join(other.voter for other in nodes),
        "listeners": f"PLAINTEXT://{node.address},CONTROLLER://127.0.0.1:{node.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{node.address}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": max(1, copies - 1),
        "group.initial.rebalance.delay.ms": 0,
        "num.network.threads": 2,
        "num.io.threads": 2,
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())
