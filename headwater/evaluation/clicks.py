"""Click logs read from a folder, as arrays in the order a model meets them."""

import gzip
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from online_models.arrays import IntArray

DAY_MS = 86_400_000
UNIX_MS = 100_000_000_000
"""Times below are no unix time: where only the order is published, a running counter stands for it."""
EQUAL_PARTS = 17
"""Periods where times are a counter: a first one to learn from and sixteen to predict, as in ADER's data."""


class ClickLogError(ValueError):
    """A click log that cannot be used; the message names the file, the line and what is wished."""


class Click(NamedTuple):
    """One click, as a model learns it."""

    session: int
    item: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Clicks:
    """Clicks in order, n of them; sessions and items are numbered from 0 in order of appearance."""

    sessions: IntArray
    items: IntArray
    at_ms: IntArray

    def __len__(self) -> int:
        return len(self.items)

    def part(self, chosen: slice | IntArray) -> "Clicks":
        """Take some of the clicks, in the order given."""
        return Clicks(self.sessions[chosen], self.items[chosen], self.at_ms[chosen])

    def runs(self) -> Iterator[tuple[int, int]]:
        """Give where each run of clicks of one session begins and ends."""
        return pairwise(np.flatnonzero(np.diff(self.sessions, prepend=-1, append=-1)).tolist())

    def __iter__(self) -> Iterator[Click]:
        columns = (self.sessions.tolist(), self.items.tolist(), self.at_ms.tolist())
        return map(Click, *columns)


@dataclass(frozen=True, slots=True)
class Log:
    """The click log of one data set.

    Attributes
    ----------
    name
        Of the data.
    train
        Clicks to learn from first, in order of time; none where everything is one stream.
    rest
        Clicks that follow: session by session behind a train part, else in order of time.
    categories
        (N,) category of each item, -1 where unknown; empty where the data has none.
    """

    name: str
    train: Clicks
    rest: Clicks
    categories: IntArray

    @property
    def popularity(self) -> IntArray:
        """Clicks of each item in all data, shape (N,)."""
        return np.bincount(np.concatenate([self.train.items, self.rest.items]))


def no_clicks() -> Clicks:
    """Return an empty log."""
    return Clicks(*(np.zeros(0, np.int64),) * 3)


def joined(parts: Sequence[Clicks]) -> Clicks:
    """Put logs behind one another."""
    columns = zip(*((part.sessions, part.items, part.at_ms) for part in parts), strict=True)
    return Clicks(*map(np.concatenate, columns))


def in_time(clicks: Clicks) -> Clicks:
    """Return all clicks in order of time; clicks of one moment keep their order."""
    return clicks.part(np.argsort(clicks.at_ms, kind="stable"))


def by_session(clicks: Clicks) -> Clicks:
    """Return whole sessions one after another, in the order in which they end (time order inside)."""
    found, place = np.unique(clicks.sessions, return_inverse=True)
    last = np.full(len(found), np.iinfo(np.int64).min)
    np.maximum.at(last, place, clicks.at_ms)
    order = np.lexsort((np.arange(len(clicks)), clicks.at_ms, clicks.sessions, last[place]))
    return clicks.part(order)


def read_split(folder: Path) -> Log:
    """Read `train.tsv.gz` and `test.tsv.gz`; sessions that begin in a stream's last period are its test."""
    if not (folder / "train.tsv.gz").exists():
        return cut_last(read_stream(folder), folder)
    numbers = _Numbers()
    train, test = (numbers.read(folder / f"{name}.tsv.gz") for name in ("train", "test"))
    return Log(folder.name, in_time(train), by_session(test), numbers.categories(folder))


