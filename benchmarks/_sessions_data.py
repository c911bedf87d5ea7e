"""Click streams read from a folder, as arrays in the order a model meets them."""

import gzip
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from online_models.arrays import IntArray


class Click(NamedTuple):
    """One click, as a model learns it."""

    session: int
    item: int
    at_ms: int


class Query(NamedTuple):
    """A session that asks for its next items; `items` are its clicks so far, oldest first."""

    session: int
    items: IntArray
    now_ms: int
    limit: int


@dataclass(frozen=True, slots=True)
class Clicks:
    """Clicks in order; n rows, items numbered 0..N-1 in order of appearance."""

    sessions: IntArray
    items: IntArray
    at_ms: IntArray

    def __len__(self) -> int:
        return len(self.items)

    def part(self, chosen: slice | IntArray) -> "Clicks":
        """Take some of the clicks, in the order given."""
        return Clicks(self.sessions[chosen], self.items[chosen], self.at_ms[chosen])


def read(folder: Path, name: str) -> pd.DataFrame:
    """Rows of `name` with columns session, item, at; the file's order is kept."""
    with gzip.open(folder / f"{name}.tsv.gz", "rt", encoding="utf-8") as file:
        frame = pd.read_csv(file, sep="\t", header=None, usecols=[0, 2, 3], dtype=str)
    frame.columns = pd.Index(["session", "item", "at"])
    return frame.assign(at=frame["at"].astype(float))


def number(frames: list[pd.DataFrame]) -> list[Clicks]:
    """Give sessions and items numbers over all frames; times become milliseconds."""
    whole = pd.concat(frames, ignore_index=True)
    sessions, _ = pd.factorize(whole["session"])
    items, _ = pd.factorize(whole["item"])
    every = Clicks(
        sessions.astype(np.int64), items.astype(np.int64), (whole["at"].to_numpy() * 1000).astype(np.int64)
    )
    ends = np.cumsum([0, *(len(frame) for frame in frames)]).tolist()
    return [every.part(slice(begin, end)) for begin, end in itertools.pairwise(ends)]


def by_session(clicks: Clicks) -> Clicks:
    """Whole sessions one after another, in the order in which they end (time order inside)."""
    order = np.lexsort((np.arange(len(clicks)), clicks.at_ms, clicks.sessions))
    last = np.zeros(int(clicks.sessions.max(initial=0)) + 1, np.int64)
    np.maximum.at(last, clicks.sessions, clicks.at_ms)
    ordered = clicks.part(order)
    return ordered.part(np.lexsort((np.arange(len(order)), ordered.sessions, last[ordered.sessions])))


def in_time(clicks: Clicks) -> Clicks:
    """All clicks in order of time."""
    return clicks.part(np.lexsort((np.arange(len(clicks)), clicks.at_ms)))


def split_parts(folder: Path) -> tuple[Clicks, Clicks]:
    """Training clicks in time order and test clicks session by session."""
    train, test = number([read(folder, "train"), read(folder, "test")])
    return in_time(train), by_session(test)


def whole_stream(folder: Path) -> Clicks:
    """Every click of a folder in time order, whichever way it is split."""
    names = ["stream"] if (folder / "stream.tsv.gz").exists() else ["train", "test"]
    if not (folder / f"{names[0]}.tsv.gz").exists():
        names = ["events"]
    parts = number([read(folder, name) for name in names])
    joined = Clicks(
        np.concatenate([p.sessions for p in parts]),
        np.concatenate([p.items for p in parts]),
        np.concatenate([p.at_ms for p in parts]),
    )
    return in_time(joined)


def periods(folder: Path, clicks: Clicks) -> IntArray:
    """Period of each click of a stream, by the counts of `period.tsv.gz`; shape (n,)."""
    with gzip.open(folder / "period.tsv.gz", "rt", encoding="utf-8") as file:
        counts = pd.read_csv(file, sep="\t", header=None)[1].to_numpy(np.int64)
    if counts.sum() != len(clicks):
        msg = f"period.tsv.gz counts {counts.sum()} clicks, wanted {len(clicks)}"
        raise ValueError(msg)
    return np.repeat(np.arange(len(counts)), counts)
