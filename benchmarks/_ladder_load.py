"""Open-loop load that takes note of every answer: its status, its rung, and when it came."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

from benchmarks._latency import quantiles_ms
from serving.requests import RecommendationAnswer

_answers = msgspec.json.Decoder(RecommendationAnswer)
PATIENCE_S = 10.0
_PATH = "/v1/recommendations"


class Asked(Struct):
    """One request: when it was due, how long it took from then, and what came back.

    ``status`` is 0 where nothing did; ``shed`` says that the server asked for another try later.
    """

    due: float
    took_s: float
    status: int
    rung: str = ""
    decision_id: str = ""
    staleness_ms: int = 0
    is_empty: bool = False
    shed: bool = False
    problem: str = ""


class LadderLoad:
    """Asks for slates at a constant rate, of all servers in turn, and of another where one is gone.

    Parameters
    ----------
    apis
        Addresses of the servers.
    visitors
        User ids, in turn.
    """

    def __init__(self, apis: Sequence[str], visitors: Sequence[str]) -> None:
        self._apis, self._visitors = list(apis), itertools.cycle(visitors)
        self._next, self._tasks = itertools.count(), set[asyncio.Task[None]]()

    async def run(self, rate: float, is_over: Callable[[], bool]) -> list[Asked]:
        """Ask until it is over; latency counts from when a request was due."""
        found: list[Asked] = []
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2.0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http:
            started, sent = time.monotonic(), 0
            while not is_over():
                due = started + sent / rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                task = asyncio.create_task(self._ask(http, due, found))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                sent += 1
            await asyncio.gather(*self._tasks)
        return found

    async def _ask(self, http: aiohttp.ClientSession, due: float, found: list[Asked]) -> None:
        user = next(self._visitors)
        body = {"user_id": user, "session_id": user, "k": 5}
        first = next(self._next) % len(self._apis)
        for api in (*self._apis[first:], *self._apis[:first]):  # as a load balancer does
            try:
                async with http.post(api + _PATH, json=body) as answer:
                    raw = await answer.read()
                    found.append(_asked(due, answer.status, answer.headers, raw))
                    return
            except aiohttp.ClientConnectorError:
                continue
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                found.append(Asked(due, time.monotonic() - due, 0, problem=type(error).__name__))
                return
        found.append(Asked(due, time.monotonic() - due, 0, problem="no server"))


def _asked(due: float, status: int, headers: Any, raw: bytes) -> Asked:
    took_s = time.monotonic() - due
    if status != 200:
        shed = status in (429, 503) and "Retry-After" in headers
        return Asked(due, took_s, status, shed=shed, problem=raw[:200].decode(errors="replace"))
    answer = _answers.decode(raw)
    return Asked(due, took_s, status, answer.rung, answer.decision_id, answer.staleness_ms, not answer.items)


def summary(found: Sequence[Asked]) -> dict[str, Any]:
    """Return shares by rung, statuses, what must not be, and latencies of good answers."""
    good = [one for one in found if one.status == 200]
    rungs = Counter(one.rung for one in good)
    bad = [one for one in found if one.status != 200 and not one.shed]
    return {
        "asked": len(found),
        "rungs": {rung: round(count / len(found), 4) for rung, count in sorted(rungs.items())},
        "shed": round(sum(one.shed for one in found) / max(1, len(found)), 4),
        "errors_5xx": sum(500 <= one.status < 600 and not one.shed for one in found),
        "cut_off": sum(one.status == 0 for one in found),
        "other_errors": sum(0 < one.status < 500 for one in bad),
        "empty": sum(one.is_empty for one in good),
        "problems": dict(Counter(one.problem for one in bad).most_common(3)),
        "most_stale_ms": max((one.staleness_ms for one in good), default=0),
        **quantiles_ms([one.took_s for one in good]),
    }
