"""A readiness check passes only when the right server answers in its own protocol."""

import socket
import threading
from collections.abc import Iterator

import pytest

from headwater.probes import kafka_cluster, store_process_id
from headwater.processes import free_port


@pytest.fixture
def rude_port() -> Iterator[int]:
    """A port whose server hangs up on everyone."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def test_a_server_that_hangs_up_is_no_broker(rude_port: int) -> None:
    with pytest.raises(ConnectionError):
        kafka_cluster(rude_port)


def test_a_server_that_hangs_up_is_no_store(rude_port: int) -> None:
    with pytest.raises(ConnectionError):
        store_process_id(rude_port)


def test_nobody_is_neither() -> None:
    for probe in (kafka_cluster, store_process_id):
        with pytest.raises(ConnectionError):
            probe(free_port())
