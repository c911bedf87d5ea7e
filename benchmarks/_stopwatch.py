"""What each kind of operation took, of many."""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any


class Stopwatch:
    """Times calls by the wall clock, under the name of what they do."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)

    def timed(self, name: str, work: Callable[..., Any], *given: Any) -> Any:
        """Return what a call returns."""
        started = time.perf_counter()
        done = work(*given)
        self._seconds[name] += time.perf_counter() - started
        self._counts[name] += 1
        return done

    def each_us(self) -> dict[str, float]:
        """Return mean microseconds of each operation."""
        return {name: round(1e6 * total / self._counts[name], 1) for name, total in self._seconds.items()}
