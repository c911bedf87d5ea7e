"""Several server processes on one port: each answers, a lost one is replaced, and all end together."""

import os
import signal
import socket
from pathlib import Path

import aiohttp

from headwater.processes import free_port
from tests.integration.rig import Rig, make_items, until

PATH = "/v1/recommendations"
ASKED = {"session_id": "s1", "surface": "home", "k": 5}


def processes_of(pid: int) -> set[int]:
    """Return the processes a process has started and not lost."""
    return {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def is_running(pid: int) -> bool:
    """Return whether a process is there."""
    return Path(f"/proc/{pid}").exists()


def two_ports() -> int:
    """Return the first of two neighbouring ports that were free a moment ago."""
    while True:
        first = free_port()
        with socket.socket() as second:
            try:
                second.bind(("127.0.0.1", first + 1))
            except (OSError, OverflowError):
                continue
            return first


async def statuses(api: str, count: int) -> list[int]:
    """Ask over a connection each, as clients of a balancer do."""
    found = []
    for _ in range(count):
        async with aiohttp.ClientSession() as http, http.post(f"{api}{PATH}", json=ASKED) as answer:
            found.append(answer.status)
            assert len((await answer.json())["items"]) == 5
    return found


async def answers_of(port: int) -> float:
    """Return how many requests the process at a port of its own has answered."""
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/metrics") as page:
        lines = (await page.text()).splitlines()
    return sum(float(one.rsplit(" ", 1)[1]) for one in lines if one.startswith("headwater_answers_total{"))


async def test_processes_share_a_port_a_lost_one_is_replaced_and_all_end_in_order(rig: Rig) -> None:
    base = two_ports()
    rig.processes.worker()
    api = rig.processes.server(servers=2, metrics_port=base)
    parent = rig.processes.servers[-1]
    await rig.claimed()
    await rig.ready(api)
    await rig.catalogue(make_items(("drama", "jazz"), 10))
    await until(lambda: _both(parent.pid), "two processes run")

    async def each_answers() -> bool:
        assert set(await statuses(api, 20)) == {200}
        return all([await _counted(base + n) > 0 for n in range(2)])

    await until(each_answers, "each process has answered requests of the shared port")
    before = processes_of(parent.pid)
    os.kill(min(before), signal.SIGKILL)

    async def is_replaced() -> bool:
        now = processes_of(parent.pid)
        return len(now) == 2 and now != before and await _is_ready(base) and await _is_ready(base + 1)

    await until(is_replaced, "another process serves in the place of the lost one")
    assert set(await statuses(api, 20)) == {200}
    children = processes_of(parent.pid)
    parent.terminate()
    assert await rig.ended(parent) == 0
    assert not [one for one in children if is_running(one)]


async def _both(pid: int) -> bool:
    return len(processes_of(pid)) == 2


async def _counted(port: int) -> float:
    try:
        return await answers_of(port)
    except aiohttp.ClientError:
        return 0.0


async def _is_ready(port: int) -> bool:
    try:
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
