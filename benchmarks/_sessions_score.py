"""What a ranked list was worth: measures, segments and their confidence intervals."""

import math
from collections import defaultdict

import numpy as np

from online_models.arrays import IntArray

CUTS = (5, 10, 20)


class Tally:
    """Ranks of the true next items under one model, and what was shown on the way.

    With one true item a prediction, recall at k equals HR at k and average precision the reciprocal rank.
    """

    def __init__(self) -> None:
        self.ranks: list[int] = []
        self.sessions: list[int] = []
        self.segments: list[tuple[str, ...]] = []
        self.shown: dict[int, int] = defaultdict(int)
        self.alike: list[float] = []

    def add(self, rows: IntArray, item: int, session: int, segments: tuple[str, ...]) -> None:
        """Judge one list (best first) against the item clicked."""
        found = np.flatnonzero(rows[: CUTS[-1]] == item)
        self.ranks.append(int(found[0]) + 1 if found.size else 0)
        self.sessions.append(session)
        self.segments.append(segments)
        for row in rows[: CUTS[-1]].tolist():
            self.shown[row] += 1

    def summary(self, popularity: IntArray) -> dict[str, object]:
        """All measures as JSON-ready values; `popularity` counts the clicks of each item, shape (N,)."""
        ranks = np.array(self.ranks)
        report: dict[str, object] = {"n": len(ranks), **_measures(ranks), **self._intervals(ranks)}
        report["coverage20"] = len(self.shown) / max(1, int(np.count_nonzero(popularity)))
        report["popularity_bias20"] = self._popularity_bias(popularity)
        report["diversity20"] = self._diversity()
        names = sorted({name for segments in self.segments for name in segments})
        report["segments"] = {name: self._segment(name, ranks) for name in names}
        return report

    def _segment(self, name: str, ranks: IntArray) -> dict[str, float]:
        chosen = np.array([name in segments for segments in self.segments])
        hit = _measures(ranks[chosen])
        return {"n": int(chosen.sum()), "hr20": hit["hr20"], "mrr20": hit["mrr20"]}

    def _intervals(self, ranks: IntArray) -> dict[str, float]:
        """Half widths of 95% intervals, sessions being the independent draws."""
        _, place = np.unique(np.array(self.sessions), return_inverse=True)
        hits = ((ranks > 0) & (ranks <= 20)).astype(float)
        gains = np.where(hits > 0, 1.0 / np.maximum(ranks, 1), 0.0)
        return {"hr20_ci95": _half_width(hits, place), "mrr20_ci95": _half_width(gains, place)}

    def _popularity_bias(self, popularity: IntArray) -> float:
        """Mean percentile of popularity of the items shown; 0.5 would be a random item."""
        order = np.argsort(np.argsort(popularity)) / max(1, len(popularity) - 1)
        total = sum(self.shown.values())
        return float(sum(order[row] * count for row, count in self.shown.items()) / max(1, total))

    def _diversity(self) -> float:
        """Effective number of items shown (exponential of the entropy) over the number shown at all."""
        counts = np.array(list(self.shown.values()), float)
        share = counts / max(1.0, counts.sum())
        return float(np.exp(-(share * np.log(share)).sum()) / max(1, len(counts)))


def _measures(ranks: IntArray) -> dict[str, float]:
    report: dict[str, float] = {}
    n = max(1, len(ranks))
    for cut in CUTS:
        hit = ranks[(ranks > 0) & (ranks <= cut)]
        report[f"hr{cut}"] = len(hit) / n
        report[f"mrr{cut}"] = float((1.0 / hit).sum()) / n
        report[f"ndcg{cut}"] = float((1.0 / np.log2(hit + 1.0)).sum()) / n
        report[f"map{cut}"] = report[f"mrr{cut}"]
        report[f"recall{cut}"] = report[f"hr{cut}"]
    return report


def _half_width(values: np.ndarray, place: IntArray) -> float:
    """Of a ratio of sums over clusters (linearised)."""
    if len(values) == 0:
        return math.nan
    count = np.bincount(place)
    rest = np.bincount(place, values) - values.mean() * count
    return float(1.96 * math.sqrt((rest**2).sum()) / len(values))
