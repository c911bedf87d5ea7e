"""Spares whoever would wait for something that is gone."""

OPEN_FOR_S = 0.5
FAILURES_TO_OPEN = 3


class Breaker:
    """Opens after consecutive failures, so that requests do not wait for a store that is gone.

    Parameters
    ----------
    failures
        Failures in a row that open it.
    open_for_s
        Time until one request may try again.
    """

    def __init__(self, failures: int = FAILURES_TO_OPEN, open_for_s: float = OPEN_FOR_S) -> None:
        self._limit, self._open_for_s = failures, open_for_s
        self._failures, self._retry_at = 0, 0.0

    def allows(self, now_s: float) -> bool:
        """Return whether a try may be made; while open, one try per interval."""
        if self._failures < self._limit:
            return True
        if now_s < self._retry_at:
            return False
        self._retry_at = now_s + self._open_for_s
        return True

    @property
    def is_open(self) -> bool:
        """Whether requests do without the store."""
        return self._failures >= self._limit

    def note(self, *, ok: bool, now_s: float) -> None:
        """Note how a try ended."""
        self._failures = 0 if ok else self._failures + 1
        if not ok:
            self._retry_at = now_s + self._open_for_s
