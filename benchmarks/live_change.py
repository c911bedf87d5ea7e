"""Exploration turned under load: when every decision of every server follows, and whether its log agrees.

``python -m benchmarks.live_change --servers 4 --rate 1000 --seconds 40 --json live.json``. A real broker and
store, one worker and several server processes answer an open-loop load while the rate of exploration is
changed through the API of one server after the other, the kill switch is pulled and the rate before brought
back, in turns. Afterwards the decisions topic is read. Judged are all decisions: which version each carries,
by its own time; that its law is that version's; and that its propensities recompute from its log to 1e-12.
Time to full effect runs from sending the change to the last decision under the version before; the time from
its acceptance leaves out how long the request waited behind others.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import msgspec
import numpy as np
from aiohttp import ClientSession, ClientTimeout
from msgspec import Struct

from bandits.slates import slate_propensities
from benchmarks import _run
from benchmarks._store import write_shop
from benchmarks._synthetic import Shop
from benchmarks.serving import recommendations
from headwater.processes import free_port
from headwater.topic_reader import read_to_end
from serving.relaw import law_of, problem_of, slots_of
from state.events import Decision
from state.settings import Settings

PAUSE_S = 2.5
SECOND_MS = 1000
RATES = (0.08, 0.12, 0.05, 0.1)
ITEMS, VISITORS = 2_000, 2_000
EXACT = 1e-12


class Change(Struct):
    """One change: when it was sent and answered, ms, what kind, and the document that came in force."""

    kind: str
    asked_at: int
    answered_at: int
    document: dict[str, Any]

    @property
    def version(self) -> int:
        """The version it made."""
        return int(self.document["version"])


def now_ms() -> int:
    """Return the present, ms."""
    return time.time_ns() // 1_000_000


def plan(count: int) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Return kind, method, path and body of each change: rates, and every third time a stop and a return."""
    steps: list[tuple[str, str, str, dict[str, Any]]] = []
    for number in range(count):
        if number % 4 == 2:
            steps.append(("stop", "POST", "/stop", {"why": "a trial"}))
        elif number % 4 == 3:
            steps.append(("rollback", "POST", "/rollback", {"version": number - 1, "why": "a trial"}))
        else:
            body = {"rate": RATES[number % len(RATES)], "forced": True, "why": "a trial"}
            steps.append(("rate", "PUT", "", body))
    return steps


async def turn(apis: Sequence[str], count: int) -> list[Change]:
    """Make the changes, one after the other, each through another server."""
    changes: list[Change] = []
    async with ClientSession(timeout=ClientTimeout(total=10)) as http:
        for number, (kind, method, path, body) in enumerate(plan(count)):
            await asyncio.sleep(PAUSE_S)
            url, asked_at = f"{apis[number % len(apis)]}/v1/exploration/home{path}", now_ms()
            async with http.request(method, url, json=body) as answer:
                document = await answer.json()
                if answer.status != 200:
                    raise RuntimeError(f"{method} {url} was answered with {answer.status}: {document}")
            changes.append(Change(kind, asked_at, now_ms(), document))
        await asyncio.sleep(PAUSE_S)
    return changes


