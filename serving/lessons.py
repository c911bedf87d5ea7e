"""Lessons of the blend: each interaction tells which of the candidates its visitor chose."""

import numpy as np

from serving.candidates import Asked, retrieve
from serving.features import Visitor, blend_inputs
from serving.live import LiveState
from serving.visitor import RECENT, decayed_interest

EVERY = 4
_NONE_SEEN = np.empty(0, dtype=np.uint64)


class Lessons:
    """Teaches a live state's blend from interactions of the change feed, in the order predict, then learn.

    An interaction that its own session's candidates held is a choice among them: far more of these come by
    than clicks on slates, and they say as much about the order. Every lesson costs a retrieval.

    Parameters
    ----------
    live
        Whose blend it is.
    every
        One interaction in so many is a lesson, > 0.
    """

    def __init__(self, live: LiveState, every: int = EVERY) -> None:
        self._live, self._every = live, every
        self._met = 0

    def teach(self, session: int, row: int, at_ms: int) -> None:
        """Learn from an interaction that the live state does not know yet."""
        self._met += 1
        items = self._live.sessions.session_items(session)[-RECENT:]
        if self._met % self._every or not len(items):
            return
        asked = Asked(items, decayed_interest(len(items)), session, items, _NONE_SEEN, (), at_ms)
        found = retrieve(self._live, asked)
        places = np.flatnonzero(found.rows == row)
        if len(places):
            inputs = blend_inputs(self._live, asked, found, Visitor(len(items), len(items), is_new=False))
            self._live.learn_choice(inputs, int(places[0]))
