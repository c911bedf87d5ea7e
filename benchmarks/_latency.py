"""Quantiles: of measured values, and of Prometheus histograms between two looks."""

from collections.abc import Mapping, Sequence

import numpy as np

QUANTILES = (50.0, 90.0, 99.0, 99.9)


def quantiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Return p50, p90, p99 and p99.9 in ms; an empty mapping where nothing was measured."""
    if not len(seconds):
        return {}
    found = np.percentile(np.asarray(seconds) * 1000, QUANTILES)
    return {f"p{q:g}_ms": round(float(value), 3) for q, value in zip(QUANTILES, found, strict=True)}


def bucket_quantile(
    before: Mapping[str, float], after: Mapping[str, float], name: str, share: float
) -> float:
    """Return a quantile of what a histogram took in between two looks, linear inside its buckets."""
    start = f'{name}_bucket{{le="'
    grown = {
        float(key[len(start) :].rstrip('"}')): value - before.get(key, 0.0)
        for key, value in after.items()
        if key.startswith(start)
    }
    total, below, low = max(grown.values(), default=0.0), 0.0, 0.0
    if not total:
        return float("nan")
    for high, count in sorted(grown.items()):
        if count >= share * total:
            if high == float("inf") or count == below:
                return low
            return low + (high - low) * (share * total - below) / (count - below)
        below, low = count, high
    return low
