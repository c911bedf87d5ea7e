"""The rules a unit folds under, as its journal keeps them: a replay has to fold under the same."""

import hashlib
from typing import Any

import msgspec

from online_models.ranking import ranking_registry
from state.keys import CONTROL
from state.settings import Settings
from stream.units import shard_rules

FOLD_VERSION = 5
"""Raised whenever the same events fold to another state than before."""

Rules = dict[str, Any]
# Times to live only collect garbage, lateness only moves the watermark, which the journal keeps, and what is
# said of an erasure is written on the erasure list alone, which a replay reads instead of making.
_WITHOUT_EFFECT = {"signer", "lateness_ms", "subject_ttl_ms", "decision_ttl_ms", "erasure"}


def unit_rules(settings: Settings, unit: str) -> Rules:
    """Return the rules of a unit by name, as JSON has them; the secret only as a keyed digest."""
    rules: Rules = {"fold": FOLD_VERSION, "max_skew_ms": settings.max_skew_ms}
    if unit.isdigit():
        told = shard_rules(settings)
        names = [name for name in told.__struct_fields__ if name not in _WITHOUT_EFFECT]
        rules |= {name: getattr(told, name) for name in names}
        rules["token_secret"] = _digest(settings.secret())
    elif unit == CONTROL:
        rules |= {"dwell_ms": settings.dwell_ms, "lanes": settings.lanes}
    elif unit.startswith("m"):
        registry = ranking_registry()
        rules |= {"features": registry.fingerprint(), "crosses": registry.declaration()}
    plain: Rules = msgspec.json.decode(msgspec.json.encode(rules, enc_hook=repr))
    return plain


def differences(journalled: Rules, ours: Rules) -> list[str]:
    """Return what differs, one phrase a rule; digests are not shown."""
    names = sorted(name for name in {*journalled, *ours} if journalled.get(name) != ours.get(name))
    return [
        name if name == "token_secret" else f"{name} was {journalled.get(name)!r}, is {ours.get(name)!r}"
        for name in names
    ]


def _digest(secret: bytes) -> str:
    return hashlib.blake2b(b"rules", key=secret[:64], digest_size=8).hexdigest()
