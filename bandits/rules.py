"""Which candidates a slot may take, given the slots before it."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from bandits.arrays import BoolArray, IntArray


class SlotRule(Protocol):
    """Says which candidates are eligible; must be a deterministic function of the prefix alone."""

    def eligible(self, prefix: IntArray) -> BoolArray:
        """Return the eligible candidates (K,) once those of `prefix` (j,) are placed, in order.

        Those already placed may be marked or not: they are never drawn twice.
        """
        ...


@dataclass(frozen=True, slots=True)
class CategoryCap:
    """At most `cap` slots of one slate share a category.

    Parameters
    ----------
    categories
        Code >= 0 of each candidate's category, -1 for none (never capped), shape (K,).
    cap
        Slots of one category, >= 1.

    Raises
    ------
    ValueError
        If a code is below -1 or the cap below 1.
    """

    categories: IntArray
    cap: int

    _codes: IntArray = field(init=False, repr=False)
    _count: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.cap < 1:
            msg = f"cap is {self.cap}, wanted at least 1"
            raise ValueError(msg)
        if self.categories.min(initial=0) < -1:
            msg = f"categories holds {self.categories.min()}, wanted codes >= -1"
            raise ValueError(msg)
        # One more than each code, so that those without category share code 0, which is never full.
        object.__setattr__(self, "_codes", self.categories + 1)
        object.__setattr__(self, "_count", int(self.categories.max(initial=-1)) + 2)

    def eligible(self, prefix: IntArray) -> BoolArray:
        """Return whose category is not full, shape (K,)."""
        has_room: BoolArray = np.bincount(self._codes[prefix], minlength=self._count) < self.cap
        has_room[0] = True
        return has_room[self._codes]
