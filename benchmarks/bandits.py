"""Bandits in worlds whose truth is known: the engine's policies and public libraries on the same rounds.

Suites: `cold` (50 items that come and go), `delay` (rewards 1,000 decisions late), `flip` (tastes turn over
at half time, the last quarter counts), `movielens` (real users and ratings, nothing learnt before),
`newcomers` (how many new items are shown ten times in 2,000 decisions at 5 % exploration), `workers` (16
learners that publish every 200 rewards beside one that does at once), `speed` (one thread). A policy's score
is its expected reward above chance as a share of the possible, in `movielens` its mean reward. Rivals that
are not installed are skipped and said to be. A file given twice keeps what it holds, seed by seed.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

import bandits
import benchmarks
from benchmarks import _bandit_vw as vw
from benchmarks._bandit_arms import found
from benchmarks._bandit_play import Births, interval, play
from benchmarks._bandit_speed import run_speed
from benchmarks._bandit_suites import Entry, Suite, suites
from benchmarks._run import console, finish

Report = dict[str, Any]
PACKAGES = ("vowpalwabbit", "mabwiser", "river")


@dataclass(frozen=True, slots=True)
class Seeds:
    """How many streams, from which on."""

    first: int
    count: int

    def of(self, entry: Entry) -> range:
        """Return those that an entry plays."""
        return range(self.first, self.first + min(self.count, entry.most_seeds))


def measure(suite: Suite, entry: Entry, seeds: range) -> Report:
    """Play one entry on each seed."""
    return summary([play_one(suite, entry, seed) for seed in seeds])


def play_one(suite: Suite, entry: Entry, seed: int) -> Report:
    """Play one entry on one seed."""
    started = time.process_time()
    trace = play(suite.world(seed, suite.rounds), entry.make(), suite.rounds, suite.delay, seed)
    start = int(suite.scored_from * suite.rounds)
    return {
        "seed": seed,
        "score": float(trace.got[start:].mean()) if suite.is_absolute else trace.score(start),
        "reward": float(trace.got.mean()),
        "has_exact_propensities": bool(trace.exact.all()),
        "newcomers": len(trace.waits),
        "reached": int((trace.waits <= Births.WITHIN).sum()),
        "seconds": time.process_time() - started,
    }


def summary(plays: list[Report]) -> Report:
    """Return what one entry made of its seeds."""
    scores = [one["score"] for one in plays]
    newcomers = sum(one["newcomers"] for one in plays)
    reached = sum(one["reached"] for one in plays)
    return {
        "score": interval(scores),
        "scores": scores,
        "reward": float(np.mean([one["reward"] for one in plays])),
        "has_exact_propensities": all(one["has_exact_propensities"] for one in plays),
        "newcomers": {"items": newcomers, "reached": reached / newcomers} if newcomers else None,
        "seconds_per_seed": float(np.mean([one["seconds"] for one in plays])),
        "plays": plays,
    }


def run(suite: Suite, seeds: Seeds, known: dict[str, Report]) -> Iterator[Report]:
    """Play everybody installed on the seeds not known already; yield the comparison after each seed."""
    policies, skipped = dict(known), dict[str, str]()
    yield {"policies": policies, "skipped": skipped, **compare(suite, policies)}
    for name, entry in suite.entries.items():
        if entry.package and found(entry.package) is None:
            skipped[name] = f"{entry.package} is not installed: pip install 'headwater[bench]'"
            yield {"policies": policies, "skipped": skipped, **compare(suite, policies)}
            continue
        plays = list(policies[name]["plays"]) if name in policies else []
        for seed in seeds.of(entry)[len(plays) :]:
            plays.append(play_one(suite, entry, seed))
            policies[name] = summary(plays)
            _say(name, policies[name])
            yield {"policies": policies, "skipped": skipped, **compare(suite, policies)}


def compare(suite: Suite, policies: dict[str, Report]) -> Report:
    """Return ours over each policy on the seeds both played, over the best of VW and over the best rival."""
    if suite.ours not in policies:
        return {}
    scores = policies[suite.ours]["scores"]
    over = {name: _over(scores, one["scores"]) for name, one in policies.items() if name != suite.ours}
    rivals = {name: over[name] for name in over if suite.entries[name].package}
    of_vw = {name: over[name] for name in rivals if name.startswith("vw ")}
    return {
        "ours": suite.ours,
        "ours_over": over,
        "vw_settings_played": len([name for name in of_vw if vw.BY_USER not in name]),
        "vw_settings": len(vw.FLAGS),
        **_best("vw", of_vw),
        **_best("rival", rivals),
    }


def _over(ours: list[float], theirs: list[float]) -> float:
    both = min(len(ours), len(theirs))
    mean = float(np.mean(theirs[:both]))
    return float(np.mean(ours[:both])) / mean if mean > 0 else float("inf")


def _best(kind: str, over: dict[str, float]) -> Report:
    """Return the rival we are least above: chosen after the fact, in its favour."""
    name = min(over, key=lambda one: over[one]) if over else None
    return {f"best_{kind}": name, f"ours_over_best_{kind}": over[name] if name else None}


def _say(name: str, one: Report) -> None:
    score = one["score"]
    console.print(f"{name}: {score['mean']:.4f} [{score['low']:.4f}, {score['high']:.4f}]", style="dim")


def table(title: str, report: Report) -> Table:
    """Return everybody, best first."""
    columns = ("policy", "score", "95 % interval", "seeds", "exact propensities", "newcomers", "ours over it")
    out = Table(*columns, title=title, title_justify="left")
    ranked = sorted(report["policies"].items(), key=lambda pair: -pair[1]["score"]["mean"])
    for name, one in ranked:
        score, over = one["score"], report.get("ours_over", {}).get(name)
        reached = f"{one['newcomers']['reached']:.1%}" if one["newcomers"] else ""
        out.add_row(
            name, f"{score['mean']:.4f}", f"{score['low']:.4f} .. {score['high']:.4f}", str(score["seeds"]),
            "yes" if one["has_exact_propensities"] else "no", reached, f"{over:.3f}" if over else "",
        )  # fmt: skip
    for name, why in report["skipped"].items():
        out.add_row(name, "skipped", why)
    return out


def earlier(given: argparse.Namespace, asked: Report) -> dict[str, Report]:
    """Return the policies that a file holds of the same suite, rounds and start.

    Not those played with other versions, of the library or, of our own policies, of our code.
    """
    if given.json is None or not given.json.exists() or given.afresh:
        return {}
    held = json.loads(given.json.read_text())
    if held.get("stream") != asked:
        return {}
    now, then = versions(), held.get("versions", {})
    entries = suites(given.vw)[given.suite].entries
    return {
        name: one
        for name, one in held["policies"].items()
        if name in entries and now[key := entries[name].package or "bandits"] == then.get(key)
    }


@cache
def versions() -> dict[str, str | None]:
    """Return the versions of the libraries, and a hash of our code as its own: as it was at first asking."""
    ours = [path for package in (bandits, benchmarks) for path in Path(package.__path__[0]).rglob("*.py")]
    ours = [path for path in ours if path.parts[-2] != "benchmarks" or path.name.startswith("_bandit")]
    digest = sha256(b"".join(path.read_bytes() for path in sorted(ours))).hexdigest()[:12]
    return {**{package: found(package) for package in PACKAGES}, "bandits": digest}


def options() -> argparse.ArgumentParser:
    """Return the command line of this benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bandits", description=__doc__)
    parser.add_argument("--suite", choices=[*suites(0), "speed"], required=True)
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="streams of each policy")
    parser.add_argument("--seed", type=int, default=0, help="of the first stream")
    parser.add_argument("--rounds", type=int, help="length of a stream; the suite's own if not given")
    parser.add_argument("--vw", type=int, default=4, metavar="N", help="of VW's 18 settings, by merit")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="play these; a file keeps the others")
    parser.add_argument("--afresh", action="store_true", help="play again what the file holds already")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here")
    return parser


