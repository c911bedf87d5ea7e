"""A trial as figures: all measures with intervals, by segment, what was shown, what it cost."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.evaluation.diversity import Unlikeness
from headwater.evaluation.measures import NAMES, coverage, half_widths, popularity_bias, table
from headwater.evaluation.trial import Judged, Trial
from online_models.arrays import FloatArray, IntArray

COLD = 10
"""An item clicked less often before is counted as a cold one."""
INTERVALS = "95 %, linearised over sessions as clusters"
_HR20, _MRR20 = NAMES.index("hr20"), NAMES.index("mrr20")


class Reporter:
    """Makes reports over one data set.

    Parameters
    ----------
    popularity
        Clicks of each item, shape (N,).
    unlikeness
        Judges the diversity of lists.
    parts
        How the parts of time are called: `period` or `bucket`; none where time is not cut.
    """

    def __init__(self, popularity: IntArray, unlikeness: Unlikeness, parts: str = "") -> None:
        self._popularity, self._unlikeness, self._parts = popularity, unlikeness, parts

    def report(self, trial: Trial, *, novel_only: bool = False) -> dict[str, Any]:
        """Return all figures of a trial, those of novel items only apart (or alone)."""
        novel = self.measured(trial.novel)
        report = novel if novel_only else {**self.measured(trial.all), "novel_only": novel}
        return {**report, **trial.costs()}

    def measured(self, judged: Judged) -> dict[str, Any]:
        """Return all figures of the lists judged, JSON-ready; only their number where there are none."""
        if not len(judged):
            return {"n": 0}
        values, sessions = values_of(judged), judged.ints("session")
        report: dict[str, Any] = {"n": len(judged), "sessions": len(np.unique(sessions))}
        report |= _named(values, sessions)
        shown = judged.shown
        report["coverage20"] = coverage(shown, self._popularity)
        report["popularity_bias20"] = popularity_bias(shown, self._popularity)
        report["diversity20"] = self._unlikeness.mean(shown)
        report["diversity_by"] = self._unlikeness.by
        report["intervals"] = INTERVALS
        report["segments"] = {
            name: _brief(values[chosen], sessions[chosen])
            for name, chosen in segments(judged, self._parts).items()
            if chosen.any()
        }
        return self._over_parts(report) if self._parts == "period" else report

    def _over_parts(self, report: dict[str, Any]) -> dict[str, Any]:
        """Make HR and MRR at 20 means over periods, as the continual protocol counts."""
        periods = [part for name, part in report["segments"].items() if name.startswith("period_")]
        for name in ("hr20", "mrr20"):
            report[f"{name}_micro"] = report[name]
            report[name] = float(np.mean([part[name] for part in periods]))
            widths = np.array([part[f"{name}_ci95"] for part in periods])
            report[f"{name}_ci95"] = float(np.sqrt((widths**2).sum()) / len(periods))
        return report


def values_of(judged: Judged) -> FloatArray:
    """Return every measure of every list, shape (n, len(NAMES))."""
    return table(judged.ints("rank"), judged.floats("recall"), judged.floats("precision"))


def segments(judged: Judged, parts: str) -> dict[str, NDArray[np.bool_]]:
    """Return which lists, shape (n,), belong to each segment."""
    length, whole = judged.ints("length"), judged.ints("whole")
    repeat, place = judged.ints("repeat") > 0, np.arange(len(judged))
    cold = judged.ints("known") < COLD
    found = {
        "new_item": ~repeat,
        "repeat": repeat,
        "cold_item": cold,
        "warm_item": ~cold,
        **{f"position_{n}": length == n for n in range(1, 5)},
        "position_5+": length >= 5,
        "session_2-4": whole <= 4,
        "session_5-9": (whole > 4) & (whole <= 9),
        "session_10+": whole > 9,
        "early": place < len(judged) // 2,
        "late": place >= len(judged) // 2,
    }
    part = judged.ints("part")
    return found | {f"{parts}_{n:02d}": part == n for n in np.unique(part).tolist() if parts}


def _named(values: FloatArray, sessions: IntArray) -> dict[str, float]:
    means, widths = values.mean(axis=0).tolist(), half_widths(values, sessions).tolist()
    named = dict(zip(NAMES, means, strict=True))
    return named | {f"{name}_ci95": width for name, width in zip(NAMES, widths, strict=True)}


def _brief(values: FloatArray, sessions: IntArray) -> dict[str, float]:
    chosen = values[:, [_HR20, _MRR20]]
    (hit, gain), (hit_width, gain_width) = chosen.mean(axis=0), half_widths(chosen, sessions)
    return {
        "n": len(values),
        "hr20": float(hit),
        "hr20_ci95": float(hit_width),
        "mrr20": float(gain),
        "mrr20_ci95": float(gain_width),
    }
