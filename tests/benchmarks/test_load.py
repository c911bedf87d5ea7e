import socket
import threading

from benchmarks._load import Load, answer_length, request_bytes

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_an_answer_is_whole_when_its_body_is() -> None:
    assert answer_length(b"HTTP/1.1 200 OK\r\ncontent-le") == -1
    assert answer_length(ANSWER) == len(ANSWER)
    assert answer_length(ANSWER[:-2]) == len(ANSWER)
    assert answer_length(b"HTTP/1.1 204 No Content\r\n\r\n") == 27


def test_requests_leave_at_their_rate_and_every_answer_counts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threads = [threading.Thread(target=_answer, args=(server,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        load = Load(server.getsockname()[1], 2, [request_bytes("GET", "/", b"")])
        found = load.run(200, 0.25)
        load.close()
        for thread in threads:
            thread.join()
    assert len(found.latencies) == 50
    assert found.errors == 0
    assert 0.24 <= found.last_at < 2.0


def _answer(server: socket.socket) -> None:
    wire, _ = server.accept()
    with wire:
        while wire.recv(65_536):
            wire.send(ANSWER)
