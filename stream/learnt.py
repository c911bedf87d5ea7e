"""Which outcomes a lane has learnt lately, whatever number they carry."""

from collections.abc import Mapping

import numpy as np

from state.packing import pack_arrays, unpack_arrays
from state.retention import OUTCOMES_KEPT
from state.subject import id_hash
from stream.effects import Effects

PAGE = 256
"""Outcomes written together: each commit writes the page it adds to anew."""


class LearntOutcomes:
    """Remembers the latest outcomes by their ids.

    A shard whose store failed over to an older copy folds its last events again, closes their decisions again
    and sends their outcomes under new numbers. Their lane, which lives elsewhere, has learnt them already.

    Parameters
    ----------
    key
        The hash they are kept in, page by page.
    stored
        What it holds.
    """

    def __init__(self, key: str, stored: Mapping[bytes, bytes]) -> None:
        self._key = key
        found = {int(name): unpack_arrays(raw)[0]["ids"].tolist() for name, raw in stored.items()}
        self._pages: dict[int, list[int]] = dict(sorted(found.items()))
        self._known = {outcome for page in self._pages.values() for outcome in page}
        self._moved: set[int] = set()

    def is_new(self, outcome_id: str) -> bool:
        """Note an outcome; returns whether it is not among the latest."""
        outcome = id_hash(outcome_id)
        if outcome in self._known:
            return False
        number = next(reversed(self._pages), 0)
        if len(self._pages.setdefault(number, [])) >= PAGE:
            number += 1
        self._pages.setdefault(number, []).append(outcome)
        self._known.add(outcome)
        self._moved.add(number)
        return True

    def write(self, effects: Effects) -> None:
        """Write the pages that grew, and drop the oldest beyond what is kept."""
        for number in sorted(self._moved):
            ids = np.array(self._pages[number], dtype=np.uint64)
            effects.write(self._key, str(number), pack_arrays({"ids": ids}, {}))
        self._moved.clear()
        while len(self._pages) > OUTCOMES_KEPT // PAGE:
            oldest = next(iter(self._pages))
            self._known.difference_update(self._pages.pop(oldest))
            effects.erase(self._key, str(oldest))
