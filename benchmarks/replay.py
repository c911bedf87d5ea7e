"""Promise 7: a replay of the journal ends in the identical state; how fast it is beside the live run.

``python -m benchmarks.replay --events 20000 --json replay.json``. Decisions are small (5 slots, 20
candidates) and soon collected, so that a million events fit. Everything is published first; then workers fold
it as in ``benchmarks.ingest``, until every window has closed and every outbox is empty. Then the journal is
replayed into another namespace by the command operators use, and both are hashed.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext
from itertools import islice
from typing import Any

import numpy as np

from bandits.ranking import ranking_policy
from benchmarks import _run
from benchmarks._counts import read_counts, verdict, watch
from benchmarks._mix import Mix, Sent, spread
from benchmarks._publish import publish_all
from benchmarks._workers import held_workers
from online_models.ranking import ranking_registry
from state.clients import redis_client
from state.events import Candidates, Decision, Slot, Versions
from state.keys import outbox_key, subject_unit, unit_prefix
from state.packing import to_base64
from state.settings import Settings
from state.statehash import StateHash, hash_state
from tests.kafka.cluster import KafkaCluster

SLOTS, CANDIDATES, TEMPLATES = 5, 20, 400
PUBLISHED_AT_ONCE = 50_000
SPAN_MS, CLOSED_AFTER_MS = 6_000_000, 1_300_000
DECISION_TTL_S = 30.0
SENT_PATIENCE_S = 120.0
_SECONDS = re.compile(r"replayed into \S+ in ([\d.]+) s")


def small_decision(rng: np.random.Generator, items: int) -> Decision:
    """Return a decision of five slots and twenty candidates; who and when are filled in later."""
    policy, width = ranking_policy(), len(ranking_registry())
    chosen = [f"item-{n:06d}" for n in rng.choice(items, CANDIDATES, replace=False)]
    arms = rng.random((SLOTS, policy.item_dim))
    return Decision(
        event_id="template",
        occurred_at=time.time_ns() // 1_000_000,
        session_id="template",
        surface="home",
        rung="personal",
        slots=[Slot(item, 0.9 - 0.1 * n, CANDIDATES - n) for n, item in enumerate(chosen[:SLOTS])],
        candidates=Candidates(chosen, to_base64(rng.random(CANDIDATES)), "t" * CANDIDATES, ""),
        context=to_base64(rng.random(policy.context_dim)),
        features=to_base64(rng.random((SLOTS, width))),
        arms=to_base64(arms),
        logits=to_base64(rng.normal(-3.0, 0.5, SLOTS)),
        exploration={"scheme": "epsilon", "rate": 0.05},
        versions=Versions("hybrid-1", 1, 1, ranking_registry().fingerprint()),
        seed=1,
    )


async def publish(settings: Settings, mix: Mix, events: int) -> Counter[tuple[str, int]]:
    """Publish the events of a run, some at a time; returns how many records each topic-partition has."""
    end = time.time_ns() // 1_000_000
    begin = end - SPAN_MS - CLOSED_AFTER_MS
    records, published = spread(mix, events, (begin, begin + SPAN_MS)), Counter[tuple[str, int]]()
    while part := list(islice(records, PUBLISHED_AT_ONCE)):
        await _publish_part(settings, part, published)
    await _publish_part(settings, list(mix.last_words(end)), published)
    return published


async def _publish_part(settings: Settings, part: list[Sent], published: Counter[tuple[str, int]]) -> None:
    await publish_all(settings, part)
    published.update((one.kind, one.partition) for one in part)


async def live_run(redis: Any, settings: Settings, given: argparse.Namespace) -> dict[str, Any]:
    """Publish and fold everything; returns throughput and counts."""
    rng = np.random.default_rng(given.seed)
    templates = [small_decision(rng, given.items) for _ in range(TEMPLATES)]
    mix = Mix(settings, templates, max(100, given.events // 20))
    await _run.prepare(settings)
    published = await publish(settings, mix, given.events)
    _run.console.print(f"{mix.truth.total:,} source events published")
    async with held_workers(redis, settings, given.workers):
        seen = await watch(redis, settings, mix.truth, timeout_s=180.0 + given.events / 300)
        await _all_sent(redis, settings)
    lasted = max(1e-9, seen.complete_s - seen.first_s)
    counted = verdict(await read_counts(redis, settings), mix.truth, dict(published))
    rate = round((mix.truth.total - seen.before) / lasted, 1) if seen.complete_s else 0.0
    return {"events": mix.truth.total, "live_events_per_s": rate, "live_seconds": round(lasted, 1), **counted}


async def _all_sent(redis: Any, settings: Settings) -> None:
    """Wait until no shard has anything left to send: the journal is whole.

    Raises
    ------
    TimeoutError
        If that takes longer than two minutes.
    """
    units = [*map(subject_unit, range(settings.shards)), "m0", "i0", "c"]
    keys = [outbox_key(unit_prefix(settings.namespace, unit)) for unit in units]
    async with asyncio.timeout(SENT_PATIENCE_S):
        while any([await redis.llen(key) for key in keys]):
            await asyncio.sleep(0.1)


async def replay_run(settings: Settings, into: str, events: int) -> dict[str, Any]:
    """Replay by the command; returns its throughput in source events, without the start of the process."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HEADWATER_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headwater", "replay", "--into", into,
        env=environment | settings.environment(), stdout=subprocess.PIPE,
    )  # fmt: skip
    printed, _ = await process.communicate()
    said = printed.decode()
    if process.returncode:
        raise RuntimeError(f"the replay was refused: {said}")
    match = _SECONDS.search(said)
    seconds = float(match[1]) if match else 0.0
    return {"replay_events_per_s": round(events / max(seconds, 1e-9), 1), "replay_seconds": seconds}


