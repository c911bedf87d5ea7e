"""What the demo shows while it runs."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from headwater.demo.freshness import Probes
from headwater.demo.judge import Judge
from headwater.demo.report import score_rows
from headwater.demo.traffic import Sent


class Screen:
    """A progress bar and a table of live figures.

    Parameters
    ----------
    console
        Where to draw.
    total
        Interactions of the run.
    """

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]:.0f} events/s"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("interactions", total=total, speed=0.0)
        self._started = time.perf_counter()
        self._sent: Sent | None = None

    @contextmanager
    def showing(self, judge: Judge, sent: Sent, probes: Probes) -> Iterator[None]:
        """Show live figures for the time of a with block."""
        self._sent, self._started = sent, time.perf_counter()
        view = _View(self._progress, judge, sent, probes)
        with Live(view, console=self._console, refresh_per_second=4):
            yield

    def advance(self, done: int) -> None:
        """Move the progress bar."""
        assert self._sent is not None
        events = self._sent.impressions + self._sent.clicks + self._sent.feedback
        speed = events / max(1e-9, time.perf_counter() - self._started)
        self._progress.update(self._task, completed=done, speed=speed)

    def say(self, text: str) -> None:
        """Show what is being waited for."""
        self._progress.update(self._task, description=text)


class _View:
    def __init__(self, progress: Progress, judge: Judge, sent: Sent, probes: Probes) -> None:
        self._progress, self._judge, self._sent, self._probes = progress, judge, sent, probes

    def __rich__(self) -> Group:
        return Group(self._progress, self._scores(), self._times())

    def _scores(self) -> Table:
        table = Table("hit rate@10", "requests", "engine", "popularity", "random")
        for name, tally in score_rows(self._judge):
            cells = (tally.rate(), tally.popularity_rate(), tally.chance_rate())
            table.add_row(name, f"{tally.requests:,}", *(f"{cell:.4f}" for cell in cells))
        return table

    def _times(self) -> Table:
        table = Table("", "p50", "p99")
        table.add_row("answer latency", *_cells(self._sent.latencies_ms[-5000:]))
        table.add_row("event to changed answer", *_cells(self._probes.waits_ms))
        share = 100 * self._judge.explored / max(1, self._judge.slots)
        table.add_row("slots explored", f"{share:.1f} %", "")
        return table


def _cells(values: list[float]) -> list[str]:
    if not values:
        return ["-", "-"]
    return [f"{np.percentile(values, q):.1f} ms" for q in (50, 99)]
