"""A whole turn of the exploration guide on real servers: explore, preview, change, and see what came of it.

MovieLens-100K as live traffic, as in the demo. Shadow policies watch from the start; after the first part
every rate is previewed by the command line, the rate is changed, and the second part shows what it earned.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks._exploration_plot import draw
from benchmarks._run import child, console, finish, prepare
from headwater.datasets import load_movielens
from headwater.demo.judge import Judge
from headwater.demo.run import DemoOptions, demo_settings, publish_catalogue, until_closed, wait_ready
from headwater.demo.traffic import Traffic, Visit, visits
from headwater.logs import configure_logs
from state.settings import Settings

RATES = (0.0, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2)
WISHED = 0.1
LOOKS = 8
SHADOWS = {
    "greedy": ("--scheme", "greedy"),
    "bolder": ("--rate", "0.1"),
    "softmax": ("--scheme", "softmax", "--temperature", "0.1"),
    "popular": ("--scheme", "greedy", "--ranks-by", "trend"),
}


class Shell:
    """Runs the command line against the servers of a run, and keeps what was said."""

    def __init__(self, settings: Settings) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HEADWATER_")}
        self._environment = kept | settings.environment()
        self.said: list[dict[str, Any]] = []

    def explore(self, *words: str, is_shown: bool = True) -> str:
        """Run ``headwater explore WORDS`` and return what it printed."""
        command = [sys.executable, "-m", "headwater", "explore", *words]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        text = (done.stdout + done.stderr).rstrip()
        if is_shown:
            self.said.append({"command": f"headwater explore {' '.join(words)}", "output": text})
            console.print(f"$ headwater explore {' '.join(words)}", markup=False, highlight=False)
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        return text

    def preview(self, rate: float) -> dict[str, Any]:
        """Return one preview."""
        words = ("preview", "--rate", f"{rate:g}", "--json")
        return dict(json.loads(self.explore(*words, is_shown=False)))

    def scoreboard(self) -> dict[str, Any]:
        """Return the scoreboard."""
        return dict(json.loads(self.explore("scoreboard", "--json", is_shown=False)))


class Run:
    """The traffic of one run, in parts."""

    def __init__(self, settings: Settings, planned: list[Visit], rate: float) -> None:
        self._settings, self._planned, self._rate = settings, planned, rate
        self._items, self._shown = list(load_movielens().items), 0

    def send(self, count: int) -> None:
        """Publish the next visits and wait until their windows are over."""
        part, self._planned = self._planned[:count], self._planned[count:]
        asyncio.run(self._send(part))

    async def _send(self, part: list[Visit]) -> None:
        traffic = Traffic(self._settings, f"http://127.0.0.1:{self._settings.port}", Judge(self._items))
        await traffic.run(part, self._rate, lambda _: None)
        self._shown += traffic.sent.impressions
        await until_closed(self._settings, self._shown)


def turn(given: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Go through the guide; returns everything seen."""
    data, shell = load_movielens(), Shell(settings)
    run = Run(settings, list(visits(data.ratings[: 2 * given.events])), given.rate)
    for name, law in SHADOWS.items():
        shell.explore("shadow", name, *law, "--by", "guide")
    boards = []
    for _ in range(LOOKS):
        run.send(given.events // LOOKS)
        boards.append(shell.scoreboard())
    shell.explore("preview", "--rate", f"{WISHED:g}")
    previews = [shell.preview(rate) for rate in RATES]
    shell.explore("scoreboard")
    shell.explore("promote", "bolder", "--by", "guide")
    shell.explore("--rate", f"{WISHED:g}", "--by", "guide", "--why", "more new films")
    changed_at = time.time_ns() // 1_000_000
    run.send(given.events)
    shell.explore("history")
    after = shell.scoreboard()
    return {
        "previews": previews,
        "boards": boards,
        "after": after,
        "changed_at": changed_at,
        "said": shell.said,
    }


def options() -> argparse.ArgumentParser:
    """Return the command line of this benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exploration", description=__doc__)
    parser.add_argument("--events", type=int, default=4_000, help="visits before the change, and after it")
    parser.add_argument("--rate", type=float, default=60.0, help="visits a second")
    parser.add_argument("--seed", type=int, default=1, help="of the server's draws")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw charts into this folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here")
    return parser


def main() -> None:
    """Run servers and traffic, then report."""
    given = options().parse_args()
    configure_logs("WARNING")
    asked = DemoOptions(given.events, given.rate, given.seed, False, None, None, None, 0)
    with ExitStack() as stack:
        settings = stack.enter_context(demo_settings(asked))
        data = load_movielens()
        asyncio.run(prepare(settings))
        asyncio.run(publish_catalogue(settings, data))
        children = [stack.enter_context(child(name, settings)) for name in ("worker", "serve")]
        wait_ready(f"http://127.0.0.1:{settings.port}", len(data.items), children, timeout_s=180.0)
        report = turn(given, settings)
    finish(given, report)
    if given.plots is not None:
        for file in draw(given.plots, report):
            console.print(f"wrote {file}")


if __name__ == "__main__":
    main()
