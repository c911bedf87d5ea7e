"""Readiness checks that speak the real protocols, without an event loop and without retries."""

import socket
import struct
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

import redis
from aiokafka.protocol.api import RequestHeader_v1
from aiokafka.protocol.metadata import MetadataRequest_v2, MetadataResponse_v2
from redis.backoff import NoBackoff
from redis.retry import Retry

TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class KafkaCluster:
    """What a broker says about its cluster: the cluster's id and the number of living brokers."""

    cluster_id: str
    brokers: int


def kafka_cluster(port: int) -> KafkaCluster:
    """Ask the broker on a loopback port for its metadata.

    Raises
    ------
    OSError
        If nobody answers, or the answer has no broker in it yet.
    """
    request = MetadataRequest_v2([])
    payload = RequestHeader_v1(request, 1, "headwater").encode() + request.encode()
    with (
        socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection,
        connection.makefile("rb") as stream,
    ):
        connection.sendall(struct.pack(">i", len(payload)) + payload)
        size = struct.unpack(">i", _read(stream, 4))[0]
        answer = MetadataResponse_v2.decode(BytesIO(_read(stream, size)[4:]))
    if not answer.brokers:
        raise ConnectionError("the broker knows of no brokers yet")
    return KafkaCluster(str(answer.cluster_id), len(answer.brokers))


def _read(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise ConnectionError(f"the broker closed the connection after {len(data)} of {size} bytes")
    return data


def store_process_id(port: int) -> int:
    """Ping the store on a loopback port and return the process id it reports.

    Raises
    ------
    OSError
        If nobody answers, or the store is still loading its append-only files.
    """
    try:
        with redis.Redis(
            host="127.0.0.1",
            port=port,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            client.ping()
            return int(client.info("server")["process_id"])
    except redis.RedisError as error:
        raise ConnectionError(str(error)) from error
