"""An open-loop HTTP load generator: requests leave at their time, latency counts from that time.

``python -m benchmarks._load --port 8080 --rate 1000 --seconds 5 < requests.json`` prints what it found.
Keep-alive connections on plain sockets, one request under way on each; one that finds none free
waits, and its wait counts. The loop sleeps in ``select`` (microsecond time-outs) on an epoll descriptor.
"""

import argparse
import json
import re
import select
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks._latency import quantiles_ms

PATIENCE_S = 2.0
_RUNG = re.compile(rb'"rung":"(\w+)"')
HOST = "127.0.0.1"


@dataclass(slots=True)
class Connection:
    """One keep-alive connection and the request under way on it."""

    wire: socket.socket
    intended: float = 0.0
    received: bytes = b""
    wished: int = -1


@dataclass
class Measured:
    """Latencies of good answers in seconds, and how many answers were not."""

    latencies: list[float] = field(default_factory=list)
    errors: int = 0
    last_at: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    rungs: Counter[str] = field(default_factory=Counter)


def request_bytes(method: str, path: str, body: bytes) -> bytes:
    """Return a whole HTTP/1.1 request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def answer_length(received: bytes) -> int:
    """Return the length of a whole answer, head included; -1 while its head is incomplete."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return -1
    head = received[:end].lower()
    at = head.find(b"content-length:")
    return end + 4 + (int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0)


class Load:
    """Sends requests at a constant rate.

    Parameters
    ----------
    port
        Of the server on the loopback interface.
    connections
        Most requests under way at once.
    requests
        Sent in turn.
    """

    def __init__(self, port: int, connections: int, requests: Sequence[bytes]) -> None:
        self._requests = requests
        self._poll = select.epoll()
        self._by_number: dict[int, Connection] = {}
        self._free: deque[Connection] = deque()
        for _ in range(connections):
            wire = socket.create_connection((HOST, port))
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire.setblocking(False)
            one = self._by_number[wire.fileno()] = Connection(wire)
            self._poll.register(wire.fileno(), select.EPOLLIN)
            self._free.append(one)
        self._busy = 0
        self.found = Measured()

    def run(self, rate: float, seconds: float) -> Measured:
        """Send for a time, then wait for the answers under way."""
        total, sent, started = int(rate * seconds), 0, time.perf_counter() + 0.01
        give_up = started + seconds + PATIENCE_S
        while (sent < total or self._busy) and (now := time.perf_counter()) < give_up:
            while sent < total and self._free and started + sent / rate <= now:
                self._send(
                    self._free.popleft(), self._requests[sent % len(self._requests)], started + sent / rate
                )
                sent += 1
            waits = started + sent / rate - now if sent < total and self._free else give_up - now
            if select.select([self._poll.fileno()], [], [], max(0.0, waits))[0]:
                for number, _ in self._poll.poll(0):
                    self._receive(self._by_number[number])
        self.found.errors += self._busy + total - sent
        self.found.last_at -= started
        return self.found

    def _send(self, one: Connection, request: bytes, intended: float) -> None:
        one.intended, one.received, one.wished = intended, b"", -1
        self._busy += 1
        one.wire.send(request)

    def _receive(self, one: Connection) -> None:
        part = one.wire.recv(262_144)
        if not part:
            raise ConnectionError("the server closed a connection")
        one.received = one.received + part if one.received else part
        if one.wished < 0:
            one.wished = answer_length(one.received)
        if one.wished < 0 or len(one.received) < one.wished:
            return
        self.found.last_at = time.perf_counter()
        self._note(one.received)
        if one.received.startswith(b"HTTP/1.1 200"):
            self.found.latencies.append(self.found.last_at - one.intended)
        else:
            self.found.errors += 1
        self._busy -= 1
        self._free.append(one)

    def _note(self, received: bytes) -> None:
        status = received[9:12].decode()
        is_shed = status in ("429", "503") and b"retry-after:" in received[:2_000].lower()
        self.found.statuses[f"{status} shed" if is_shed else status] += 1
        if (rung := _RUNG.search(received)) is not None:
            self.found.rungs[rung[1].decode()] += 1

    def close(self) -> None:
        """Close every connection."""
        for one in self._by_number.values():
            one.wire.close()
        self._poll.close()


def measure(port: int, requests: Sequence[bytes], asked: argparse.Namespace) -> dict[str, Any]:
    """Send and return rate, quantiles and errors."""
    load = Load(port, asked.connections, requests)
    cpu = time.process_time()
    try:
        found = load.run(asked.rate, asked.seconds)
    finally:
        load.close()
    answered = len(found.latencies)
    return {
        "rate": asked.rate,
        "achieved_rps": round(answered / max(found.last_at, 1e-9), 1),
        "answered": answered,
        "errors": found.errors,
        "statuses": dict(found.statuses),
        "rungs": dict(found.rungs),
        "generator_cpu_us": round(1e6 * (time.process_time() - cpu) / max(1, answered), 1),
        **quantiles_ms(found.latencies),
    }


def main() -> None:
    """Read [method, path, body] triples from standard input, send them, print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--connections", type=int, default=64)
    asked = parser.parse_args()
    triples = json.load(sys.stdin)
    requests = [request_bytes(method, path, body.encode()) for method, path, body in triples]
    print(json.dumps(measure(asked.port, requests, asked)))


if __name__ == "__main__":
    main()
