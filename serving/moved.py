"""The pace at which items that clicks have moved find anew what sessions treat like them."""

import time
from collections.abc import Callable

from serving.live import LiveState

SHARE = 0.02
"""Of the processor, at most, while any wait: an item takes about a millisecond among 50,000."""
AT_ONCE_S = 0.004
"""Time that is saved up at most: requests wait so long, and an item longer, at a time."""


class MovedItems:
    """Settles what clicks have moved, in a small share of the time, and leaves the rest to requests.

    Parameters
    ----------
    live
        Whose items they are.
    clock, work
        Tell the time, and the processor time of this thread, in seconds.
    """

    def __init__(
        self,
        live: LiveState,
        clock: Callable[[], float] = time.monotonic,
        work: Callable[[], float] = time.thread_time,
    ) -> None:
        self._live, self._clock, self._work = live, clock, work
        self._at, self._saved = clock(), 0.0

    def tick(self) -> None:
        """Settle items while there is time saved up for it."""
        now = self._clock()
        self._saved = min(AT_ONCE_S, self._saved + SHARE * (now - self._at))
        self._at = now
        while self._saved > 0.0:
            began = self._work()
            left = self._live.settle_moved(1)
            self._saved -= self._work() - began
            if not left:
                return