def load(ports: Sequence[int], requests: list[Any], rate: float, seconds: float) -> list[Any]:
    """Start one load generator a server."""
    started = []
    for port in ports:
        command = [sys.executable, "-m", "benchmarks._load", "--port", str(port), "--rate", str(rate)]
        process = subprocess.Popen(
            [*command, "--seconds", str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(requests))
        process.stdin.close()
        started.append(process)
    return started


def finished(generators: Sequence[Any]) -> list[dict[str, Any]]:
    """Return what the load generators measured."""
    measured = [json.loads(process.stdout.read()) for process in generators]
    for process in generators:
        process.wait()
    return measured


async def logged(settings: Settings) -> list[Decision]:
    """Return every decision of the topic, each once, in the order of decision times."""
    decode = msgspec.json.Decoder(Decision).decode
    found: dict[str, Decision] = {}
    async for record in read_to_end(settings, "decisions"):
        decision = decode(record.value)
        found[decision.event_id] = decision
    return sorted(found.values(), key=lambda one: one.occurred_at)


def judge(changes: Sequence[Change], decisions: Sequence[Decision]) -> dict[str, Any]:
    """Return how long each change took to reach every decision, and what the logs say."""
    ends = [change.asked_at for change in changes[1:]] + [decisions[-1].occurred_at + 1]
    rows, wrong = list[dict[str, Any]](), 0
    for change, end in zip(changes, ends, strict=True):
        inside = [one for one in decisions if change.asked_at <= one.occurred_at < end]
        old = [one for one in inside if one.versions.exploration != change.version]
        effect = max((one.occurred_at - change.asked_at for one in old), default=0)
        wrong += sum(one.occurred_at > change.asked_at + SECOND_MS for one in old)
        rows.append(
            {"kind": change.kind, "version": change.version, "decisions": len(inside), "effect_ms": effect,
             "after_acceptance_ms": max(0, change.asked_at + effect - int(change.document["at"])),
             "answered_ms": change.answered_at - change.asked_at}
        )  # fmt: skip
    rows = [row for row in rows if row["decisions"]]  # a load that ended late or early leaves some without
    effects = {
        kind: [row["effect_ms"] for row in rows if kind in ("all", row["kind"])]
        for kind in ("all", "rate", "stop", "rollback")
    }
    return {
        "changes": rows,
        "late_decisions": wrong,
        "effect_ms": {kind: quantiles(found) for kind, found in effects.items() if found},
        "after_acceptance_ms": quantiles([row["after_acceptance_ms"] for row in rows]),
        **recomputed(changes, decisions),
    }


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p99 and the largest."""
    return {
        "p50": float(np.quantile(values, 0.5)),
        "p99": float(np.quantile(values, 0.99)),
        "max": max(values),
    }


def recomputed(changes: Sequence[Change], decisions: Sequence[Decision]) -> dict[str, Any]:
    """Return how many decisions disagree with the version they carry, or with themselves."""
    documents = {change.version: change.document for change in changes}
    largest, wrong, aimed = 0.0, Counter[str](), 0
    for one in decisions:
        document = documents.get(one.versions.exploration)
        if document is not None:
            said = {name: document[name] for name in ("rate", "scheme", "temperature", "floor")}
            wrong["law"] += any(one.exploration[name] != value for name, value in said.items())
            wrong["explored after a stop"] += document["scheme"] == "greedy" and any(
                s.explored for s in one.slots
            )
        propensities = np.array([slot.propensity for slot in one.slots])
        again = slate_propensities(problem_of(one), slots_of(one), law_of(one))
        largest = max(largest, float(np.abs(again - propensities).max()))
        wrong["propensity"] += bool(np.abs(again - propensities).max() > EXACT)
        aimed += one.aimed is not None
    return {
        "decisions": len(decisions), "aimed_at_new_items": aimed, "largest_difference": largest,
        "wrong": {name: count for name, count in wrong.items() if count},
    }  # fmt: skip


def run(given: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Start everything, load it, change it, and judge what was logged."""
    shop = Shop(ITEMS, VISITORS, now_ms(), given.seed)
    asyncio.run(_run.prepare(settings))
    asyncio.run(write_shop(settings, shop))
    with ExitStack() as stack:
        children = [stack.enter_context(_run.child("worker", settings))]
        ports = [free_port() for _ in range(given.servers)]
        for number, port in enumerate(ports):
            # A seed of its own: two servers must not give one decision id to two decisions of one moment.
            told = msgspec.structs.replace(settings, port=port, seed=given.seed + number)
            children.append(stack.enter_context(_run.child("serve", told)))
        apis = [f"http://127.0.0.1:{port}" for port in ports]
        for api in apis:
            _run.wait_ready(api, shop.items)
        count = max(2, int(given.seconds / PAUSE_S) - 1)
        generators = load(ports, recommendations(shop)[:5_000], given.rate / len(ports), given.seconds)
        changes = asyncio.run(turn(apis, count))
        measured = finished(generators)
        died = sum(child.poll() is not None for child in children)
        decisions = asyncio.run(logged(settings))
    report = judge(changes, decisions)
    report["load"] = {
        "servers": given.servers,
        "answered": sum(one["answered"] for one in measured),
        "errors": sum(one["errors"] for one in measured),
        "achieved_rps": round(sum(one["achieved_rps"] for one in measured), 1),
        "p99_ms": max(one["p99_ms"] for one in measured),
        "processes_that_ended": died,
    }
    return report


def main() -> None:
    """Measure and print."""
    parser = _run.options(__doc__, seconds=60.0, rate=1000.0)
    parser.add_argument("--servers", type=int, default=4)
    given = parser.parse_args()
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    with _run.bench_settings(given, holdout=0.0) as settings:
        report = run(given, settings)
    rows = {f"load: {name}": value for name, value in report["load"].items()}
    for kind, found in report["effect_ms"].items():
        rows |= {f"{kind}: time to full effect, {name}, ms": value for name, value in found.items()}
    rows |= {f"after acceptance, {name}, ms": value for name, value in report["after_acceptance_ms"].items()}
    names = ("decisions", "late_decisions", "aimed_at_new_items", "largest_difference", "wrong")
    rows |= {name: report[name] for name in names}
    _run.console.print(_run.figures("exploration changed under load", rows))
    _run.finish(given, report)


if __name__ == "__main__":
    main()