def cut_last(stream: Log, folder: Path) -> Log:
    """Return a stream with the sessions that begin in its last period cut off."""
    period = read_periods(folder, stream.rest)
    begun = np.full(int(stream.rest.sessions.max(initial=0)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(begun, stream.rest.sessions, period)
    late = begun[stream.rest.sessions] == period.max(initial=0)
    rest = by_session(stream.rest.part(np.flatnonzero(late)))
    return Log(stream.name, stream.rest.part(np.flatnonzero(~late)), rest, stream.categories)


def read_stream(folder: Path) -> Log:
    """Read every click of a folder in order of time, whichever way it is split."""
    numbers = _Numbers()
    names = next((names for names in _STREAMS if (folder / f"{names[0]}.tsv.gz").exists()), _STREAMS[0])
    whole = joined([numbers.read(folder / f"{name}.tsv.gz") for name in names])
    return Log(folder.name, no_clicks(), in_time(whole), numbers.categories(folder))


_STREAMS = (("stream",), ("train", "test"), ("events",))


def read_periods(folder: Path, clicks: Clicks) -> IntArray:
    """Period of each click of a stream, shape (n,): by `period.tsv.gz`, by days, or in equal parts.

    Raises
    ------
    ClickLogError
        If `period.tsv.gz` counts other clicks.
    """
    path = folder / "period.tsv.gz"
    if not path.exists():
        return periods_of(clicks)
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            counts = np.array([int(line.split("\t")[1]) for line in file], np.int64)
    except (ValueError, IndexError, OSError) as error:
        raise ClickLogError(f"{path}: {error}; wished: lines of period, clicks in it, ...") from None
    if counts.sum() != len(clicks):
        raise ClickLogError(f"{path} counts {counts.sum()} clicks; wished: {len(clicks)}, as in the stream")
    return np.repeat(np.arange(len(counts)), counts)


def periods_of(clicks: Clicks) -> IntArray:
    """Cut a stream into days (UTC) by unix times, else into `EQUAL_PARTS` of as many clicks each."""
    days = clicks.at_ms // DAY_MS
    if len(clicks) and clicks.at_ms[0] >= UNIX_MS and days[0] < days[-1]:
        return np.unique(days, return_inverse=True)[1].astype(np.int64)
    return np.arange(len(clicks)) * EQUAL_PARTS // max(1, len(clicks))


class _Numbers:
    """Numbers sessions and items over all files of a folder."""

    def __init__(self) -> None:
        self._sessions: dict[str, int] = {}
        self._items: dict[str, int] = {}

    def read(self, path: Path) -> Clicks:
        if not path.exists():
            raise ClickLogError(f"{path} is not there; wished: gzip TSV of session, user, item, timestamp")
        try:
            with gzip.open(path, "rt", encoding="utf-8") as file:
                return self._number(path, file)
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise ClickLogError(f"{path} cannot be read as gzip TSV: {error}") from None

    def _number(self, path: Path, lines: Iterable[str]) -> Clicks:
        sessions, items, at_ms = [], [], []
        number, held = self._sessions, self._items
        for line_number, line in enumerate(lines, start=1):
            try:
                session, _, item, at = line.rstrip("\n").split("\t")[:4]
                at_ms.append(round(float(at) * 1000))
            except (ValueError, OverflowError):
                wish = "wished: session, user, item, timestamp (seconds), separated by tabs"
                raise ClickLogError(f"{path} line {line_number} is {line[:80]!r}; {wish}") from None
            sessions.append(number.setdefault(session, len(number)))
            items.append(held.setdefault(item, len(held)))
        return Clicks(*(np.array(column, np.int64) for column in (sessions, items, at_ms)))

    def categories(self, folder: Path) -> IntArray:
        """Category of each item by `items.tsv.gz` (item, category); empty where there is no such file."""
        path = folder / "items.tsv.gz"
        if not path.exists():
            return np.zeros(0, np.int64)
        codes, out = dict[str, int](), np.full(len(self._items), -1, np.int64)
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                item, _, category = line.rstrip("\n").partition("\t")
                if item in self._items and category:
                    out[self._items[item]] = codes.setdefault(category, len(codes))
        return out
