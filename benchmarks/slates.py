"""Whether slates come up as often as their propensities say: a million draws of each case one can count.

Each case has few enough slates to list them all. Each law of exploration draws its share of the million, one
slate after the other by `draw_slate`, as servers do; the counts are compared with the products of
propensities by chi-square, and, to show that the comparison could fail, with those of a law that explores a
twentieth more. What `draw_many` draws with the same seeds must be the same slates.
"""

import argparse
import json
import time
from collections import Counter
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from scipy import stats

from bandits.exploration import Exploration
from bandits.many import draw_many
from bandits.slates import CategoryCap, Diversity, SlateProblem, draw_slate, is_race, slate_propensities

SCORES = np.array([0.3, 0.0, 0.9, -0.4, 0.2])
CASES = {
    "all eligible": SlateProblem(SCORES, 3),
    "weighted exploration": SlateProblem(SCORES, 3, explore_weights=np.array([0.0, 5.0, 1.0, 2.0, 2.0])),
    "one of a category": SlateProblem(SCORES, 3, rule=CategoryCap(np.array([0, 0, 1, 1, -1]), 1)),
    "unlike those placed": SlateProblem(
        SCORES, 3, diversity=Diversity(np.array([7, 7, 9, 9, 2**63], np.uint64), 0.8)
    ),
}
LAWS = {
    "epsilon": Exploration(scheme="epsilon", rate=0.3),
    "epsilon, floor": Exploration(scheme="epsilon", rate=0.1, floor=0.03),
    "softmax": Exploration(scheme="softmax", rate=0.1, temperature=0.5),
    "softmax, floor": Exploration(scheme="softmax", rate=0.2, temperature=0.7, floor=0.03),
    "squarecb": Exploration(scheme="squarecb", rate=0.1, gamma=30.0),
    "epsilon, single slot": Exploration(scheme="epsilon", rate=0.3, mode="single_slot"),
    "softmax, single slot": Exploration(scheme="softmax", rate=0.4, temperature=0.7, mode="single_slot"),
    "squarecb, single slot": Exploration(scheme="squarecb", rate=0.2, gamma=30.0, mode="single_slot"),
}
RARE = 5.0
"""Slates expected less often than this are counted together."""


class Counted(Struct):
    """What became of one law's draws of one case.

    Attributes
    ----------
    case, law
        Which.
    slates
        Drawn.
    p_value, p_value_of_other
        Of the chi-square against the law itself, and against one that explores a twentieth more.
    sum_of_propensities
        Over all slates: 1 but for rounding.
    impossible
        Slates drawn whose propensity is 0.
    others
        Slates that `draw_many` draws otherwise.
    us, us_of_many
        A slate, microseconds of this thread's processor time: one after the other, and by `draw_many`, which
        has whole arrays for some laws only (else None).
    """

    case: str
    law: str
    slates: int
    p_value: float
    p_value_of_other: float
    sum_of_propensities: float
    impossible: int
    others: int
    us: float
    us_of_many: float | None


def count(case: str, law: str, slates: int, seed: int) -> Counted:
    """Draw one case under one law, and compare."""
    problem, exploration = CASES[case], LAWS[law]
    seeds = range(seed, seed + 7919 * slates, 7919)
    began = time.thread_time_ns()
    drawn = np.array([draw_slate(problem, exploration, one).indices for one in seeds])
    us = (time.thread_time_ns() - began) / slates / 1e3
    began = time.thread_time_ns()
    is_at_once = is_race(problem, exploration, problem.size)
    together = draw_many(problem, exploration, seeds) if is_at_once else drawn
    us_of_many = (time.thread_time_ns() - began) / slates / 1e3 if is_at_once else None
    seen = Counter(map(tuple, drawn.tolist()))
    wished = propensities(problem, exploration)
    other = propensities(problem, replace(exploration, rate=1.05 * exploration.rate))
    return Counted(
        case, law, slates, p_value(seen, wished, slates), p_value(seen, other, slates), sum(wished.values()),
        sum(times for slate, times in seen.items() if not wished.get(slate)),
        int((drawn != together).any(axis=1).sum()), us, us_of_many,
    )  # fmt: skip


def propensities(problem: SlateProblem, exploration: Exploration) -> dict[tuple[int, ...], float]:
    """Return the probability of every slate there can be."""
    every = permutations(range(len(problem.scores)), problem.size)
    return {
        slate: float(np.prod(slate_propensities(problem, np.array(slate), exploration))) for slate in every
    }


def p_value(seen: Counter[tuple[int, ...]], wished: dict[tuple[int, ...], float], slates: int) -> float:
    """Return the chance of counts as far off as these, where the wished probabilities are true."""
    common = [slate for slate, p in wished.items() if p * slates >= RARE]
    counts = [seen[slate] for slate in common]
    expected = [wished[slate] * slates for slate in common]
    rest = slates - sum(expected)
    if rest >= RARE:
        counts, expected = [*counts, slates - sum(counts)], [*expected, rest]
    scaled = np.array(expected) * (sum(counts) / sum(expected))
    return float(stats.chisquare(counts, scaled).pvalue) if len(counts) > 1 else 1.0


def options() -> argparse.ArgumentParser:
    """Return the command line of this benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slates", description=__doc__)
    parser.add_argument("--slates", type=int, default=1_000_000, help="drawn of each case, over all laws")
    parser.add_argument("--seed", type=int, default=1, help="the first slate's")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here")
    return parser


def main() -> None:
    """Count every case under every law, and report."""
    given, rows = options().parse_args(), list[Counted]()
    each = -(-given.slates // len(LAWS))
    heads = ("slates", 9), ("p", 9), ("p, rate off", 13), ("sum - 1", 10), ("us", 7), ("at once", 9)
    print(f"{'case':<22}{'law':<24}" + "".join(f"{name:>{width}}" for name, width in heads))
    for case in CASES:
        for law in LAWS:
            row = count(case, law, each, given.seed)
            rows.append(row)
            off = row.sum_of_propensities - 1.0
            at_once = "" if row.us_of_many is None else f"{row.us_of_many:.1f}"
            print(f"{case:<22}{law:<24}{each:>9}{row.p_value:>9.4f}{row.p_value_of_other:>13.1e}"
                  f"{off:>10.0e}{row.us:>7.1f}{at_once:>9}", flush=True)  # fmt: skip
    least = min(row.p_value for row in rows)
    impossible = sum(row.impossible for row in rows)
    others = sum(row.others for row in rows)
    print(f"least p {least:.4f} of {len(rows)}; slates that could not be: {impossible}")
    print(f"slates that whole arrays draw otherwise: {others}")
    if given.json is not None:
        report = {
            "least_p": least,
            "impossible": impossible,
            "others": others,
            "rows": msgspec.to_builtins(rows),
        }
        given.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
