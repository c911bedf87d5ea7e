"""What every benchmark needs: options, servers, child processes on their cores, and the report."""

import argparse
import json
import os
import platform
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from rich.console import Console
from rich.table import Table

from headwater.demo.run import child
from headwater.embedded import EmbeddedRuntime
from headwater.logs import configure_logs
from headwater.processes import free_port
from state.settings import Settings
from state.topics import create_topics, topic_specs

READY_TIMEOUT_S = 180.0
console = Console()

__all__ = ["Settings", "bench_settings", "child", "console", "figures", "finish", "options", "prepare"]


def options(description: str | None, *, seconds: float, rate: float | list[float]) -> argparse.ArgumentParser:
    """Return a parser with the options all benchmarks share; a list of rates takes several."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here")
    parser.add_argument("--seed", type=int, default=1, help="of the synthetic data")
    parser.add_argument("--seconds", type=float, default=seconds, help="length of one measurement")
    several: Any = {"nargs": "+"} if isinstance(rate, list) else {}
    parser.add_argument("--rate", type=float, default=rate, help="requests or events a second", **several)
    parser.add_argument("--kafka", metavar="HOST:PORT", help="a running broker; embedded otherwise")
    parser.add_argument("--redis", metavar="URL", help="a running store; embedded otherwise")
    return parser


@contextmanager
def bench_settings(given: argparse.Namespace, **changes: Any) -> Iterator[Settings]:
    """Yield settings of a fresh namespace, with embedded servers for those that were not named."""
    configure_logs("WARNING")
    with ExitStack() as stack:
        if given.kafka is None or given.redis is None:
            runtime = stack.enter_context(EmbeddedRuntime(kafka=given.kafka))
        yield Settings(
            namespace=f"bench-{time.time_ns() // 1_000_000 % 10**9}",
            kafka=given.kafka or runtime.kafka,
            redis=given.redis or runtime.redis,
            token_secret=secrets.token_hex(16),
            port=free_port(),
            seed=given.seed,
            log_level="WARNING",
            **changes,
        )


async def prepare(settings: Settings) -> None:
    """Make the topics of a namespace."""
    specs = topic_specs(settings.namespace, settings.shards, settings.item_shards, settings.lanes)
    await create_topics(settings.kafka, specs)


@contextmanager
def module_child(module: str, settings: Settings) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a module as a process of its own, with the settings in its environment."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HEADWATER_")}
    process = subprocess.Popen([sys.executable, "-m", module], env=environment | settings.environment())
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def split_cores() -> tuple[set[int], set[int]]:
    """Return the core of what is measured and the cores of everything else."""
    cores = sorted(os.sched_getaffinity(0))
    return {cores[0]}, set(cores[1:]) or {cores[0]}


def cpu_seconds(pid: int) -> float:
    """Return the processor time a process and its threads have used."""
    parts = Path(f"/proc/{pid}/stat").read_text().rsplit(")", maxsplit=1)[1].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process, MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 2)


def wait_ready(api: str, items: int) -> None:
    """Wait until a server has loaded its state.

    Raises
    ------
    TimeoutError
        If it does not within three minutes.
    """
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            with urlopen(f"{api}/readyz", timeout=5) as answer:
                if json.loads(answer.read())["items"] >= items:
                    return
        except (URLError, OSError, ValueError):
            pass
        time.sleep(0.2)
    raise TimeoutError(f"the server at {api} was not ready within {READY_TIMEOUT_S:.0f} s")


def scrape(url: str) -> dict[str, float]:
    """Return the samples of a Prometheus page: name with labels -> value."""
    with urlopen(url, timeout=10) as answer:
        return parse_samples(answer.read().decode())


def parse_samples(page: str) -> dict[str, float]:
    """Return the samples of a Prometheus page as text."""
    pairs = (line.rsplit(" ", maxsplit=1) for line in page.splitlines() if line and line[0] != "#")
    return {name: float(value) for name, value in pairs}


def figures(title: str, rows: Mapping[str, object]) -> Table:
    """Return a two-column table."""
    table = Table("figure", "value", title=title, title_justify="left")
    for name, value in rows.items():
        table.add_row(name, f"{value:,.2f}" if isinstance(value, float) else str(value))
    return table


def finish(given: argparse.Namespace, report: Mapping[str, Any]) -> None:
    """Write the report where it was asked for."""
    if given.json is not None:
        asked = {name: str(v) if isinstance(v, Path) else v for name, v in vars(given).items()}
        machine = {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}
        whole = {"benchmark": Path(sys.argv[0]).stem, "asked": asked, "machine": machine, **report}
        given.json.write_text(json.dumps(whole, indent=2) + "\n")
