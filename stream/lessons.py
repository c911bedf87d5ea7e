"""What outcomes teach click models: their rows as they were logged, and what became of each slot."""

import binascii
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
from msgspec import Struct

from online_models.heads import FOLLOWING, Labels
from state.events import Outcome, OutcomeSlot
from state.exploration import VISITOR
from state.packing import FloatArray

_WIDTH = 8  # bytes of a float64


class Lesson(Struct):
    """Rows of some outcomes of one surface.

    Attributes
    ----------
    inputs
        Features as logged, shape (n, f).
    labels
        What became of the n slots.
    owners
        Which outcome each slot belongs to, shape (n,).
    facets
        Of each outcome, as `Segments.update` takes them.
    """

    inputs: FloatArray
    labels: Labels
    owners: np.ndarray[tuple[int], np.dtype[np.int64]]
    facets: list[str]

    @property
    def outcomes(self) -> int:
        """How many outcomes there are."""
        return len(self.facets)


def lesson_of(outcomes: Sequence[Outcome], width: int) -> Lesson:
    """Return what outcomes teach whose rows have `width` features; none of those whose rows have not."""
    packed = [(outcome, binascii.a2b_base64(outcome.features)) for outcome in outcomes]
    usable = [one for one in packed if len(one[1]) == _WIDTH * width * len(one[0].slots)]
    taught = [outcome for outcome, _ in usable]
    # Writable, as a server's rows are: numba compiles loops anew for arrays that are not.
    inputs = np.frombuffer(bytearray().join([raw for _, raw in usable]), "<f8").reshape(-1, width)
    counts = [len(outcome.slots) for outcome in taught]
    slots = list(chain.from_iterable([outcome.slots for outcome in taught]))
    clicks = np.array([1.0 if is_click(slot) else 0.0 for slot in slots])
    labels = Labels(clicks, _following(taught, slots, counts))
    return Lesson(
        inputs, labels, np.repeat(np.arange(len(taught)), counts), [_named(o.facets) for o in taught]
    )


def is_click(slot: OutcomeSlot) -> bool:
    """Return whether a slot was taken: it earned a reward, or a head that follows a click."""
    return (slot.reward > 0 and not slot.defaulted) or bool(slot.earned)


def _following(
    outcomes: Sequence[Outcome], slots: Sequence[OutcomeSlot], counts: Sequence[int]
) -> dict[str, FloatArray]:
    found = {}
    for head in FOLLOWING:
        known = [head in outcome.labels for outcome in outcomes]
        if any(known):
            values = np.where(np.repeat(known, counts), 0.0, np.nan)
            values[[place for place, slot in enumerate(slots) if head in slot.earned]] = 1.0
            found[head] = values
    return found


def _named(facets: Mapping[str, str]) -> str:
    """Return facets as names of segments; who is new is known of the rows."""
    return ",".join([f"{n}:{v}".replace(",", " ") for n, v in facets.items() if n != VISITOR])