async def measure(given: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Live, replay, compare; returns the report."""
    redis, into = redis_client(settings, timeout_s=60.0), f"{settings.namespace}-replay"
    try:
        report = await live_run(redis, settings, given)
        _run.console.print(report)
        report |= await replay_run(settings, into, report["events"])
        live, again = [await hash_state(redis, name) for name in (settings.namespace, into)]
    finally:
        await redis.aclose()
    return report | compared(live, again)


def compared(live: StateHash, again: StateHash) -> dict[str, Any]:
    """Return both hashes, whether they are one, and what differs; logged decisions are collected by clock."""
    differing = [one for one in live.differences(again) if "(apart)" not in one]
    return {
        "live_hash": live.hash, "replay_hash": again.hash, "equal": live.hash == again.hash,
        "differences": differing,
    }  # fmt: skip


def main() -> None:
    """Measure and print; exits with 1 where the hashes differ or anything was lost or doubled."""
    parser = _run.options(__doc__, seconds=0.0, rate=0.0)
    parser.add_argument("--events", type=int, default=20_000, help="source events, a multiple of 10")
    parser.add_argument("--items", type=int, default=2_000, help="different items shown")
    parser.add_argument("--workers", type=int, default=1, help="worker processes of the live run")
    parser.add_argument("--real-kafka", action="store_true", help="start Apache Kafka for the run")
    given = parser.parse_args()
    with KafkaCluster() if given.real_kafka else nullcontext() as cluster:
        given.kafka = cluster.bootstrap if cluster is not None else given.kafka
        with _run.bench_settings(given, session_timeout_s=6.0, decision_ttl_s=DECISION_TTL_S) as settings:
            report = asyncio.run(measure(given, settings))
    _run.console.print(_run.figures("replay", {k: v for k, v in report.items() if k != "differences"}))
    _run.finish(given, report)
    sys.exit(0 if report["equal"] and not report["lost"] and not report["doubled"] else 1)


if __name__ == "__main__":
    main()
