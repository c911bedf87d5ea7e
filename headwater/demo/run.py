"""``headwater demo``: every part a process of its own, real data as live traffic, numbers on screen."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import click
import orjson
from aiokafka import AIOKafkaProducer
from msgspec import Struct
from rich.console import Console

from headwater.datasets import MovieLens, load_movielens
from headwater.demo.counts import Folded, read_folded
from headwater.demo.freshness import FreshnessProbe
from headwater.demo.judge import Judge
from headwater.demo.report import demo_report, summary_table
from headwater.demo.screen import Screen
from headwater.demo.traffic import Traffic, Visit, visits
from headwater.embedded import EmbeddedRuntime
from headwater.processes import free_port
from headwater.supervise import die_with_parent
from state.events import Item, encode
from state.settings import Settings
from state.topics import create_topics, topic_name, topic_specs

SPEED_UP = 200.0
# The embedded broker lists a whole partition for each fetch that finds something: short logs answer sooner.
SHARDS = 8
# Sittings with films are long and hardly ordered; the defaults suit the short, ordered sessions of shops.
MOVIE_SESSIONS = {
    "query_decay": 10.0,
    "position_decay": 30.0,
    "match_decay": 20.0,
    "backward": 1.0,
    "idf_power": 1.0,
    "idf_weight": 0.3,
}
MOVIE_PAIRS = {
    "window": 20,
    "max_query": 20,
    "query_decay": 10.0,
    "position_decay": 30.0,
    "backward": 1.0,
    "idf_weight": 0.3,
}
DRAIN_GRACE_S = 60.0
_REPORT_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


class DemoOptions(Struct, frozen=True):
    """What ``headwater demo`` was asked.

    Attributes
    ----------
    events
        Interactions to publish.
    rate
        Interactions a second.
    seed
        Of the server's draws.
    stay
        Whether to keep serving afterwards.
    report
        Where the figures go as JSON.
    kafka, redis
        Real servers to use instead of the embedded ones.
    port
        Of the API; 0 for a free one.
    """

    events: int
    rate: float
    seed: int
    stay: bool
    report: Path | None
    kafka: str | None
    redis: str | None
    port: int


def run_demo(options: DemoOptions) -> int:
    """Run the demo; returns the exit code."""
    console = Console()
    with ExitStack() as stack:
        console.print("[bold]Headwater[/bold]: MovieLens-100K as live traffic")
        data = load_movielens()
        settings = stack.enter_context(demo_settings(options))
        asyncio.run(_prepare(settings))
        children = [stack.enter_context(child(name, settings)) for name in ("worker", "serve")]
        api = f"http://127.0.0.1:{settings.port}"
        asyncio.run(publish_catalogue(settings, data))
        wait_ready(api, len(data.items), children)
        report = asyncio.run(_drive(options, settings, data, Screen(console, options.events)))
        console.print("\n", summary_table(report), sep="")
        if options.report is not None:
            options.report.write_bytes(orjson.dumps(report, option=_REPORT_OPTIONS))
        _show_addresses(console, api, settings)
        if options.stay:
            _stay(console)
    return 0


@contextmanager
def demo_settings(options: DemoOptions) -> Iterator[Settings]:
    """Yield the settings of a demo namespace, with embedded servers for those that were not named."""
    with ExitStack() as stack:
        if options.kafka is None or options.redis is None:
            runtime = stack.enter_context(EmbeddedRuntime(kafka=options.kafka))
        yield Settings(
            namespace=f"demo-{int(time.time())}",
            kafka=options.kafka or runtime.kafka,
            redis=options.redis or runtime.redis,
            token_secret=secrets.token_hex(16),
            shards=SHARDS,
            port=options.port or free_port(),
            speed_up=SPEED_UP,
            attribution_window_s=600.0,
            lateness_s=400.0,
            decision_wait_s=1200.0,
            session_idle_s=1800.0 * SPEED_UP,
            knn=MOVIE_SESSIONS,
            covisits=MOVIE_PAIRS,
            fetch_wait_ms=10,
            seed=options.seed,
            drain_s=0.0,
            log_level="WARNING",
        )


@contextmanager
def child(command: str, settings: Settings) -> Iterator["subprocess.Popen[bytes]"]:
    """Run ``headwater worker`` or ``headwater serve`` as a process of its own."""
    process = start_child(command, settings)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def start_child(command: str, settings: Settings) -> "subprocess.Popen[bytes]":
    """Start a child process with the settings in its environment; it never outlives this one.

    It gets a session of its own: Ctrl-C in a terminal is for the demo, which stops its children in order.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HEADWATER_")}
    return subprocess.Popen(  # noqa: S603 - our own interpreter and our own module
        [sys.executable, "-m", "headwater", command],
        env=environment | settings.environment(),
        preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, and no thread runs yet
        start_new_session=True,
    )


