"""Why a past decision looks as it does: what each slot was drawn by, taken apart from the log alone."""

from collections import Counter
from typing import Literal

import numpy as np
from msgspec import Struct

from bandits.slates import slate_parts
from online_models.features import FeatureRegistry
from serving.candidates import SOURCES
from serving.cuts import reason_of
from serving.relaw import drawn_slots, law_of, problem_of, slots_of
from state.events import Decision, Slot, Versions, Weights
from state.packing import FloatArray, from_base64

BASE, CROSSES, REST = "base", "crosses", "interactions"
"""Families that are no features: the intercept, products of two features, and what is not linear."""

Told = Literal["weights logged with the decision", "partly: the model is not linear", ""]


class Propensity(Struct):
    """How a slot's propensity came about: ``(1 - explored) law + (explored - floor) aim + floor / eligible``.

    Attributes
    ----------
    value
        Probability of the slot's item given the slots before it.
    eligible
        Candidates left at this slot, by rules and caps.
    law
        Probability under the scheme's own law over the scores.
    aim
        Probability under the law of exploration: of its own where it aims at new items, else 1 / eligible.
    explored, floor
        Probability that this slot explored, and the part of it that pays the floor.
    """

    value: float
    eligible: int
    law: float
    aim: float
    explored: float
    floor: float


class Stages(Struct):
    """A slot's score, stage by stage: the last four add up to ``score``.

    Attributes
    ----------
    source
        What brought the item first.
    blend
        Log of its share of all candidates by the blend of all sources.
    click, policy, lifts, optimism
        The click model's logit, the policy's mean, freshness and boosts, and what optimism added.
    score
        What the slot was drawn by, as logged.
    """

    source: str
    blend: float | None
    click: float
    policy: float
    lifts: float
    optimism: float
    score: float


class SlotWhy(Struct, kw_only=True):
    """Everything known of one slot.

    Attributes
    ----------
    position, item_id
        The slot.
    flag
        Why no policy learns from it: ``pinned``, ``fallback``, ``holdout``; empty where one does.
    explored, new
        Whether its coin said explore, and whether the surface owed the item impressions.
    rank
        Its place by score among the candidates, 1 for the best.
    stages, propensity
        How its score and its propensity came about; no propensity of a pinned slot, which nothing drew.
    features
        As read, by name.
    contributions
        Of each family of features to the click model's logit: with what they add up to.
    contributions_from
        Where they come from; empty where no model ranked.
    """

    position: int
    item_id: str
    flag: str
    explored: bool
    new: bool
    rank: int
    stages: Stages
    propensity: Propensity | None
    features: dict[str, float]
    contributions: dict[str, float]
    contributions_from: str


class DecisionWhy(Struct, kw_only=True):
    """A past decision, explained.

    Attributes
    ----------
    decision_id, decided_at, surface, rung
        Which, when (ms), where, and from which step of the ladder.
    facets, new_user, segment, held_back
        What was known of the visit, the segment it fitted, and whether a budget lowered its rate.
    exploration, versions, seed, staleness_ms
        The law of the draw, the versions of everything, its seed, and how old the state was.
    model_is_held
        Whether this server still ranks by the very model of the decision.
    candidates, sources
        How many there were, and how many each source brought first.
    cut, uncut
        Reason -> how many retrieved items were cut for it, and how many more were cut than are listed.
    slots
        Each slot, in order.
    """

    decision_id: str
    decided_at: int
    surface: str
    rung: str
    facets: dict[str, str]
    new_user: bool
    segment: str
    held_back: bool
    exploration: dict[str, float | str]
    versions: Versions
    seed: int
    staleness_ms: int
    model_is_held: bool
    candidates: int
    sources: dict[str, int]
    cut: dict[str, int]
    uncut: int
    slots: list[SlotWhy]


