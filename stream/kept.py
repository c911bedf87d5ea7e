"""What a shard keeps of a decision until its window closes; who logs anything else is told what is wished."""

import binascii
import re
from collections.abc import Mapping

import msgspec
import numpy as np
from msgspec import Struct

from online_models.ranking import ranking_registry
from state.decoding import Refusal
from state.events import NEW_SOURCE, Coins, Decision, Slot, Versions
from state.packing import FloatArray, from_base64
from state.tokens import decision_time

_WIDTH = 8  # bytes of a float64
_FEATURES = ranking_registry()
_POSITION = _FEATURES.place("position")
_SHADOW = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}@[0-9]{1,15}")


class Kept(Struct, array_like=True):
    """What a shard keeps of a decision until its window closes: all that is learnt from, no candidates.

    ``context`` (dc,), ``arms`` (slots, di) and ``logits`` (slots,), the click model's where each slot stands,
    are the bytes of little-endian float64; ``features`` (slots, f) stays packed, as it is most often sent on
    unchanged.
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
        If its id is none, or one of its numbers or arrays cannot be learnt from: arrays are base64 of finite
        numbers and have one row a slot, chances lie in [0, 1], weights of shadows are not negative.
    """
    _check_id(decision)
    slots = len(decision.slots)
    context = _numbers(decision, "context", 1)
    features = _numbers(decision, "features", slots)
    arms, logits = _numbers(decision, "arms", slots), _numbers(decision, "logits", slots)
    if len(logits) != _WIDTH * slots or not _finite(context, features, arms, logits):
        raise _refused(decision, slots)
    for named in decision.shadows:
        _check_shadow(decision, named)
    logits = _at_place(decision, features, logits)
    return Kept(
        decision.surface, decision.rung, decision.versions, decision.slots, context, arms, logits,
        decision.features, decision.facets, coins_of(decision), decision.shadows,
    )  # fmt: skip


def _at_place(decision: Decision, features: bytes, logits: bytes) -> bytes:
    """Return the click model's logits of slots where they stand; a draw takes them as if at the top.

    The policy learns to these: to the others it would learn that what stands low is worth less.
    """
    if decision.weights is None or decision.versions.features != _FEATURES.fingerprint():
        return logits
    try:
        weights = from_base64(decision.weights.features)
    except ValueError:
        return logits
    width = len(_FEATURES)
    if len(weights) != 1 + width or len(features) != _WIDTH * width * len(decision.slots):
        return logits
    rows = np.frombuffer(features, "<f8").reshape(len(decision.slots), width)
    with np.errstate(over="ignore", invalid="ignore"):
        placed: FloatArray = np.frombuffer(logits, "<f8") + weights[1 + _POSITION] * rows[:, _POSITION]
    return placed.tobytes() if np.isfinite(placed).all() else logits


def coins_of(decision: Decision) -> Coins | None:
    """Return how a decision explored; None where no policy drew it, or its slots had different rates.

    A floor raises the rate of slots with many candidates, so that the slots of one slate toss unequal coins.
    """
    drawn = [slot for slot in decision.slots if not slot.flag]
    law = decision.exploration
    if not drawn or any(slot.flag in ("fallback", "holdout") for slot in decision.slots):
        return None
    rate, floor = _chance(law, "rate"), _chance(law, "floor")
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


def _check_id(decision: Decision) -> None:
    try:
        decided_at = decision_time(decision.event_id)
    except ValueError as error:
        raise Refusal("out_of_bounds", "event_id", decision.event_id, str(error)) from None
    if decided_at > decision.occurred_at:
        wished = f"an id of a time up to {decision.occurred_at}, when it occurred"
        raise Refusal("out_of_bounds", "event_id", decision.event_id, wished)


def _chance(law: Mapping[str, float | str], name: str) -> float:
    said = law.get(name) or 0.0
    if isinstance(said, str) or not 0.0 <= said <= 1.0:
        raise Refusal("out_of_bounds", f"exploration.{name}", said, "a number from 0 to 1")
    return float(said)


def _check_shadow(decision: Decision, named: str) -> None:
    if not _SHADOW.fullmatch(named):
        raise Refusal("out_of_bounds", "shadows", named, "the name of a shadow policy, @ and its version")
    where, slots = f"shadows.{named}", len(decision.slots)
    weights = np.frombuffer(_floats_of(where, decision.shadows[named], slots), "<f8")
    if len(weights) != slots or not np.isfinite(weights).all() or (weights < 0.0).any():
        wished = f"finite weights of at least 0, one for each of {slots} slots"
        raise Refusal("out_of_bounds", where, weights.tolist(), wished)


def _numbers(decision: Decision, name: str, rows: int) -> bytes:
    return _floats_of(name, getattr(decision, name), rows)


def _floats_of(name: str, text: str, rows: int) -> bytes:
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
