"""The decision path: candidates, features, click model, bandit, slate; nothing reorders after the draw."""

import dataclasses
from typing import Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from bandits.budgets import explore_weights, owed_weights
from bandits.exploration import Exploration
from bandits.slates import Slate, SlateProblem, decision_seed, draw_slate
from online_models.ranking import ranking_registry
from serving.candidates import SOURCES, Asked, Found, retrieve
from serving.exploring import Chosen
from serving.features import Visitor, feature_matrix, policy_arms, policy_context
from serving.items import IntArray
from serving.live import LiveState
from serving.newcomers import Owed
from serving.relaw import to_aimed
from serving.requests import RecommendationRequest, RecommendedItem
from serving.visitor import asked_of, visitor_of
from state.events import Candidates, Decision, Slot, Versions
from state.exploration import VISITOR
from state.packing import FloatArray, to_base64
from state.subject import SubjectRecord, id_hash

POLICY = "hybrid-1"
_POSITION = ranking_registry().place("position")
_HOLDOUT_LAW = Exploration(scheme="greedy")
LOGGED_CUTS = 100
"""Of a visitor who has seen much, thousands may be cut; a logged decision has to stay readable."""

Rung = Literal["personal", "session", "segment", "trend", "static"]


class Call(Struct, frozen=True):
    """One request as the decision path takes it.

    Attributes
    ----------
    request
        As sent.
    subject
        Whose request it is.
    record
        The subject's record; None where the store did not answer.
    decision_id
        Given before the draw: the slate's randomness derives from it.
    now_ms, staleness_ms
        Decision time, and how far behind the live state may be.
    holdout
        Share of subjects that always get the overall trend.
    """

    request: RecommendationRequest
    subject: str
    record: SubjectRecord | None
    decision_id: str
    now_ms: int
    staleness_ms: int
    holdout: float


class Scored(Struct):
    """Candidates with the numbers they were drawn by."""

    found: Found
    features: FloatArray
    logits: FloatArray
    context: FloatArray
    arms: FloatArray
    scores: FloatArray


class Decided(Struct):
    """A drawn slate and everything that has to be logged of it."""

    rung: Rung
    slate: Slate
    scored: Scored
    chosen: Chosen
    facets: dict[str, str]
    seed: int
    is_holdout: bool
    new_user: bool
    aim: FloatArray | None
    is_held_back: bool


def decide(live: LiveState, call: Call) -> Decided | None:
    """Return the slate for a call; None where there is nothing to draw from."""
    record = call.record or SubjectRecord()
    asked = asked_of(live, call.request, record, call.subject, call.now_ms)
    visitor = visitor_of(record, call.request)
    holdout = in_holdout(call.subject, call.request.surface, call.holdout)
    facets = {**call.request.context, VISITOR: "new" if visitor.is_new else "returning"}
    chosen = live.laws(call.request.surface, call.now_ms).of(facets)
    chosen, is_held_back = _budgeted(live, call, chosen)
    if holdout:
        chosen = replace(chosen, law=_HOLDOUT_LAW)
    is_trend = holdout or chosen.is_fallback
    seed = decision_seed(call.decision_id, call.request.surface)
    owed = live.ledger.owed(call.request.surface, chosen.document, live.items, call.now_ms)
    found = retrieve(live, asked, call.request.k, owed=owed.window(seed), trend_only=is_trend)
    if not len(found.rows):
        return None
    scored = (
        _by_trend(live, found, asked, visitor)
        if is_trend
        else _score(live, call, asked, (found, visitor), chosen.law)
    )
    aim = None if is_trend else aim_at(owed, found.rows, scored.scores)
    weights = None if aim is None else explore_weights(aim)
    slate = draw_slate(
        SlateProblem(scored.scores, min(call.request.k, len(found.rows)), weights), chosen.law, seed
    )
    rung: Rung = "trend" if is_trend else _rung(call, asked)
    return Decided(rung, slate, scored, chosen, facets, seed, holdout, visitor.is_new, aim, is_held_back)


def _budgeted(live: LiveState, call: Call, chosen: Chosen) -> tuple[Chosen, bool]:
    """Return the exploration that the budgets leave, and whether it is less than the wished."""
    surface, document = call.request.surface, chosen.document
    share = live.ledger.allowed(surface, document, live.budget.cost_per_hour, call.now_ms)
    if share >= 1.0 or not chosen.law.is_stochastic:
        return chosen, False
    return replace(chosen, law=dataclasses.replace(chosen.law, rate=share * chosen.law.rate)), True


def aim_at(owed: Owed, rows: IntArray, scores: FloatArray) -> FloatArray | None:
    """Return what each candidate is owed, by its expected reward (k,); None where nobody is."""
    if not len(owed.rows):
        return None
    aim = owed_weights(owed.of(rows), scores)
    return aim if aim.any() else None


def in_holdout(subject: str, surface: str, share: float) -> bool:
    """Return whether a subject belongs to a surface's permanent hold-out."""
    return share > 0 and id_hash(f"holdout|{surface}|{subject}") < share * 2**64


