"""The decision path: candidates, features, click model, bandit, slate; nothing reorders after the draw."""

import dataclasses
from typing import Literal, cast

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from bandits.exploration import Exploration
from bandits.ranking import unseal
from bandits.slates import Slate, decision_seed, draw_slate
from online_models.ranking import ranking_registry
from serving.aiming import aim_at, aimed, budgeted, to_log
from serving.candidates import SOURCES, Found, retrieve
from serving.exploring import Chosen
from serving.features import Visitor, feature_matrix, policy_arms, policy_context
from serving.items import BoolArray, IntArray
from serving.live import LiveState
from serving.merchandising import NO_HASHES, Hashes, Wishes, wishes_of
from serving.pinning import is_pinned, pinned_of, with_pins
from serving.placing import Placed, freshness, place
from serving.requests import RecommendationRequest, RecommendedItem
from serving.shadows import ScoresBy
from serving.sources import Asked
from serving.visitor import asked_of, visitor_of
from state.events import Candidates, Decision, Slot, Versions
from state.exploration import VISITOR
from state.packing import FloatArray, to_base64
from state.ranking import Rankings
from state.subject import SubjectRecord, id_hash

POLICY = "hybrid-2"
_POSITION = ranking_registry().place("position")
_NO_RANKING = Rankings()
_HOLDOUT_LAW = Exploration(scheme="greedy")

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
    earlier
        Hashes of the items that earlier pages have shown.
    remembered
        What this server read of the subject a while ago, where the store did not answer now.
    """

    request: RecommendationRequest
    subject: str
    record: SubjectRecord | None
    decision_id: str
    now_ms: int
    staleness_ms: int
    holdout: float
    earlier: Hashes = NO_HASHES
    remembered: SubjectRecord | None = None


class Scored(Struct):
    """Candidates with the numbers they were drawn by.

    ``scores`` are the click model's ``logits``, the ``policy``'s mean and ``lifts`` together, with optimism;
    ``mean`` is without.
    """

    found: Found
    features: FloatArray
    logits: FloatArray
    context: FloatArray
    arms: FloatArray
    scores: FloatArray
    mean: FloatArray
    variance: FloatArray | None
    policy: FloatArray | None = None
    lifts: FloatArray | None = None


class Decided(Struct):
    """A slate and everything that has to be logged of it.

    ``slate`` is as shown; ``drawn`` counts what was drawn down to each slot where something is pinned.
    """

    rung: Rung
    slate: Slate
    scored: Scored
    chosen: Chosen
    ranking: Rankings
    placed: Placed
    aim: FloatArray | None
    is_owed: BoolArray
    seed: int
    is_holdout: bool
    new_user: bool
    wishes: Wishes | None = None
    drawn: IntArray | None = None


def decide(live: LiveState, call: Call) -> Decided | None:
    """Return the slate for a call; None where there is nothing to draw from."""
    record = call.record or call.remembered or SubjectRecord()
    holdout = in_holdout(call.subject, call.request.surface, call.holdout)
    visitor = visitor_of(record, call.request)
    facets = {**call.request.context, VISITOR: "new" if visitor.is_new else "returning"}
    chosen = live.laws(call.request.surface, call.now_ms).of(facets)
    chosen = budgeted(live, call.request.surface, chosen, call.now_ms)
    if holdout:
        chosen = replace(chosen, law=_HOLDOUT_LAW)
    is_trend = holdout or chosen.is_fallback
    seed = decision_seed(call.decision_id, call.request.surface)
    owed = live.ledger.owed(call.request.surface, chosen.document, call.now_ms)
    window = owed.window(seed)
    asked = asked_of(live, call.request, record, call.subject, call.now_ms)
    wishes = _wishes(live, call, is_holdout=holdout)
    asked = replace(asked, owed=window, trend_only=is_trend, wishes=wishes)
    if len(call.earlier):
        asked = replace(
            asked, earlier=call.earlier, seen_hashes=np.concatenate([asked.seen_hashes, call.earlier])
        )
    found = retrieve(live, asked, call.request.k)
    if not len(found.rows):
        return None
    scored = (
        _by_trend(live, found, call, visitor)
        if is_trend
        else _score(live, call, (found, visitor, wishes), chosen.law)
    )
    ranking = _NO_RANKING if is_trend else live.ranking(call.request.surface)
    pins, positions = pinned_of(found, wishes)
    size = min(call.request.k, len(found.rows)) - len(pins)
    aim = None if is_trend else aim_at(owed, window, found.rows)
    drawn_from = scored.scores, aimed(aim, scored.scores)
    placed = place(drawn_from, size, chosen.law, (ranking, live.items, found.rows))
    if len(pins):
        placed = replace(placed, problem=dataclasses.replace(placed.problem, pinned=pins))
    slate, drawn = draw_slate(placed.problem, chosen.law, seed), None
    if len(pins):
        slate, drawn = with_pins(slate, pins, positions)
    rung: Rung = "trend" if is_trend else _rung(live, call, asked)
    is_new = owed.of(found.rows[slate.indices]) > 0.0
    return Decided(
        rung,
        slate,
        scored,
        chosen,
        ranking,
        placed,
        aim,
        is_new,
        seed,
        holdout,
        visitor.is_new,
        wishes,
        drawn,
    )


def _wishes(live: LiveState, call: Call, *, is_holdout: bool) -> Wishes | None:
    rules = live.rules(call.request.surface)
    catalogue = live.items, live.filters
    return wishes_of(rules, call.request, catalogue, call.now_ms, is_holdout=is_holdout)


def in_holdout(subject: str, surface: str, share: float) -> bool:
    """Return whether a subject belongs to a surface's permanent hold-out."""
    return share > 0 and id_hash(f"holdout|{surface}|{subject}") < share * 2**64


