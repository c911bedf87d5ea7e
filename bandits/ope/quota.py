"""How many new items will be shown often enough in time, at another exploration rate."""

from dataclasses import dataclass

from scipy.special import gammainc, gammaincc


@dataclass(frozen=True, slots=True)
class QuotaForecast:
    """What becomes of new items within their time.

    Parameters
    ----------
    items
        New items there are.
    impressions_now, impressions
        Each gets within its time, at the rate in force and at the wished one, on average.
    reaching_now, reaching
        Items expected to reach their quota at both.
    """

    items: int
    impressions_now: float
    impressions: float
    reaching_now: float
    reaching: float


def forecast_quota(
    items: int, exploited: tuple[float, float], explored: tuple[float, float], quota: int
) -> QuotaForecast:
    """Return how many new items reach a quota of impressions.

    Parameters
    ----------
    items
        New items there are.
    exploited
        Impressions the scheme gives all of them in their time, at the rate in force and at the wished one.
    explored
        Impressions that exploring gives them, at both.
    quota
        Impressions each is owed, >= 1.

    Notes
    -----
    Exploration is aimed at who is owed (`bandits.budgets`), so its impressions are not spread by chance as
    those of the scheme are. Of the latter an item has N, Poisson: it needs no help with probability
    p0 = P(N >= q), and E[(q - N)+] impressions of help on average. The others are helped as far as the
    explored impressions go.
    """
    if not items:
        return QuotaForecast(0, 0.0, 0.0, 0.0, 0.0)
    shown = [(a + b) / items for a, b in zip(exploited, explored, strict=True)]
    reached = [
        items * _reaching(a / items, b / items, quota) for a, b in zip(exploited, explored, strict=True)
    ]
    return QuotaForecast(items, shown[0], shown[1], reached[0], reached[1])


def _reaching(exploited: float, explored: float, quota: int) -> float:
    """Return the share of items that reach the quota from so many impressions each."""
    alone = float(gammainc(quota, exploited))
    fewer = float(gammaincc(quota - 1, exploited)) if quota > 1 else 0.0  # P(N <= q - 2)
    needed = quota * (1.0 - alone) - exploited * fewer
    return alone + (1.0 - alone) * (min(1.0, explored / needed) if needed > 0.0 else 1.0)