def play_suite(given: argparse.Namespace) -> Report:
    """Play a suite and print its table."""
    suite = suites(given.vw)[given.suite]
    suite = replace(suite, rounds=given.rounds or suite.rounds)
    asked = {"suite": given.suite, "seed": given.seed, "rounds": suite.rounds}
    known = earlier(given, asked)
    if given.only:
        kept = {name: one for name, one in suite.entries.items() if name in given.only or name in known}
        suite = replace(suite, entries=kept)
    report: Report = {}
    for report in run(suite, Seeds(given.seed, given.seeds), known):
        # After each seed, not at the end: what took minutes must survive an interruption.
        keep(given, {"stream": asked, **report})
    console.print(table(f"{given.suite}: {suite.rounds:,} rounds, rewards {suite.delay} late", report))
    return {"stream": asked, **report}


def keep(given: argparse.Namespace, report: Report) -> None:
    """Write the report with the versions it was made with."""
    finish(given, {"versions": versions(), **report})


def main() -> None:
    """Run one suite and report."""
    given = options().parse_args()
    versions()
    report = run_speed(given.seed) if given.suite == "speed" else play_suite(given)
    for name in ("ours_over_best_vw", "ours_over_best_rival"):
        console.print(
            f"{name}: {report[name]:.3f}" if report.get(name) else f"{name}: nobody to compare with"
        )
    if report.get("vw_settings_played"):
        played = f"{report['vw_settings_played']} of its {report['vw_settings']} settings"
        console.print(f"the best of VW is the best of those played: {played}, chosen on another stream")
    keep(given, report)


if __name__ == "__main__":
    main()
