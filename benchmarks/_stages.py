"""Where time goes: named functions are wrapped while a block runs, each moment counts for one stage only."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any
from unittest.mock import patch

Stages = Mapping[str, Sequence[str]]


class StageClock:
    """Seconds by stage; a stage inside another one interrupts it.

    Parameters
    ----------
    timer
        What seconds are taken from: the wall clock, or ``time.thread_time`` on a machine that is not quiet.

    Attributes
    ----------
    seconds, calls
        By stage.
    missing
        Names that the code no longer has.
    """

    def __init__(self, timer: Callable[[], float] = time.perf_counter) -> None:
        self._timer = timer
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self.missing: list[str] = []
        self._running: list[tuple[str, float]] = []

    @contextmanager
    def watching(self, stages: Stages) -> Iterator["StageClock"]:
        """Time the functions of each stage, named ``module:attribute`` or ``module:Class.method``."""
        with ExitStack() as stack:
            for stage, names in stages.items():
                for name in names:
                    self._watch(stack, stage, name)
            yield self

    def _watch(self, stack: ExitStack, stage: str, name: str) -> None:
        try:
            owner, attribute = _find(name)
            original = getattr(owner, attribute)
        except (AttributeError, ImportError):
            self.missing.append(name)
            return
        stack.enter_context(patch.object(owner, attribute, self._timed(stage, original)))

    def _timed(self, stage: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            self._enter(stage)
            try:
                return original(*args, **options)
            finally:
                self._leave()

        return run

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the block for a stage."""
        self._enter(name)
        try:
            yield
        finally:
            self._leave()

    def _enter(self, name: str) -> None:
        now, running = self._timer(), self._running
        if running:
            self.seconds[running[-1][0]] += now - running[-1][1]
        running.append((name, now))
        self.calls[name] += 1

    def _leave(self) -> None:
        now, running = self._timer(), self._running
        name, since = running.pop()
        self.seconds[name] += now - since
        if running:
            running[-1] = (running[-1][0], now)

    def each_us(self, count: int) -> dict[str, float]:
        """Return microseconds by stage for each of ``count`` things."""
        return {name: 1e6 * seconds / max(1, count) for name, seconds in self.seconds.items()}


def _find(name: str) -> tuple[Any, str]:
    module, _, path = name.partition(":")
    owner: Any = import_module(module)
    *holders, attribute = path.split(".")
    for holder in holders:
        owner = getattr(owner, holder)
    return owner, attribute
