"""What a closed decision is worth: the outcome it sends on and the policy update it makes."""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from bandits.hybrid import HybridConfig, Learnt, ShardLearner, SlotBatch
from state.decoding import Refusal
from state.events import Decision, Outcome, OutcomeSlot
from state.packing import FloatArray, from_base64, to_base64
from stream.attribution import Closed


class Judged(Struct):
    """A closed decision with its slots' rewards; only slots the impression listed are in ``places``."""

    closed: Closed
    decision: Decision
    places: list[int]
    rewards: list[float]


def check_arrays(decision: Decision) -> None:
    """Refuse a decision whose arrays nothing could be learnt from, before its window opens.

    Raises
    ------
    Refusal
        If one is not base64 of finite numbers, or does not have one row a slot.
    """
    slots = len(decision.slots)
    for name, rows in (("context", 1), ("features", slots), ("arms", slots), ("logits", slots)):
        text: str = getattr(decision, name)
        try:
            values = from_base64(text)
        except ValueError as error:
            raise Refusal("out_of_bounds", name, text, f"base64 of float64 numbers ({error})") from None
        uneven = len(values) % rows if rows else len(values)
        if uneven or (name == "logits" and len(values) != slots) or not np.isfinite(values).all():
            wished = f"finite numbers, one row for each of {slots} slots"
            raise Refusal("out_of_bounds", name, values.tolist(), wished)


def judge(closed: Closed, decision: Decision, window_ms: int) -> Judged:
    """Return which slots were shown and what each earned."""
    shown = set(closed.entry.shown)
    places = [place for place, slot in enumerate(decision.slots) if slot.item_id in shown]
    rewards = [closed.reward(decision.slots[place].item_id, window_ms) for place in places]
    return Judged(closed, decision, places, rewards)


def to_outcome(judged: Judged, lane: int, closed_at: int) -> Outcome:
    """Return the message that closes a whole decision."""
    decision, places = judged.decision, judged.places
    slots = [
        _outcome_slot(decision, place, reward) for place, reward in zip(places, judged.rewards, strict=True)
    ]
    return Outcome(
        event_id=judged.closed.decision_id,
        occurred_at=closed_at,
        subject=judged.closed.entry.subject,
        surface=decision.surface,
        lane=lane,
        shown_at=judged.closed.entry.shown_at,
        slots=slots,
        features=to_base64(_rows(decision.features, decision)[places]),
        logits=to_base64(from_base64(decision.logits)[places]),
        versions=decision.versions,
        rung=decision.rung,
    )


def _outcome_slot(decision: Decision, place: int, reward: float) -> OutcomeSlot:
    slot = decision.slots[place]
    return OutcomeSlot(slot.item_id, place, reward, slot.propensity, slot.explored, slot.flag)


def _rows(packed: str, decision: Decision) -> FloatArray:
    values = from_base64(packed)
    return values.reshape(len(decision.slots), -1) if decision.slots else values.reshape(0, 0)


def learn_policy(
    learner: ShardLearner, judged: Sequence[Judged], blocks: Mapping[str, FloatArray], config: HybridConfig
) -> Learnt | None:
    """Learn from closed decisions; flagged slots (pinned, fallback, hold-out) teach nothing."""
    contexts, arms, ids, users, rewards, offsets = [], [], [], [], [], []
    for one in judged:
        context, rows = from_base64(one.decision.context), _rows(one.decision.arms, one.decision)
        logits = from_base64(one.decision.logits)
        if context.shape != (config.context_dim,) or rows.shape[1:] != (config.item_dim,):
            continue  # logged by a version with other features: nothing this policy could learn from
        for place, reward in zip(one.places, one.rewards, strict=True):
            if not one.decision.slots[place].flag:
                contexts.append(context)
                arms.append(rows[place])
                ids.append(one.decision.slots[place].item_id)
                users.append(one.closed.entry.subject)
                rewards.append(reward)
                offsets.append(logits[place])
    if not ids:
        return None
    batch = SlotBatch(np.array(contexts), np.array(arms), ids, users, np.array(rewards), np.array(offsets))
    return learner.learn(batch, blocks)
