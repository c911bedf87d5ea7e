"""Decisions and outcomes as rows of Parquet files, by the schema that docs/export.md describes."""

from collections.abc import Callable
from typing import Any

import msgspec

from state.events import Decision, Outcome, Versions, encode
from state.packing import from_base64

Decode = Callable[[bytes], dict[str, Any]]


def schemas() -> dict[str, Any]:
    """Return topic kind -> Arrow schema; needs pyarrow."""
    import pyarrow as pa  # noqa: PLC0415 an optional extra

    text, floats, when = pa.string(), pa.list_(pa.float64()), pa.timestamp("ms", "UTC")
    slot = [("item_id", text), ("propensity", pa.float64()), ("explored", pa.bool_()), ("flag", text)]
    versions = [
        ("policy", text), ("model_version", pa.int64()), ("exploration_version", pa.int64()),
        ("feature_version", text),
    ]  # fmt: skip
    place = [("partition", pa.int32()), ("offset", pa.int64())]
    decision = [
        ("decision_id", text), ("occurred_at", when), ("subject", text), ("session_id", text),
        ("user_id", text), ("surface", text), ("rung", text),
        ("slots", pa.list_(pa.struct([*slot, ("eligible", pa.int32()), ("source", text)]))),
        ("candidates", pa.list_(text)), ("scores", floats), ("sources", text), ("cuts", text),
        ("context", floats), ("arms", floats), ("features", floats), ("logits", floats),
        ("exploration", text), ("seed", text), ("staleness_ms", pa.int64()), ("new_user", pa.bool_()),
    ]  # fmt: skip
    outcome = [
        ("decision_id", text), ("closed_at", when), ("shown_at", when), ("subject", text), ("surface", text),
        ("lane", pa.int32()), ("rung", text),
        ("slots", pa.list_(pa.struct([*slot, ("position", pa.int32()), ("reward", pa.float64())]))),
        ("features", floats), ("logits", floats),
    ]  # fmt: skip
    return {
        "decisions": pa.schema([*decision, *versions, *place]),
        "outcomes": pa.schema([*outcome, *versions, *place]),
    }


def decode_decision(raw: bytes) -> dict[str, Any]:
    """Return a logged decision as a row."""
    event = _decision(raw)
    candidates = event.candidates
    return {
        "decision_id": event.event_id,
        "occurred_at": event.occurred_at,
        "subject": event.subject,
        "session_id": event.session_id,
        "user_id": event.user_id,
        "surface": event.surface,
        "rung": event.rung,
        "slots": [msgspec.structs.asdict(slot) for slot in event.slots],
        "candidates": candidates.item_ids,
        "scores": from_base64(candidates.scores),
        "sources": candidates.sources,
        "cuts": candidates.cuts,
        **{name: from_base64(getattr(event, name)) for name in ("context", "arms", "features", "logits")},
        "exploration": encode(event.exploration).decode(),
        "seed": str(event.seed),
        "staleness_ms": event.staleness_ms,
        "new_user": event.new_user,
        **_versions(event.versions),
    }


def decode_outcome(raw: bytes) -> dict[str, Any]:
    """Return a closed decision as a row."""
    event = _outcome(raw)
    return {
        "decision_id": event.event_id,
        "closed_at": event.occurred_at,
        "shown_at": event.shown_at,
        "subject": event.subject,
        "surface": event.surface,
        "lane": event.lane,
        "rung": event.rung,
        "slots": [msgspec.structs.asdict(slot) for slot in event.slots],
        **{name: from_base64(getattr(event, name)) for name in ("features", "logits")},
        **_versions(event.versions),
    }


_decision = msgspec.json.Decoder(Decision).decode
_outcome = msgspec.json.Decoder(Outcome).decode
DECODERS: dict[str, tuple[Decode, str]] = {
    "decisions": (decode_decision, "occurred_at"),
    "outcomes": (decode_outcome, "closed_at"),
}


def _versions(versions: Versions) -> dict[str, Any]:
    return {
        "policy": versions.policy,
        "model_version": versions.model,
        "exploration_version": versions.exploration,
        "feature_version": versions.features,
    }
