"""Looking at a running test: false alarms and power; and what gates keep back where logs cannot tell."""

from typing import Any

import numpy as np

from bandits.arrays import BoolArray, FloatArray
from bandits.ope import Evaluation, Rounds
from bandits.ope.estimators import FORMULAS
from bandits.ope.sequences import BernsteinSequence, delayed, mixture_p_value, robbins

LEVEL = 0.95
BASE, BETTER = 0.05, 0.06
LOOKS = 200
UNSHRUNK = ("ips", "snips", "dr", "sndr")
Row = dict[str, Any]


def peeking(runs: int, per_arm: int, seed: int) -> list[Row]:
    """Return a row for each kind of interval: how often it ends an A/A run, and one of 5 against 6 %."""
    alarms, found = _ends((BASE, BASE), runs, per_arm, seed), _ends((BASE, BETTER), runs, per_arm, seed + 1)
    return [
        {"interval": name, "false_alarms": float(alarms[name].mean()), "power": float(found[name].mean())}
        for name in alarms
    ]


def _ends(rates: tuple[float, float], runs: int, per_arm: int, seed: int) -> dict[str, BoolArray]:
    z, error, n = _looks(rates, runs, per_arm, seed)
    effect = BETTER - BASE
    p_values = np.vectorize(mixture_p_value)(z * error, error, effect)
    return {
        "normal, one look at the end": np.abs(z[:, -1]) > 1.959964,
        "normal, every look": (np.abs(z) > 1.959964).any(axis=1),
        "mSPRT": (p_values < 1 - LEVEL).any(axis=1),
        "asymptotic": (np.abs(z) > [robbins(k, LEVEL, 0.75 * per_arm) for k in n]).any(axis=1),
        "asymptotic, first look at 40 %": (np.abs(z) > [delayed(k, LEVEL, 0.4 * per_arm) for k in n]).any(
            axis=1
        ),
    }


def _looks(
    rates: tuple[float, float], runs: int, per_arm: int, seed: int
) -> tuple[FloatArray, FloatArray, list[int]]:
    rng, step = np.random.default_rng(seed), per_arm // LOOKS
    n = [step * look for look in range(1, LOOKS + 1)]
    one, other = (rng.binomial(step, rate, (runs, LOOKS)).cumsum(axis=1) / n for rate in rates)
    error = np.sqrt((one * (1 - one) + other * (1 - other)) / n)
    return (other - one) / np.maximum(error, 1e-12), error, n


def bernstein(runs: int, per_arm: int, seed: int) -> Row:
    """Return how often the empirical-Bernstein sequence of a difference leaves 0."""
    ends = {}
    for name, rates in (("false_alarms", (BASE, BASE)), ("power", (BASE, BETTER))):
        rng, ended = np.random.default_rng((seed, 5)), 0
        for _ in range(runs):
            one, other = ((rng.random(per_arm) < rate).astype(np.float64) for rate in rates)
            ended += _leaves((other - one + 1.0) / 2.0, per_arm // LOOKS)
        ends[name] = ended / runs
    return {"interval": f"empirical Bernstein ({runs} runs)", **ends}


def _leaves(values: FloatArray, step: int) -> bool:
    """Return whether the sequence of pairs' differences, brought into [0, 1], leaves one half at any look."""
    sequence = BernsteinSequence(LEVEL)
    for at in range(0, len(values), step):
        sequence.add(values[at : at + step])
        low, high = sequence.interval()
        if not low <= 0.5 <= high:
            return True
    return False


def low_overlap(logs: int, seed: int) -> Row:
    """Return what the gates show of synthetic logs whose logging and target policies hardly meet."""
    shown = wrong = withheld = withheld_wrong = 0
    for number in range(logs):
        evaluation = Evaluation()
        evaluation.add(_log(np.random.default_rng((seed, number, 11))))
        report = evaluation.report()
        for name, one in evaluation.estimates().items():
            if name in report.estimates:
                shown += 1
                wrong += one.value < 0
            else:
                withheld += 1
                withheld_wrong += one.value < 0
    return {
        "logs": logs,
        "estimators": len(FORMULAS),
        "shown": shown,
        "shown_of_wrong_sign": wrong,
        "withheld": withheld,
        "withheld_of_wrong_sign": withheld_wrong,
    }


def _log(rng: np.random.Generator, n: int = 3000) -> Rounds:
    rewards = rng.uniform(0.05, 0.6, (10, 5))
    model = np.clip(rewards + 0.1 + rng.normal(0, 0.05, (10, 5)), 0, 1)
    logging, target = (_softmax(rng.normal(0, 2.5, (10, 5))) for _ in range(2))
    x = rng.integers(0, 10, n)
    a = (rng.random((n, 1)) > logging[x].cumsum(axis=1)).sum(axis=1).clip(max=4)
    earned = (rng.random(n) < rewards[x, a]).astype(np.float64)
    return Rounds(earned, logging[x, a], target[x, a], model[x, a], (target * model).sum(axis=1)[x])


def _softmax(logits: FloatArray) -> FloatArray:
    weights = np.exp(logits)
    out: FloatArray = weights / weights.sum(axis=1, keepdims=True)
    return out
