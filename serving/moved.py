"""The pace at which items that clicks have moved find anew what sessions treat like them."""

from serving.live import LiveState

EVERY_S = 0.025
"""An item takes about a millisecond among 50,000: some 4 % of a processor while any wait."""


class MovedItems:
    """Settles what clicks have moved, an item at a time, and leaves the processor to requests meanwhile.

    Parameters
    ----------
    live
        Whose items they are.
    """

    def __init__(self, live: LiveState) -> None:
        self._live, self._due_s = live, 0.0

    def tick(self, now_s: float) -> None:
        """Settle one item, if by a clock that never goes back it is time to."""
        if now_s >= self._due_s:
            self._live.settle_moved(1)
            self._due_s = now_s + EVERY_S