def _rung(live: LiveState, call: Call, asked: Asked) -> Rung:
    if call.record is not None and call.record.recent:
        return "personal"
    if len(asked.recent):
        return "session"
    is_known = any(live.groups.has_enough(name, asked.now_ms) for name in asked.where.facets)
    return "segment" if asked.categories or is_known else "trend"


def _score(
    live: LiveState, call: Call, given: tuple[Found, Visitor, Wishes | None], law: Exploration
) -> Scored:
    found, visitor, wishes = given
    features = feature_matrix(live, found, visitor)
    logits = live.scorer(call.request.surface).logits(features)
    context, arms = policy_context(visitor, found), policy_arms(features)
    own = unseal(call.record.bandit) if call.record else None
    block = None if own is None else np.frombuffer(own, dtype="<f8")
    optimistic = law.scheme == "optimistic" or live.shadows(call.request.surface).needs_variance
    policy, variance = live.posterior.score_rows(
        context, arms, live.items.blocks[found.rows], block, with_variance=optimistic
    )
    mean, lifts, ranking = logits + policy, None, live.ranking(call.request.surface)
    if ranking.freshness:
        lifts = freshness(ranking, live.items.published_at[found.rows], call.now_ms)
    if wishes is not None and (boosts := wishes.lifts(found.rows)) is not None:
        lifts = boosts if lifts is None else lifts + boosts
    if lifts is not None:
        mean = mean + lifts
    scores = law.utilities(mean, variance)
    return Scored(found, features, logits, context, arms, scores, mean, variance, policy, lifts)


def _by_trend(live: LiveState, found: Found, call: Call, visitor: Visitor) -> Scored:
    features = feature_matrix(live, found, visitor)
    logits = live.trends.scores(found.rows, call.now_ms)[:, -1]
    context, arms = policy_context(visitor, found), policy_arms(features)
    return Scored(found, features, logits, context, arms, logits, logits, None)


