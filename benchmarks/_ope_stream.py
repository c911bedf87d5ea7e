"""Off-policy evaluation of a log too long to hold: chunks are made, taken in and dropped."""

import resource
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np

from bandits.ope import Evaluation, Rounds

CHUNK = 65_536
WARM = 4 * CHUNK


def synthetic(rows: int, seed: int) -> Iterator[Rounds]:
    """Yield chunks of a log of clicks at about 5 %, with weights up to two and a model a little off."""
    rng = np.random.default_rng(seed)
    for start in range(0, rows, CHUNK):
        n = min(CHUNK, rows - start)
        logged = rng.uniform(0.05, 0.5, n)
        target = np.minimum(1.0, logged * rng.uniform(0.0, 2.0, n))
        chance = rng.uniform(0.0, 0.1, n)
        rewards = (rng.random(n) < chance).astype(np.float64)
        yield Rounds(rewards, logged, target, 0.8 * chance + 0.01, chance)


def measure(rows: int, seed: int, replicates: int = 0) -> dict[str, float]:
    """Return rows a second, the memory that it took and where estimates ended.

    Time is that of the evaluation alone: checking a chunk and taking it in, not making it. Memory is the
    highest of all allocations traced, the chunk at hand among them, in a second and shorter pass, since
    tracing costs time; `peak_growth_mb` is by how much four times as many rows raise it.
    """
    evaluation, spent = Evaluation(replicates=replicates), 0.0
    for rounds in synthetic(rows, seed):
        started = time.process_time()
        evaluation.add(
            Rounds(rounds.rewards, rounds.logged, rounds.target, rounds.predicted, rounds.baseline)
        )
        spent += time.process_time() - started
    started = time.process_time()
    report = evaluation.report()
    spent += time.process_time() - started
    peaks = [traced_peak_mb(times * min(WARM, rows), seed, replicates) for times in (1, 4)]
    return {
        "rows": report.diagnostics.n,
        "rows_per_s": rows / spent,
        "seconds": spent,
        "peak_mb": max(peaks),
        "peak_growth_mb": peaks[1] - peaks[0],
        "process_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
        "dr": report.estimates["dr"].value,
    }


def traced_peak_mb(rows: int, seed: int, replicates: int) -> float:
    """Return the most that evaluating so many rows had allocated at a time."""
    evaluation: Any = Evaluation(replicates=replicates)
    tracemalloc.start()
    for rounds in synthetic(rows, seed):
        evaluation.add(rounds)
    evaluation.report()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 1e6