class Explainer:
    """Takes one logged decision apart.

    Parameters
    ----------
    decision
        As logged.
    registry
        Of the click model's features; those of a decision made with others are not named.
    """

    def __init__(self, decision: Decision, registry: FeatureRegistry) -> None:
        self.decision, self._registry = decision, registry
        self.scores = from_base64(decision.candidates.scores)
        self.problem, self.law = problem_of(decision), law_of(decision)
        self.places = slots_of(decision)
        self._is_named = decision.versions.features == registry.fingerprint()
        self._features = from_base64(decision.features).reshape(len(decision.slots), -1)
        self._logits = from_base64(decision.logits)
        self._policy, self._lifts = (self._per_slot(text) for text in (decision.policy, decision.lifts))

    def _per_slot(self, text: str) -> FloatArray:
        return from_base64(text) if text else np.zeros(len(self.decision.slots))

    def slots(self) -> list[SlotWhy]:
        """Return what is known of each slot."""
        drawn = drawn_slots(self.decision)
        parts = dict(zip(drawn, slate_parts(self.problem, self.places[drawn], self.law), strict=True))
        families = self._contributions()
        out = []
        for n, slot in enumerate(self.decision.slots):
            part = parts.get(n)
            said = None if part is None else Propensity(slot.propensity, *part)
            out.append(self._slot(n, slot, said, {name: float(v[n]) for name, v in families.items()}))
        return out

    def _slot(
        self, n: int, slot: Slot, propensity: Propensity | None, contributions: dict[str, float]
    ) -> SlotWhy:
        return SlotWhy(
            position=self.decision.before + n,
            item_id=slot.item_id,
            flag=slot.flag,
            explored=slot.explored,
            new=slot.new,
            rank=self.rank(int(self.places[n])),
            stages=self._stages(n, slot),
            propensity=propensity,
            features=self._named(n),
            contributions=contributions,
            contributions_from=told_from(self.decision.weights),
        )

    def _stages(self, n: int, slot: Slot) -> Stages:
        score = float(self.scores[self.places[n]])
        click, policy, lifts = float(self._logits[n]), float(self._policy[n]), float(self._lifts[n])
        blend = self._named(n).get("blend_share")
        optimism = 0.0
        if self.decision.exploration.get("scheme") == "optimistic" and self.decision.policy:
            optimism = score - (click + policy + lifts)
        source = SOURCES.get(slot.source, slot.source)
        return Stages(source, blend, click, policy, lifts, optimism, score)

    def _named(self, n: int) -> dict[str, float]:
        if not self._is_named:
            return {}
        return dict(zip(self._registry.names, self._features[n].tolist(), strict=True))

    def rank(self, place: int) -> int:
        """Return a candidate's place by score, 1 for the best; of equals the first."""
        ahead = (self.scores > self.scores[place]).sum() + (self.scores[:place] == self.scores[place]).sum()
        return int(ahead) + 1

    def _contributions(self) -> dict[str, FloatArray]:
        """Return family -> (slots,) what it put on the click model's logit."""
        weights = self.decision.weights
        if weights is None or not self._is_named:
            return {}
        position = self._registry.place("position")
        inputs = self._features.copy()
        inputs[:, position] = 0.0  # every candidate was ranked as if at the top
        told = from_base64(weights.features)
        found: dict[str, FloatArray] = {BASE: np.full(len(inputs), told[0])}
        for column, feature in enumerate(self._registry.features):
            part = inputs[:, column] * told[1 + column]
            found[feature.source] = found.get(feature.source, 0.0) + part
        found[CROSSES] = sum(
            (inputs[:, left] * inputs[:, right] * weight
             for (left, right), weight in zip(weights.crosses, from_base64(weights.products), strict=True)),
            np.zeros(len(inputs)),
        )  # fmt: skip
        if not weights.whole:
            found[REST] = self._logits - sum(found.values(), np.zeros(len(inputs)))
        return found


def told_from(weights: Weights | None) -> Told:
    """Return where contributions come from, in words."""
    if weights is None:
        return ""
    return "weights logged with the decision" if weights.whole else "partly: the model is not linear"


def explain(decision: Decision, registry: FeatureRegistry, model_version: int) -> DecisionWhy:
    """Return a decision explained.

    Parameters
    ----------
    decision
        As logged.
    registry
        Of the features of this server.
    model_version
        What this server ranks the surface by now.
    """
    logged = decision.candidates
    cut = Counter(reason_of(letter, decision.rules).reason for letter in logged.cuts)
    return DecisionWhy(
        decision_id=decision.event_id,
        decided_at=decision.occurred_at,
        surface=decision.surface,
        rung=decision.rung,
        facets=decision.facets,
        new_user=decision.new_user,
        segment=decision.segment,
        held_back=decision.held_back,
        exploration=decision.exploration,
        versions=decision.versions,
        seed=decision.seed,
        staleness_ms=decision.staleness_ms,
        model_is_held=decision.versions.model == model_version,
        candidates=len(logged.sources),
        sources=dict(Counter(SOURCES.get(letter, letter) for letter in logged.sources)),
        cut=dict(cut),
        uncut=logged.uncut,
        slots=Explainer(decision, registry).slots(),
    )
