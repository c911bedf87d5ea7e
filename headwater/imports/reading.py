"""The rows of an import's files as numbered events, in chunks; those that are not sent are counted."""

import time
from collections import Counter
from collections.abc import Iterator
from itertools import chain

from headwater.imports.plan import ImportFailed, Plan
from headwater.imports.progress import Rejected
from headwater.imports.send import Numbered
from headwater.imports.shape import EventMaker, is_expired
from headwater.imports.sources import Found, Source
from state.decoding import Refusal
from state.outbox import SENT_AT_ONCE
from state.settings import Settings

CHUNK = SENT_AT_ONCE // 2
"""Rows of one chunk; two are under way at a time, so that shards tell every row sent twice by its number."""
CHUNKS_A_SECOND = 20


class Reader:
    """Reads files, and makes events of their rows.

    Parameters
    ----------
    plan
        What to read.
    settings
        Of the namespace.

    Raises
    ------
    SourceError
        If a file is not there or its name says no format.
    ShapeError
        If the plan names a field the kind has not.
    """

    def __init__(self, plan: Plan, settings: Settings) -> None:
        self._plan, self._maker = plan, EventMaker(plan.shape, settings)
        self._sources = [Source(path) for path in plan.paths]
        self._rejected: list[Rejected] = []
        self.size = sum(source.size for source in self._sources)
        self.counts: Counter[str] = Counter()

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return sum(source.position for source in self._sources)

    def chunks(self, done: int) -> Iterator[tuple[int, list[Numbered]]]:
        """Give the rows after those done in chunks, each with the number of the last row looked at for it.

        Raises
        ------
        SourceError
            If a file cannot be read on.
        ImportFailed
            If more rows are rejected than the plan bears.
        """
        limit = _chunk_rows(self._plan.rate)
        self._rejected = [Rejected(source.path, done) for source in self._sources]
        rows: list[Numbered] = []
        number = first = 0
        for number, (file, line, found) in enumerate(self._lines(), 1):
            if number <= done:
                first = number
                continue
            ready = self._ready(number, (file, line, found))
            if ready is not None:
                rows.append(ready)
            if number - first >= limit:
                yield number, rows
                rows, first = [], number
        yield number, rows

    def flush(self) -> None:
        """Make what was said of rejected rows outlive this process."""
        for rejected in self._rejected:
            rejected.flush()

    def close(self) -> None:
        """Close what was opened for rejected rows."""
        for rejected in self._rejected:
            rejected.close()

    def _lines(self) -> Iterator[tuple[int, int, Found]]:
        return chain.from_iterable(
            ((file, line, found) for line, found in source.rows())
            for file, source in enumerate(self._sources)
        )

    def _ready(self, number: int, at: tuple[int, int, Found]) -> Numbered | None:
        file, line, found = at
        now_ms = time.time_ns() // 1_000_000
        self.counts["rows"] += 1
        try:
            event, raw = self._maker.make(number, found, now_ms)
        except Refusal as refusal:
            self._reject(file, (line, number), refusal)
            return None
        if is_expired(event, now_ms):
            self.counts["expired"] += 1
            return None
        return Numbered(number, event, raw)

    def _reject(self, file: int, place: tuple[int, int], refusal: Refusal) -> None:
        self._rejected[file].add(*place, refusal)
        self.counts["rejected"] += 1
        self.counts[f"rejected.{refusal.reason}"] += 1
        most = self._plan.max_rejected
        if most is not None and self.counts["rejected"] > most:
            raise ImportFailed(f"more than {most} rows rejected, the last one in line {place[0]}: {refusal}")


def _chunk_rows(rate: float) -> int:
    """Return how many rows a chunk has: of a slow import fewer, so that they come steadily."""
    return max(1, min(CHUNK, int(rate / CHUNKS_A_SECOND))) if rate else CHUNK