def _rung(call: Call, asked: Asked) -> Rung:
    if call.record is not None and call.record.recent:
        return "personal"
    if len(asked.recent):
        return "session"
    return "segment" if asked.categories else "trend"


def _score(
    live: LiveState, call: Call, asked: Asked, given: tuple[Found, Visitor], law: Exploration
) -> Scored:
    found, visitor = given
    features = feature_matrix(live, asked, found, visitor)
    logits = live.scorer(call.request.surface).logits(features)
    context, arms = policy_context(visitor, found), policy_arms(features)
    block = np.frombuffer(call.record.bandit, dtype="<f8") if call.record and call.record.bandit else None
    optimistic = law.scheme == "optimistic"
    mean, variance = live.posterior.score_rows(
        context, arms, live.items.blocks[found.rows], block, with_variance=optimistic
    )
    return Scored(found, features, logits, context, arms, law.utilities(logits + mean, variance))


def _by_trend(live: LiveState, found: Found, asked: Asked, visitor: Visitor) -> Scored:
    features = feature_matrix(live, asked, found, visitor)
    logits = live.trends.scores(found.rows, asked.now_ms)[:, -1]
    return Scored(found, features, logits, policy_context(visitor, found), policy_arms(features), logits)


def answer_items(live: LiveState, decided: Decided) -> list[RecommendedItem]:
    """Return the slots as clients get them."""
    slate, found, items = decided.slate, decided.scored.found, live.items
    drawn = (slate.indices, found.rows[slate.indices], slate.propensities, slate.explored)
    return [
        RecommendedItem(
            items.ids[row], place, items.titles[row], SOURCES[found.sources[index]], propensity, explored
        )
        for place, (index, row, propensity, explored) in enumerate(
            zip(*(values.tolist() for values in drawn), strict=True)
        )
    ]


def to_event(live: LiveState, call: Call, decided: Decided) -> Decision:
    """Return the decision as it is logged: enough to replay the draw and recompute every propensity."""
    scored, slate = decided.scored, decided.slate
    chosen = slate.indices
    features = scored.features[chosen]
    features[:, _POSITION] = np.log1p(np.arange(len(chosen)))
    return Decision(
        event_id=call.decision_id,
        occurred_at=call.now_ms,
        session_id=call.request.session_id,
        user_id=call.request.user_id,
        surface=call.request.surface,
        rung=decided.rung,
        slots=_slots(live, decided, _flag(call, decided)),
        candidates=_candidates(live, scored),
        context=to_base64(scored.context),
        features=to_base64(features),
        arms=to_base64(scored.arms[chosen]),
        logits=to_base64(scored.logits[chosen]),
        exploration=_exploration(decided),
        versions=_versions(live, call, decided),
        seed=decided.seed,
        staleness_ms=call.staleness_ms,
        new_user=decided.new_user,
        facets=decided.facets,
        segment=decided.chosen.segment,
        held_back=decided.is_held_back,
        aimed=None if decided.aim is None else to_aimed(decided.aim),
    )


def _flag(call: Call, decided: Decided) -> Literal["", "fallback", "holdout"]:
    """Slots drawn by rule or without the subject's state teach no policy."""
    if decided.is_holdout:
        return "holdout"
    return "fallback" if call.record is None or decided.chosen.is_fallback else ""


def _slots(live: LiveState, decided: Decided, flag: Literal["", "fallback", "holdout"]) -> list[Slot]:
    slate, found = decided.slate, decided.scored.found
    drawn = (slate.indices, slate.propensities, slate.eligible, slate.explored)
    ids = live.items.names(found.rows[slate.indices])
    aim = np.zeros(len(found.rows)) if decided.aim is None else decided.aim
    return [
        Slot(item_id, propensity, eligible, explored, found.sources[index], flag, bool(aim[index]))
        for item_id, index, propensity, eligible, explored in zip(
            ids, *(values.tolist() for values in drawn), strict=True
        )
    ]


def _candidates(live: LiveState, scored: Scored) -> Candidates:
    found = scored.found
    ids, cuts = live.items.names(found.rows), list(found.cuts.items())[:LOGGED_CUTS]
    ids += [live.items.ids[row] for row, _ in cuts]
    return Candidates(ids, to_base64(scored.scores), found.sources, "".join([why for _, why in cuts]))


def _exploration(decided: Decided) -> dict[str, float | str]:
    law = decided.chosen.law
    return {
        "scheme": law.scheme,
        "rate": law.rate,
        "temperature": law.temperature,
        "optimism": law.optimism,
        "floor": law.floor,
        "gamma": law.gamma,
        "mode": law.mode,
    }


def _policy(decided: Decided) -> str:
    if decided.is_holdout:
        return "holdout-trend"
    return "fallback-trend" if decided.chosen.is_fallback else POLICY


def _versions(live: LiveState, call: Call, decided: Decided) -> Versions:
    return Versions(
        policy=_policy(decided),
        model=live.model_versions.get(call.request.surface, 0),
        exploration=decided.chosen.document.version,
        features=live.fingerprint,
    )
