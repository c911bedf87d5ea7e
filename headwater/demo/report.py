"""Every figure of a demo run, as JSON and as a table."""

from typing import Any

import numpy as np
from rich.table import Table

from headwater.demo.counts import Folded
from headwater.demo.freshness import Probes
from headwater.demo.judge import Judge, Tally
from headwater.demo.traffic import Sent


def demo_report(judge: Judge, sent: Sent, probes: Probes, folded: Folded, seconds: float) -> dict[str, Any]:
    """Return the report of a run."""
    events = sent.impressions + sent.clicks + sent.feedback
    return {
        "events": events,
        "interactions": sent.feedback,
        "events_per_s": round(events / seconds, 1),
        "seconds": round(seconds, 1),
        "hit_rate_10": _rounded(judge.all.rate()),
        "popularity_hit_rate_10": _rounded(judge.all.popularity_rate()),
        "popularity_half_life_events": _half_life(judge.popularity.best()[1]),
        "random_hit_rate_10": _rounded(judge.all.chance_rate()),
        "over_popularity": _rounded(judge.all.rate() / max(judge.all.popularity_rate(), 1e-9)),
        "hit_rate_10_new_users": _rounded(judge.new.rate()),
        "popularity_hit_rate_10_new_users": _rounded(judge.new.popularity_rate()),
        "requests_new_users": judge.new.requests,
        "hit_rate_10_returning_users": _rounded(judge.returning.rate()),
        "popularity_hit_rate_10_returning_users": _rounded(judge.returning.popularity_rate()),
        "requests_returning_users": judge.returning.requests,
        "exploration_share": _rounded(judge.explored / max(1, judge.slots)),
        "rungs": judge.rungs,
        "freshness_ms": _percentiles(probes.waits_ms)
        | {"n": len(probes.waits_ms), "missed": probes.missed, "probes": probes.published},
        "latency_ms": _percentiles(sent.latencies_ms) | {"n": len(sent.latencies_ms)},
        "own_event_wait_ms": _percentiles(sent.waited_ms) | {"stale_answers": sent.stale},
        "request_failures": sent.failures,
        "decisions": sent.impressions,
        "outcomes": folded.closed,
        "outcomes_learnt": folded.learnt,
        "clicks": sent.clicks,
        "deadletters": folded.refused,
        "folded": {kind: folded.subjects.get(kind, 0) for kind in ("impressions", "clicks", "feedback")},
        "counters": folded.subjects,
    }


def _half_life(events: float) -> float | str:
    return events if np.isfinite(events) else "for ever"


def _rounded(value: float) -> float:
    return round(value, 5)


def _percentiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {"p50": 0.0, "p90": 0.0, "p99": 0.0}
    return {f"p{q}": round(float(np.percentile(values, q)), 2) for q in (50, 90, 99)}


def score_rows(judge: Judge) -> list[tuple[str, Tally]]:
    """Return the groups a run is judged by, with their tallies."""
    return [
        ("all requests", judge.all),
        ("first session of a user", judge.new),
        ("returning users", judge.returning),
    ]


def summary_table(report: dict[str, Any]) -> Table:
    """Return the summary a run ends with."""
    table = Table(title="Headwater demo", title_justify="left", show_header=False, min_width=60)
    rows = [
        ("interactions, events published", f"{report['interactions']:,}, {report['events']:,}"),
        ("events a second", f"{report['events_per_s']:,}"),
        ("hit rate@10, engine", f"{report['hit_rate_10']:.4f}"),
        ("hit rate@10, popularity (best half-life)", f"{report['popularity_hit_rate_10']:.4f}"),
        ("hit rate@10, random", f"{report['random_hit_rate_10']:.4f}"),
        ("engine over popularity", f"{report['over_popularity']:.2f} x"),
        ("first sessions: engine, popularity", _pair(report, "new")),
        ("returning users: engine, popularity", _pair(report, "returning")),
        ("share of slots explored", f"{100 * report['exploration_share']:.1f} %"),
        ("freshness p50, p99", _times(report["freshness_ms"])),
        ("latency p50, p99", _times(report["latency_ms"])),
        ("wait for own last event p50, p99", _times(report["own_event_wait_ms"])),
        ("decisions shown, outcomes", f"{report['decisions']:,}, {report['outcomes']:,}"),
        ("dead letters", f"{report['deadletters']:,}"),
    ]
    for name, value in rows:
        table.add_row(name, value)
    return table


def _pair(report: dict[str, Any], group: str) -> str:
    name = f"hit_rate_10_{group}_users"
    return f"{report[name]:.4f}, {report['popularity_' + name]:.4f}"


def _times(values: dict[str, float]) -> str:
    return f"{values['p50']:.1f} ms, {values['p99']:.1f} ms"
