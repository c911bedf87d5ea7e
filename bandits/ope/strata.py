"""What another exploration rate would earn, exactly, from how many slots of each logged slate explored.

Where every slot tosses its own coin with rate e, the number m of k slots that explore is binomial, and given
m a slate does not depend on e at all. So the value of any rate is a Bernstein polynomial in it,

    V(e) = sum_m C(k, m) e^m (1 - e)^(k - m) mu_m,

whose coefficients, the mean rewards of slates with m explored slots, a log of any rate estimates: no
weights, no propensities, no assumption on how slots depend on each other. With one coin a slate (`single`),
m is 0 or 1 and V(e) = (1 - e) mu_0 + e mu_1.

A log at a low rate holds few slates of large m. Neighbours help: the effect of one more explored slot is
taken to differ from the effect of the one before it by about `ROUGHNESS` of the value (standard deviation of
a normal prior on second differences), so that what was hardly seen is told with an interval to match, and
much data overrules it.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import gammaln, xlog1py, xlogy

from bandits.arrays import FloatArray
from bandits.ope.intervals import normal_width

ROUGHNESS = 0.01
"""Of the mean reward: by how much the effects of two explored slots in a row differ (standard deviation)."""
NOTHING = ("nothing was explored in this time: no log can tell what exploring would earn",)
_ROUNDING = 1e-9
_BORROWED = 50.0
"""Slates whose variance a stratum takes from all together: a handful without a click is not certain of 0."""


@dataclass(frozen=True, slots=True)
class CoinCell:
    """Slates of k slots logged under one rate.

    Parameters
    ----------
    rate
        e, the chance of each coin, in [0, 1].
    is_single
        Whether one coin decided about the whole slate.
    counts, sums, squares
        Slates with m explored slots, the sum of their rewards and of their squares, shape (k + 1,); (2,)
        where `is_single`.
    """

    rate: float
    is_single: bool
    counts: FloatArray
    sums: FloatArray
    squares: FloatArray

    @property
    def slots(self) -> int:
        """Coins of a slate."""
        return len(self.counts) - 1

    def chances(self, rate: float) -> FloatArray:
        """Return the probability of each m at a rate, shape (k + 1,)."""
        return coin_chances(self.slots, rate)


@dataclass(frozen=True, slots=True)
class StrataGates:
    """What a log must hold before a change of the rate is told.

    Parameters
    ----------
    least_explored
        Slates with an explored slot.
    largest_reach
        Share of the wished slates that explore more slots than any logged slate does.
    """

    least_explored: int = 50
    largest_reach: float = 0.05


@dataclass(frozen=True, slots=True)
class Forecast:
    """The reward of a slate at a wished rate and how it differs from that at the rate in force.

    Parameters
    ----------
    value, value_error
        Expected reward of a slate and its standard error.
    now, now_error
        The same at the rate in force.
    change, change_error
        Their difference, far better known than either.
    slates, explored
        Slates it rests on, and those of them with an explored slot.
    reach
        Share of the wished slates that explore more slots than any logged one.
    reasons
        Why it must not be shown, one sentence each; empty where it may.
    """

    value: float
    value_error: float
    now: float
    now_error: float
    change: float
    change_error: float
    slates: int
    explored: int
    reach: float
    reasons: tuple[str, ...]

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval of the value."""
        half = self.half_widths(level)[1]
        return self.value - half, self.value + half

    def change_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval of the change."""
        half = self.half_widths(level)[2]
        return self.change - half, self.change + half

    def half_widths(self, level: float = 0.95) -> tuple[float, float, float]:
        """Return half the widths of the intervals of now, value and change."""
        width = normal_width(level)
        return width * self.now_error, width * self.value_error, width * self.change_error


def coin_chances(slots: int, rate: float) -> FloatArray:
    """Return the binomial probabilities of 0 to `slots` explored slots, shape (slots + 1,)."""
    m = np.arange(slots + 1.0)
    ways = gammaln(slots + 1.0) - gammaln(m + 1.0) - gammaln(slots - m + 1.0)
    out: FloatArray = np.exp(ways + xlogy(m, rate) + xlog1py(slots - m, -rate))
    return out


def forecast(
    cells: Iterable[CoinCell], rate: float, now: float, gates: StrataGates | None = None
) -> Forecast:
    """Return what a rate would earn beside the one in force.

    Parameters
    ----------
    cells
        What was logged, under any rates; those that never explored are left out, as they say nothing of it.
    rate, now
        The wished rate and the one in force, in [0, 1].
    gates
        What the log must hold.
    """
    kinds: dict[tuple[bool, int], list[CoinCell]] = defaultdict(list)
    for cell in cells:
        if cell.rate > 0 and cell.counts.sum() > 0:
            kinds[cell.is_single, cell.slots].append(cell)
    parts = [_Part(alike) for _, alike in sorted(kinds.items())]
    slates, explored = sum(part.slates for part in parts), sum(part.explored for part in parts)
    reasons = _too_little(slates, explored, gates or StrataGates())
    if not slates:
        return Forecast(*(float("nan"), float("inf")) * 3, 0, 0, 1.0, reasons)
    shares = [part.slates / slates for part in parts]
    value, value_error = _mixed([part.at(rate) for part in parts], shares)
    current, now_error = _mixed([part.at(now) for part in parts], shares)
    change, change_error = _mixed([part.change(rate, now) for part in parts], shares)
    reach = sum(share * part.reach(rate) for share, part in zip(shares, parts, strict=True))
    reasons += _too_far(reach, rate, gates or StrataGates())
    return Forecast(
        value, value_error, current, now_error, change, change_error, slates, explored, reach, reasons
    )


def joined(parts: Sequence[Forecast], shares: Sequence[float], most_left_out: float = 0.0) -> Forecast:
    """Return the forecast of several kinds of visitors together, who were drawn independently.

    Parts that cannot be told are left out, and the others stand for all.

    Parameters
    ----------
    parts
        One each.
    shares
        Of all slates, in [0, 1], sum to 1.
    most_left_out
        Share of slates in parts left out above which the whole cannot be told either, in [0, 1).
    """
    told = [(one, share) for one, share in zip(parts, shares, strict=True) if not one.reasons]
    sure = sum(share for _, share in told)
    reasons = tuple(dict.fromkeys(reason for one in parts for reason in one.reasons))
    slates, explored = sum(one.slates for one in parts), sum(one.explored for one in parts)
    if not told:
        return replace(forecast([], 0.0, 0.0), slates=slates, explored=explored, reasons=reasons or NOTHING)
    rescaled = [share / sure for _, share in told]
    value, value_error = _mixed([(one.value, one.value_error) for one, _ in told], rescaled)
    now, now_error = _mixed([(one.now, one.now_error) for one, _ in told], rescaled)
    change, change_error = _mixed([(one.change, one.change_error) for one, _ in told], rescaled)
    return Forecast(
        value=value,
        value_error=value_error,
        now=now,
        now_error=now_error,
        change=change,
        change_error=change_error,
        slates=slates,
        explored=explored,
        reach=sum(share * one.reach for share, (one, _) in zip(rescaled, told, strict=True)),
        reasons=reasons if 1.0 - sure > most_left_out + _ROUNDING else (),
    )


def unchanged(cells: Sequence[CoinCell]) -> Forecast:
    """Return what is earned where the rate stays as it is: the plain mean, exploring or not."""
    counts, sums, squares = (
        float(np.sum([getattr(cell, name).sum() for cell in cells])) for name in ("counts", "sums", "squares")
    )
    if counts < 2:
        return forecast([], 0.0, 0.0)
    mean = sums / counts
    variance = max(squares / counts - mean**2, _worth(sums, squares) ** 2 / counts)
    error = float(np.sqrt(variance / (counts - 1.0)))
    explored = int(np.sum([cell.counts[1:].sum() for cell in cells]))
    return Forecast(mean, error, mean, error, 0.0, 0.0, int(counts), explored, 0.0, ())


def _worth(total: float, squares: float) -> float:
    """Return about what one reward is worth, the larger ones counting for more; 1 where there was none.

    Chance may always have kept one reward back, so no variance is below that of one in all slates.
    """
    return squares / abs(total) if total else 1.0


def _too_little(slates: int, explored: int, gates: StrataGates) -> tuple[str, ...]:
    if not explored:
        return NOTHING
    if explored < gates.least_explored:
        return (f"only {explored:,} of {slates:,} slates explored, wanted {gates.least_explored:,} or more",)
    return ()


def _too_far(reach: float, rate: float, gates: StrataGates) -> tuple[str, ...]:
    if reach <= gates.largest_reach:
        return ()
    wished = f"wanted {gates.largest_reach:.0%} or less: go there in smaller steps"
    return (
        f"at a rate of {rate:g}, {reach:.1%} of slates would explore more slots than any logged, {wished}",
    )


class _Part:
    """All cells of slates with the same number of coins."""

    def __init__(self, cells: Sequence[CoinCell]) -> None:
        self._slots = cells[0].slots
        self._counts = np.sum([cell.counts for cell in cells], axis=0)
        self.slates, self.explored = int(self._counts.sum()), int(self._counts[1:].sum())
        total, squares = (
            float(np.sum([getattr(one, name) for one in cells])) for name in ("sums", "squares")
        )
        worth = _worth(total, squares)
        means, precision = _stratum_means(cells, worth**2 / self.slates)
        rough = ROUGHNESS * max(total, worth) / self.slates
        second = np.diff(np.eye(self._slots + 1), 2, axis=0)
        smooth = second.T @ second / max(rough, 1e-12) ** 2
        # A stratum without a neighbour to borrow from needs a prior of its own, or nothing could be solved.
        vague = np.eye(self._slots + 1) / (1e3 * max(rough, 1e-6) / ROUGHNESS) ** 2
        self._covariance = np.linalg.inv(np.diag(precision) + smooth + vague)
        self._means = self._covariance @ (precision * means)

    def at(self, rate: float) -> tuple[float, float]:
        """Return value and standard error at a rate."""
        return self._of(coin_chances(self._slots, rate))

    def change(self, rate: float, now: float) -> tuple[float, float]:
        """Return the difference between two rates and its standard error."""
        return self._of(coin_chances(self._slots, rate) - coin_chances(self._slots, now))

    def reach(self, rate: float) -> float:
        """Return the share of slates at a rate that explore more slots than any logged one."""
        most = int(np.flatnonzero(self._counts)[-1])
        return float(coin_chances(self._slots, rate)[most + 1 :].sum())

    def _of(self, weights: FloatArray) -> tuple[float, float]:
        return float(weights @ self._means), float(np.sqrt(weights @ self._covariance @ weights))


def _stratum_means(cells: Sequence[CoinCell], least: float) -> tuple[FloatArray, FloatArray]:
    """Return the mean of each stratum and its precision (0 where nothing was seen), two arrays (k + 1,).

    No single reward's variance is taken for less than `least`.

    A rate that changed while the log was written made some hours explore more than others. Slates count by
    the inverse of the chance of their stratum, so that each stratum has the hours in their true shares.
    """
    counts, sums, squares = (
        np.array([getattr(cell, name) for cell in cells]) for name in ("counts", "sums", "squares")
    )
    chances = np.array([cell.chances(cell.rate) for cell in cells])
    weights = np.where(counts > 0, 1.0 / np.maximum(chances, 1e-300), 0.0)
    weights /= np.maximum(weights.max(axis=0), 1e-300)
    total = (weights * counts).sum(axis=0)
    means = np.divide((weights * sums).sum(axis=0), total, out=np.zeros(len(total)), where=total > 0)
    spread = squares - 2.0 * means * sums + means**2 * counts
    inside = np.maximum(_shrunk(counts.sum(axis=0), np.maximum(spread, 0.0).sum(axis=0)), least)
    observed = (weights**2 * counts * inside).sum(axis=0)
    precision = np.divide(total**2, observed, out=np.zeros(len(total)), where=observed > 0)
    return means, precision


def _shrunk(counts: FloatArray, spread: FloatArray) -> FloatArray:
    """Return variances of single rewards by stratum, drawn towards that of all (k + 1,)."""
    pooled = max(float(spread.sum()) / max(float(counts.sum()) - int((counts > 0).sum()), 1.0), 1e-12)
    out: FloatArray = (spread + _BORROWED * pooled) / (np.maximum(counts - 1.0, 0.0) + _BORROWED)
    return out


def _mixed(parts: Sequence[tuple[float, float]], shares: Sequence[float]) -> tuple[float, float]:
    value = sum(share * one for share, (one, _) in zip(shares, parts, strict=True))
    variance = sum((share * error) ** 2 for share, (_, error) in zip(shares, parts, strict=True))
    return float(value), float(np.sqrt(variance))
