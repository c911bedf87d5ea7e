"""What shadow policies would have drawn: their weights on the slate that was, logged with the decision."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from msgspec import Struct

from bandits.arrays import IntArray
from bandits.exploration import Exploration
from bandits.slates import Slate, SlateProblem, slate_propensities
from state.exploration import Shadow, Shadows
from state.packing import FloatArray, to_base64


class ScoresBy(Struct):
    """The scores a shadow may draw by, one for each candidate.

    Attributes
    ----------
    mean, variance
        Of the policy (K,); the variance only where a law needs it.
    click
        Logits of the click model alone (K,).
    trend
        Makes decayed counts (K,), where a shadow asks for them.
    """

    mean: FloatArray
    variance: FloatArray | None
    click: FloatArray
    trend: Callable[[], FloatArray]


class ShadowLaws:
    """The shadow policies of one surface in the policy room's form.

    Parameters
    ----------
    document
        As stored.
    """

    def __init__(self, document: Shadows) -> None:
        self.document = document
        self._laws = {
            f"{name}@{document.version}": (shadow, Exploration(**shadow.settings()))
            for name, shadow in document.policies.items()
        }
        self.needs_variance = any(law.scheme == "optimistic" for _, law in self._laws.values())

    def __bool__(self) -> bool:
        return bool(self._laws)

    def weights(
        self, problem: SlateProblem, slate: Slate, by: ScoresBy, drawn: IntArray | None = None
    ) -> dict[str, str]:
        """Return for each shadow how much likelier it was to draw the slate down to each slot, packed (k,).

        Parameters
        ----------
        problem
            What the slate was drawn from.
        slate
            As drawn.
        by
            Scores of its candidates.
        drawn
            How many were drawn down to each slot, (k,), where others are pinned; None for all.
        """
        if drawn is not None:
            slate = _without_pins(slate, drawn)
        return {
            named: to_base64(_spread(_weights(shadow, law, (problem, slate), by), drawn))
            for named, (shadow, law) in self._laws.items()
        }


def _without_pins(slate: Slate, drawn: IntArray) -> Slate:
    at = np.flatnonzero(np.diff(drawn, prepend=0))
    return Slate(slate.indices[at], slate.propensities[at], slate.explored[at], slate.eligible[at])


def _spread(weights: FloatArray, drawn: IntArray | None) -> FloatArray:
    """Return the weight of each slot: a pinned one has that of what was drawn before it."""
    return weights if drawn is None else np.concatenate([[1.0], weights])[drawn]


NO_SHADOWS = ShadowLaws(Shadows())


def _weights(shadow: Shadow, law: Exploration, drawn: tuple[SlateProblem, Slate], by: ScoresBy) -> FloatArray:
    problem, slate = drawn
    if shadow.ranks_by == "policy":
        scores = law.utilities(by.mean, by.variance)
    else:
        law, scores = _without_optimism(law), by.click if shadow.ranks_by == "click" else by.trend()
    target = slate_propensities(replace(problem, scores=scores), slate.indices, law)
    out: FloatArray = np.cumprod(target / slate.propensities, dtype=np.float64)
    return out


def _without_optimism(law: Exploration) -> Exploration:
    return replace(law, scheme="softmax") if law.scheme == "optimistic" else law
