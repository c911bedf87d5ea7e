"""What a closed decision is worth: the outcome it sends on and the policy update it makes."""

import binascii
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from msgspec import Struct

from bandits.hybrid import HybridConfig, Learnt, ShardLearner, SlotBatch
from state.decoding import Refusal
from state.events import NEW_SOURCE, Coins, Decision, Outcome, OutcomeSlot, Slot, Versions
from state.packing import FloatArray, from_base64, to_base64
from state.rules import SurfaceRules
from stream.attribution import Closed
from stream.rewards import worth_of

_WIDTH = 8  # bytes of a float64


class Kept(Struct, array_like=True):
    """What a shard keeps of a decision until its window closes: all that is learnt from, no candidates.

    ``context`` (dc,), ``arms`` (slots, di) and ``logits`` (slots,) are the bytes of little-endian float64;
    ``features`` (slots, f) stays packed, as it is most often sent on unchanged.
    """

    surface: str
    rung: str
    versions: Versions
    slots: list[Slot]
    context: bytes
    arms: bytes
    logits: bytes
    features: str
    facets: dict[str, str] = {}
    coins: Coins | None = None
    shadows: dict[str, str] = {}


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


_decoder = msgspec.msgpack.Decoder(Kept)
encode_kept = msgspec.msgpack.Encoder().encode


def decode_kept(raw: bytes) -> Kept:
    """Return what `encode_kept` made bytes of."""
    return _decoder.decode(raw)


def keep(decision: Decision) -> Kept:
    """Return what has to be kept of a decision.

    Raises
    ------
    Refusal
        If one of its arrays is not base64 of finite numbers, or does not have one row a slot: nothing could
        be learnt from it.
    """
    slots = len(decision.slots)
    context = _numbers(decision, "context", 1)
    features = _numbers(decision, "features", slots)
    arms, logits = _numbers(decision, "arms", slots), _numbers(decision, "logits", slots)
    if len(logits) != _WIDTH * slots or not _finite(context, features, arms, logits):
        raise _refused(decision, slots)
    return Kept(
        decision.surface, decision.rung, decision.versions, decision.slots, context, arms, logits,
        decision.features, decision.facets, coins_of(decision), decision.shadows,
    )  # fmt: skip


def coins_of(decision: Decision) -> Coins | None:
    """Return how a decision explored; None where no policy drew it, or its slots had different rates.

    A floor raises the rate of slots with many candidates, so that the slots of one slate toss unequal coins.
    """
    drawn = [slot for slot in decision.slots if not slot.flag]
    law = decision.exploration
    if not drawn or any(slot.flag in ("fallback", "holdout") for slot in decision.slots):
        return None
    rate, floor = (float(law.get(name) or 0.0) for name in ("rate", "floor"))
    single = law.get("mode") == "single_slot"
    if law.get("scheme") == "greedy":
        rate = 0.0
    elif floor * max(slot.eligible for slot in drawn) * (len(drawn) if single else 1) > rate:
        return None
    tossed = 1 if single else len(drawn)
    fresh = [slot.explored for slot in drawn if slot.source == NEW_SOURCE]
    return Coins(
        rate,
        tossed,
        min(tossed, sum(slot.explored for slot in drawn)),
        single=single,
        segment=decision.segment,
        fresh=sum(fresh),
        fresh_else=len(fresh) - sum(fresh),
    )


def _numbers(decision: Decision, name: str, rows: int) -> bytes:
    text: str = getattr(decision, name)
    try:
        raw = binascii.a2b_base64(text)
    except ValueError as error:
        raise Refusal("out_of_bounds", name, text, f"base64 of float64 numbers ({error})") from None
    if len(raw) % _WIDTH:
        wished = f"base64 of float64 numbers ({len(raw)} bytes are no whole number of them)"
        raise Refusal("out_of_bounds", name, text, wished)
    if len(raw) // _WIDTH % rows if rows else raw:
        raise Refusal("out_of_bounds", name, text, f"one row for each of {rows} slots")
    return raw


def _finite(*raws: bytes) -> bool:
    return bool(np.isfinite(np.frombuffer(b"".join(raws), "<f8")).all())


def _refused(decision: Decision, slots: int) -> Refusal:
    """Return the refusal of the array that is wrong; looked for only once one is known to be."""
    for name in ("context", "features", "arms", "logits"):
        values = from_base64(getattr(decision, name))
        if not np.isfinite(values).all():
            break
    wished = f"finite numbers, one row for each of {slots} slots"
    return Refusal("out_of_bounds", name, values.tolist(), wished)


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
