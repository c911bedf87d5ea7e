"""What a closed decision is worth: the outcome it sends on and the policy update it makes."""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from bandits.hybrid import HybridConfig, Learnt, ShardLearner, SlotBatch
from state.events import Outcome, OutcomeSlot
from state.packing import FloatArray, from_base64, to_base64
from state.rules import SurfaceRules
from stream.attribution import Closed
from stream.kept import Kept
from stream.rewards import worth_of


class Judged(Struct):
    """A closed decision with its slots' rewards.

    Attributes
    ----------
    closed, decision
        What is known of it.
    places
        Slots that were shown, an item that stands in the slate twice at its first place only.
    rewards
        What each of them is worth.
    earned
        Whether each of them had a reward, or has its surface's default.
    """

    closed: Closed
    decision: Kept
    places: list[int]
    rewards: list[float]
    earned: list[bool]


def judge(closed: Closed, decision: Kept, rules: SurfaceRules) -> Judged:
    """Return which slots were shown and what each is worth."""
    items = [slot.item_id for slot in decision.slots]
    shown = set(items if closed.verdict == "assumed" else closed.entry.shown)
    places = [place for place, item_id in enumerate(items) if item_id in shown]
    if len(set(items)) < len(items):
        places = [place for place in places if items[place] not in items[:place]]
    if not closed.entry.rewards:
        return Judged(closed, decision, places, [rules.default_reward] * len(places), [False] * len(places))
    worths = [worth_of(closed.inside(items[place]), rules) for place in places]
    rewards = [rules.default_reward if worth is None else worth for worth in worths]
    return Judged(closed, decision, places, rewards, [worth is not None for worth in worths])


def to_outcome(judged: Judged, lane: int, closed_at: int, heads: Sequence[str] = ()) -> Outcome:
    """Return the message that closes a whole decision; `heads` are those whose labels are known."""
    decision = judged.decision
    earnings = zip(judged.places, judged.rewards, judged.earned, strict=True)
    slots = [_outcome_slot(decision, *earning) for earning in earnings]
    if judged.closed.entry.labels:
        for slot in slots:
            slot.earned = judged.closed.earned(slot.item_id)
    features, logits = decision.features, _floats(decision.logits)
    if len(slots) != len(decision.slots):
        features = to_base64(from_base64(features).reshape(len(decision.slots), -1)[judged.places])
        logits = logits[judged.places]
    return Outcome(
        event_id=judged.closed.decision_id,
        occurred_at=closed_at,
        subject=judged.closed.entry.subject,
        surface=decision.surface,
        lane=lane,
        shown_at=judged.closed.shown_at,
        slots=slots,
        features=features,
        logits=to_base64(logits),
        versions=decision.versions,
        rung=decision.rung,
        unseen=judged.closed.verdict == "assumed",
        labels=list(heads),
        facets=decision.facets,
        coins=decision.coins,
        shadows=decision.shadows,
    )


def _outcome_slot(decision: Kept, place: int, reward: float, earned: bool) -> OutcomeSlot:
    slot = decision.slots[place]
    defaulted = reward > 0 and not earned
    return OutcomeSlot(
        slot.item_id, place, reward, slot.propensity, slot.explored, slot.flag, defaulted=defaulted
    )


def _floats(raw: bytes) -> FloatArray:
    return np.frombuffer(raw, "<f8")


class _Taught(Struct):
    """What one closed decision teaches the policy: its unflagged shown slots."""

    context: FloatArray
    arms: FloatArray
    logits: FloatArray
    rewards: list[float]
    item_ids: list[str]
    subject: str


def learn_policy(
    learner: ShardLearner, judged: Sequence[Judged], blocks: Mapping[str, FloatArray], at_ms: int
) -> Learnt | None:
    """Learn from closed decisions at an event time; flagged slots (fallback, hold-out) teach nothing."""
    parts = [part for one in judged if (part := _taught(one, learner.config)) is not None]
    if not parts:
        return None
    counts = [len(part.rewards) for part in parts]
    batch = SlotBatch(
        np.repeat([part.context for part in parts], counts, axis=0),
        np.concatenate([part.arms for part in parts]),
        [item_id for part in parts for item_id in part.item_ids],
        [part.subject for part in parts for _ in part.item_ids],
        np.array([reward for part in parts for reward in part.rewards]),
        np.concatenate([part.logits for part in parts]),
        at_ms,
    )
    return learner.learn(batch, blocks)


def _taught(one: Judged, config: HybridConfig) -> _Taught | None:
    """Return what there is to learn; None where a version with other features logged it, or nothing is."""
    slots, context, arms = one.decision.slots, _floats(one.decision.context), _floats(one.decision.arms)
    if len(context) != config.context_dim or len(arms) != len(slots) * config.item_dim:
        return None
    places, rewards = one.places, one.rewards
    if any(slot.flag for slot in slots):
        taught = [pair for pair in zip(places, rewards, strict=True) if not slots[pair[0]].flag]
        places, rewards = [place for place, _ in taught], [reward for _, reward in taught]
    if not places:
        return None
    return _Taught(
        context,
        arms.reshape(len(slots), -1)[places],
        _floats(one.decision.logits)[places],
        rewards,
        [slots[place].item_id for place in places],
        one.closed.entry.subject,
    )
