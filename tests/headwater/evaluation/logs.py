"""Small click logs, in memory and in folders."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from headwater.evaluation.clicks import Clicks
from online_models.arrays import IntArray

Row = tuple[str, str, float]
"""Session, item, seconds."""


def write(folder: Path, name: str, rows: Sequence[Row]) -> None:
    """Write a log as a gzip TSV."""
    with gzip.open(folder / f"{name}.tsv.gz", "wt", encoding="utf-8") as file:
        file.writelines(f"{session}\t\t{item}\t{at}\n" for session, item, at in rows)


def clicks_of(rows: Sequence[tuple[int, int, int]]) -> Clicks:
    """Return clicks of (session, item, ms)."""
    columns = np.array(rows, np.int64).reshape(-1, 3)
    return Clicks(columns[:, 0], columns[:, 1], columns[:, 2])


def random_clicks(seed: int, clicks: int = 600, sessions: int = 80, items: int = 30) -> Clicks:
    """Return clicks of many sessions at once, in order of time; items follow one another by a rule."""
    rng = np.random.default_rng(seed)
    whose = np.sort(rng.integers(0, sessions, clicks) * 5 + rng.integers(0, 40, clicks)) // 5 % sessions
    at: dict[int, int] = {}
    chosen = []
    for session in whose.tolist():
        follows = (at[session] * 7 + 3) % items if session in at else int(rng.integers(items))
        at[session] = follows if rng.random() < 0.7 else int(rng.integers(items))
        chosen.append(at[session])
    return Clicks(whose, np.array(chosen, np.int64), np.arange(clicks) * 1000)


def array(*values: int) -> IntArray:
    """Return whole numbers as an array."""
    return np.array(values, np.int64)
