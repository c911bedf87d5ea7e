"""How many new items will be shown often enough in time, at another exploration rate."""

from dataclasses import dataclass

from scipy.special import gammaincc


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


def forecast_quota(items: int, shown: tuple[float, float], quota: int) -> QuotaForecast:
    """Return how many new items reach a quota of impressions.

    Parameters
    ----------
    items
        New items that share the impressions evenly.
    shown
        Impressions all of them get within their time, at the rate in force and at the wished one.
    quota
        Impressions each is owed, >= 1.

    Notes
    -----
    Each item's impressions are taken for Poisson: the chance of at least `quota` is 1 - Q(quota, mean), Q the
    regularised upper incomplete gamma function.
    """
    means = [total / items if items else 0.0 for total in shown]
    reaching = [items * (1.0 - float(gammaincc(quota, mean))) for mean in means]
    return QuotaForecast(items, means[0], means[1], reaching[0], reaching[1])
