"""Token buckets: how often one caller may ask this process."""


class TokenBucket:
    """Fills at a rate up to a burst; each request takes from it.

    What turns out to cost more than it took is charged afterwards, into debt if need be: the requests after
    it wait until that is paid.

    Parameters
    ----------
    rate
        Tokens a second, above 0.
    burst
        Tokens it holds at most, at least 1; full at the beginning.
    now_s
        The present, of a clock that never goes back.
    """

    __slots__ = ("_at_s", "_burst", "_held", "_rate")

    def __init__(self, rate: float, burst: float, now_s: float) -> None:
        self._rate, self._burst, self._held, self._at_s = rate, burst, burst, now_s

    def take(self, now_s: float) -> float:
        """Take one token; returns 0, or the seconds until there is one where there is none now."""
        held = min(self._burst, self._held + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        if held < 1.0:
            self._held = held
            return (1.0 - held) / self._rate
        self._held = held - 1.0
        return 0.0

    def charge(self, tokens: float) -> None:
        """Take tokens that a request turned out to cost on top, whether or not they are there."""
        self._held -= tokens

    def resize(self, rate: float, burst: float) -> None:
        """Go on under another rate and burst; what was used stays used."""
        self._rate, self._burst = rate, burst
        self._held = min(self._held, burst)
