"""When a call is repeated: only where that is safe, not all at once, and not by everybody for ever."""

import random
from email.utils import parsedate_to_datetime

from msgspec import Struct

OVERLOADED = 429
AWAY = frozenset((502, 503, 504))


class RetryRules(Struct, frozen=True, kw_only=True):
    """How calls are repeated.

    Attributes
    ----------
    tries
        Attempts in all; 1 for no retry.
    base_s, cap_s
        The n-th pause is drawn uniformly from 0 to min(cap, base * 2^n), s (full jitter).
    budget
        Retries a call adds to what may be spent: of 100 calls to a server in trouble at most so many times
        100 are repeated, so that retries do not keep it there.
    reserve
        Retries that may be spent ahead.

    References
    ----------
    Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    tries: int = 3
    base_s: float = 0.05
    cap_s: float = 2.0
    budget: float = 0.2
    reserve: float = 10.0

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise ValueError(f"tries has value {self.tries}; wished: at least 1")

    def pause_s(self, retry: int, rng: random.Random, retry_after_s: float | None = None) -> float:
        """Return the pause before a retry (from 0), no shorter than the server asked for, s."""
        drawn = rng.uniform(0.0, min(self.cap_s, self.base_s * 2**retry))
        return drawn if retry_after_s is None else retry_after_s + drawn


class Budget:
    """Bounds retries to a share of calls.

    Parameters
    ----------
    rules
        Share and reserve.
    """

    def __init__(self, rules: RetryRules) -> None:
        self._rules, self._left = rules, rules.reserve

    def earn(self) -> None:
        """Note a call."""
        self._left = min(self._rules.reserve, self._left + self._rules.budget)

    def spend(self) -> bool:
        """Return whether one more retry may be made, and count it if so."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def may_repeat(status: int, *, repeatable: bool) -> bool:
    """Return whether a call that met this status may be repeated.

    A call that was too many was not begun; of any other failure nobody knows, so that only what may happen
    twice is repeated.
    """
    return status == OVERLOADED or (repeatable and status in AWAY)


def retry_after_s(header: str | None, now_s: float) -> float | None:
    """Return the pause a server asks for, s: its header has seconds or a date; None where it has neither."""
    if not header:
        return None
    text = header.strip()
    if text.isdecimal() and text.isascii():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except (ValueError, OverflowError):
        return None