def answer_items(live: LiveState, decided: Decided, before: int = 0) -> list[RecommendedItem]:
    """Return the slots as clients get them; earlier pages have shown so many items."""
    slate, found, items = decided.slate, decided.scored.found, live.items
    drawn = (slate.indices, found.rows[slate.indices], slate.propensities, slate.explored)
    return [
        RecommendedItem(
            items.ids[row], place, items.titles[row], SOURCES[found.sources[index]], propensity, explored
        )
        for place, (index, row, propensity, explored) in enumerate(
            zip(*(values.tolist() for values in drawn), strict=True), start=before
        )
    ]


def to_event(live: LiveState, call: Call, decided: Decided) -> Decision:
    """Return the decision as it is logged: enough to replay the draw and recompute every propensity."""
    scored, slate = decided.scored, decided.slate
    chosen = slate.indices
    features = scored.features[chosen]
    features[:, _POSITION] = np.log1p(len(call.earlier) + np.arange(len(chosen)))
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
        facets=call.request.context,
        segment=decided.chosen.segment,
        held_back=decided.chosen.is_held_back,
        aimed=to_log(decided.aim),
        placing=decided.placed.logged,
        shadows=_shadows(live, call, decided),
        weights=None if scored.policy is None else live.weights(call.request.surface),
        policy=_packed(scored.policy, chosen),
        lifts=_packed(scored.lifts, chosen),
        before=len(call.earlier),
        rules=[] if decided.wishes is None else [name for name, _ in decided.wishes.hidden_by],
    )


def _packed(values: FloatArray | None, chosen: IntArray) -> str:
    return "" if values is None else to_base64(values[chosen])


def _shadows(live: LiveState, call: Call, decided: Decided) -> dict[str, str]:
    """Return what shadow policies say of a slate; nothing of one that no policy drew."""
    shadows, scored = live.shadows(call.request.surface), decided.scored
    if not shadows or _flag(call, decided):
        return {}
    by = ScoresBy(
        scored.mean,
        scored.variance,
        scored.logits,
        lambda: live.trends.scores(scored.found.rows, call.now_ms)[:, -1],
    )
    return shadows.weights(decided.placed.problem, decided.slate, by, decided.drawn)


def _flag(call: Call, decided: Decided) -> Literal["", "fallback", "holdout"]:
    """Slots drawn by rule or without the subject's state teach no policy."""
    if decided.is_holdout:
        return "holdout"
    return "fallback" if call.record is None or decided.chosen.is_fallback else ""


def _slots(live: LiveState, decided: Decided, flag: Literal["", "fallback", "holdout"]) -> list[Slot]:
    slate, found, ids = decided.slate, decided.scored.found, live.items.ids
    how = (slate.propensities, slate.eligible, slate.explored, decided.is_owed)
    drawn = (slate.indices, found.rows[slate.indices], *how)
    slots = [
        Slot(ids[row], propensity, eligible, explored, found.sources[index], flag, owed)
        for index, row, propensity, eligible, explored, owed in zip(
            *(values.tolist() for values in drawn), strict=True
        )
    ]
    if decided.drawn is not None:
        for place in np.flatnonzero(is_pinned(decided.drawn)).tolist():
            slots[place].flag = "pinned"
    return slots


def _candidates(live: LiveState, scored: Scored) -> Candidates:
    found = scored.found
    rows = np.concatenate([found.rows, found.cut_rows])
    # Only ever encoded: a list of texts that is JSON already costs a tenth of making one of objects.
    ids = cast("list[str]", live.items.json_ids(rows))
    return Candidates(ids, to_base64(scored.scores), found.sources, found.cuts, found.uncut)


def _exploration(decided: Decided) -> dict[str, float | str]:
    law = decided.chosen.law
    said: dict[str, float | str] = {
        "scheme": law.scheme,
        "rate": law.rate,
        "temperature": law.temperature,
        "optimism": law.optimism,
        "floor": law.floor,
    }
    if law.scheme == "squarecb":
        said["gamma"] = law.gamma
    return said if law.mode == "every_slot" else {**said, "mode": law.mode}


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
        ranking=decided.ranking.version,
        rules=live.rules(call.request.surface).document.version,
    )
