"""Pins in a slate: candidates whose places are given, put in between those that are drawn."""

import numpy as np

from bandits.slates import Slate
from serving.candidates import PINNED, Found
from serving.items import BoolArray, IntArray
from serving.merchandising import Wishes, interleaved

_NOTHING: IntArray = np.empty(0, np.int64)


def pinned_of(found: Found, wishes: Wishes | None) -> tuple[IntArray, list[int]]:
    """Return the candidates that are pinned and their positions; what may not be shown is none."""
    if wishes is None or not wishes.pins:
        return _NOTHING, []
    places = {row: place for place, row in enumerate(found.rows.tolist())}
    pins = [(places[row], position) for row, position in wishes.pins if row in places]
    chosen = np.array([place for place, _ in pins], np.int64)
    letters = list(found.sources)
    for place in chosen.tolist():
        letters[place] = PINNED
    found.sources = "".join(letters)
    return chosen, [position for _, position in pins]


def with_pins(slate: Slate, pins: IntArray, positions: list[int]) -> tuple[Slate, IntArray]:
    """Return a drawn slate with pinned candidates put in, and how many were drawn down to each slot."""
    drawn, size = len(slate.indices), len(pins)
    order = interleaved(drawn, positions)
    whole = Slate(
        np.concatenate([slate.indices, pins])[order],
        np.concatenate([slate.propensities, np.ones(size)])[order],
        np.concatenate([slate.explored, np.zeros(size, np.bool_)])[order],
        np.concatenate([slate.eligible, np.ones(size, np.int64)])[order],
    )
    return whole, np.cumsum(order < drawn)


def is_pinned(drawn: IntArray) -> BoolArray:
    """Return which slots were given, (k,), by how many were drawn down to each."""
    pinned: BoolArray = np.diff(drawn, prepend=0) == 0
    return pinned
