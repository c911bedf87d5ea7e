"""The pace at which items that clicks have moved find anew what sessions treat like them."""

import time
from collections.abc import Callable

from serving.live import LiveState

SHARE = 0.02
"""Of the processor, at most, while any wait: an item takes about a millisecond among 50,000."""


class MovedItems:
    """Settles what clicks have moved, an item at a time, and leaves the processor to requests meanwhile.

    Parameters
    ----------
    live
        Whose items they are.
    clock
        Tells the time in seconds and never goes back.
    """

    def __init__(self, live: LiveState, clock: Callable[[], float] = time.monotonic) -> None:
        self._live, self._clock, self._due_s = live, clock, -float("inf")

    def tick(self) -> None:
        """Settle one item, if it is time to."""
        began = self._clock()
        if began >= self._due_s:
            self._live.settle_moved(1)
            ended = self._clock()
            self._due_s = began + (ended - began) / SHARE
