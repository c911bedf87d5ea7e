"""How many requests are let in at once, by how late the event loop is: early shedding keeps the rest fast."""

import asyncio
from collections.abc import Sequence

LATE_S = 0.005
"""A loop that is later than this all the time has more to do than it can."""
FLOOR = 16
"""Enough at once to keep a core busy while the store answers; fewer would refuse for nothing."""
WINDOW_S = 0.1
_BEAT_S = 0.01
_LEAST_BEATS = 3
_CUT, _RAISE = 0.7, 4


class Admission:
    """Bounds requests in flight; the bound falls while the loop is late and creeps up again when it is not.

    In one process whatever waits, waits for the loop: how late a timer fires is how long a request that
    arrives now waits before anything is done for it. As in CoDel (Nichols and Jacobson 2012) the least
    lateness within a window tells a standing queue from a burst, and as in TCP the bound falls by a share and
    rises by steps.

    Parameters
    ----------
    ceiling
        Requests in flight that are never exceeded.

    Attributes
    ----------
    in_flight, limit, shed
        Requests being worked on, how many there may be now, and those refused so far.
    """

    __slots__ = ("_ceiling", "_peak", "in_flight", "limit", "shed")

    def __init__(self, ceiling: int) -> None:
        self._ceiling = self.limit = ceiling
        self.in_flight = self._peak = self.shed = 0

    def enter(self) -> bool:
        """Return whether a request may come in; whoever does must `leave`."""
        if self.in_flight >= self.limit:
            self.shed += 1
            return False
        self.rejoin()
        return True

    def rejoin(self) -> None:
        """Count one that was let in before, and had left only to wait."""
        self.in_flight += 1
        self._peak = max(self._peak, self.in_flight)

    def leave(self) -> None:
        """Count one less."""
        self.in_flight -= 1

    def adjust(self, least_late_s: float) -> None:
        """Set the bound for the next window, from the least lateness of the one that is over."""
        if least_late_s > LATE_S:
            reached = min(self.limit, self._peak)
            self.limit = min(self._ceiling, max(FLOOR, int(_CUT * reached)))
        else:
            self.limit = min(self._ceiling, self.limit + _RAISE)
        self._peak = self.in_flight


class Lateness:
    """How late the event loop is.

    Attributes
    ----------
    last_s
        Least lateness of the last window.
    """

    def __init__(self) -> None:
        self.last_s = 0.0

    async def watch(self, admissions: Sequence[Admission]) -> None:
        """Measure for ever, and adjust the admissions after every window."""
        loop = asyncio.get_running_loop()
        while True:
            self.last_s = await _least_late(loop)
            for admission in admissions:
                admission.adjust(self.last_s)


async def _least_late(loop: asyncio.AbstractEventLoop) -> float:
    """Return the least lateness of one window; a single stall is shorter than it takes to be seen thrice."""
    ends, least, beats = loop.time() + WINDOW_S, float("inf"), 0
    while beats < _LEAST_BEATS or loop.time() < ends:
        due = loop.time() + _BEAT_S
        await asyncio.sleep(_BEAT_S)
        least, beats = min(least, max(0.0, loop.time() - due)), beats + 1
    return least