async def _prepare(settings: Settings) -> None:
    specs = topic_specs(settings.namespace, settings.shards, settings.item_shards, settings.lanes)
    await create_topics(settings.kafka, specs)


async def publish_catalogue(settings: Settings, data: MovieLens) -> None:
    """Publish every film as a catalogue item."""
    now = time.time_ns() // 1_000_000
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all") as producer:
        for number, movie in enumerate(data.items.values()):
            item = Item(
                event_id=f"catalogue-{movie.item_id}",
                occurred_at=now,
                item_id=movie.item_id,
                title=movie.title,
                categories=list(movie.genres),
                attributes={"year": float(movie.year)} if movie.year else {},
                producer="demo",
            )
            await producer.send(
                topic_name(settings.namespace, "items"),
                value=encode(item),
                key=item.item_id.encode(),
                partition=number % settings.item_shards,
            )


def wait_ready(
    api: str, items: int, children: "Sequence[subprocess.Popen[bytes]]", timeout_s: float = 60.0
) -> None:
    """Return once the server knows this many items.

    Raises
    ------
    click.ClickException
        If a child ends first, or the time is up.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        ended = [process for process in children if process.poll() is not None]  # what they said is above
        if ended:
            raise click.ClickException(f"a child process ended with exit code {ended[0].returncode}")
        try:
            with urlopen(f"{api}/readyz", timeout=2) as answer:  # noqa: S310 - our own server
                if json.loads(answer.read())["items"] >= items:
                    return
        except (URLError, OSError, ValueError):
            pass
        time.sleep(0.1)
    raise click.ClickException(f"the server at {api} did not take in the catalogue within {timeout_s:.0f} s")


async def _drive(options: DemoOptions, settings: Settings, data: MovieLens, screen: Screen) -> dict[str, Any]:
    judge = Judge(list(data.items))
    api = f"http://127.0.0.1:{settings.port}"
    traffic, probe = Traffic(settings, api, judge), FreshnessProbe(settings, api, every_s=2.0, poll_s=0.01)
    planned: Sequence[Visit] = list(visits(data.ratings[: options.events]))
    probing = asyncio.create_task(probe.run())
    started = time.perf_counter()
    with screen.showing(judge, traffic.sent, probe.found):
        await traffic.run(planned, options.rate, screen.advance)
        took = time.perf_counter() - started
        probing.cancel()
        await asyncio.gather(probing, return_exceptions=True)
        screen.say("waiting for every attribution window to close")
        folded = await until_closed(settings, traffic.sent.impressions)
    return demo_report(judge, traffic.sent, probe.found, folded, took)


async def until_closed(settings: Settings, shown: int) -> Folded:
    """Wait until so many shown slots have closed and been learnt, or longer than that can take."""
    patience_s = (
        settings.window_ms + settings.lateness_ms + settings.decision_wait_ms
    ) / 1000 + DRAIN_GRACE_S
    deadline = time.monotonic() + patience_s
    while True:
        folded = await read_folded(settings)
        if (folded.closed >= shown and folded.learnt >= shown) or time.monotonic() > deadline:
            return folded
        await asyncio.sleep(0.2)


def _show_addresses(console: Console, api: str, settings: Settings) -> None:
    ask = f"""curl -s '{api}/v1/recommendations?session_id=me&k=5&recent_items=50,181'"""
    turn = (
        f"curl -s -X PUT {api}/v1/exploration/home -H 'content-type: application/json' -d '{{\"rate\": 0.2}}'"
    )
    event = (
        '{"events":[{"kind":"clicks","event":{"event_id":"me-1","occurred_at":\'$(date +%s000)\','
        '"session_id":"me","item_id":"50"}}]}'
    )
    click_ = f"curl -s {api}/v1/events -H 'content-type: application/json' -d '{event}'"
    console.print(
        f"\nDashboard [bold]{api}/[/bold]   API [bold]{api}/docs[/bold]   OpenAPI {api}/openapi.json"
    )
    console.print(
        "[yellow]It runs open: on this machine, whoever calls 127.0.0.1 may do everything. "
        "For others to reach it, make keys: docs/security.md[/yellow]"
    )
    console.print(f"Kafka {settings.kafka}   Redis {settings.redis}   namespace {settings.namespace}")
    console.print(f"Example shop: headwater shop --api {api}", soft_wrap=True, highlight=False)
    for line in (ask, click_, turn):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _stay(console: Console) -> None:
    console.print("\nServing until Ctrl-C")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("stopping")
