"""Every Redis key, one function each; a shard's keys share one hash tag so that they commit together."""

CONTROL = "c"


def subject_unit(shard: int) -> str:
    """Return the unit name of a subject shard."""
    return str(shard)


def item_unit(shard: int) -> str:
    """Return the unit name of an item shard."""
    return f"i{shard}"


def lane_unit(lane: int) -> str:
    """Return the unit name of a model lane."""
    return f"m{lane}"


def unit_prefix(namespace: str, unit: str) -> str:
    """Return the common start of all keys of a unit (a shard, item shard, lane or control)."""
    return f"{{{namespace}:{unit}}}:"


def meta_key(prefix: str) -> str:
    """Hash: epoch, commit number, next offsets, watermark, outbox number."""
    return f"{prefix}meta"


def offset_field(kind: str) -> str:
    """Return the field of a unit's meta hash that holds the next offset of a topic to read."""
    return f"o:{kind}"


def hold_key(prefix: str) -> str:
    """Value: who reads the unit just now; while it is there, nothing commits."""
    return f"{prefix}hold"


def feed_key(prefix: str) -> str:
    """Stream of changes, one entry per commit, id = commit number."""
    return f"{prefix}feed"


def outbox_key(prefix: str) -> str:
    """List of derived messages not yet sent to Kafka."""
    return f"{prefix}outbox"


def subject_key(prefix: str, subject: str) -> str:
    """Value: one subject's record."""
    return f"{prefix}s:{subject}"


def decision_key(prefix: str, decision_id: str) -> str:
    """Value: one decision as logged."""
    return f"{prefix}d:{decision_id}"


def decisions_of_key(prefix: str, subject: str) -> str:
    """Sorted set: ids of a subject's stored decisions, by when each was written."""
    return f"{prefix}sd:{subject}"


def erased_key(prefix: str) -> str:
    """Hash: the shard's erasure list, by keyed hash of the subject."""
    return f"{prefix}erased"


def open_key(prefix: str) -> str:
    """Hash: decisions whose window is open."""
    return f"{prefix}open"


def counters_key(prefix: str) -> str:
    """Hash: event and attribution counters."""
    return f"{prefix}counters"


def redriven_key(prefix: str) -> str:
    """Hash: dead letters whose re-driven events were folded, and when."""
    return f"{prefix}redriven"


def attribution_key(prefix: str) -> str:
    """Hash: attribution counts by surface."""
    return f"{prefix}attribution"


def producers_key(prefix: str) -> str:
    """Hash: what is known of each producer, by its name."""
    return f"{prefix}producers"


def trends_key(prefix: str) -> str:
    """Hash: decayed counts by item."""
    return f"{prefix}trends"


def newcomers_key(prefix: str) -> str:
    """Hash: progress of new items, by surface and item."""
    return f"{prefix}newcomers"


def spending_key(prefix: str) -> str:
    """Hash: what exploration did lately, by surface."""
    return f"{prefix}spending"


def tried_key(prefix: str) -> str:
    """Hash: how each version of an exploration document did, by surface and version."""
    return f"{prefix}tried"


def sessions_key(prefix: str) -> str:
    """Hash: recent sessions for the session index."""
    return f"{prefix}sessions"


def bandit_key(prefix: str) -> str:
    """Hash: the shard's accumulators of the shared block and of each item block."""
    return f"{prefix}bandit"


def learnt_key(prefix: str) -> str:
    """Hash: day of event time on which each item block last learnt."""
    return f"{prefix}learnt"


def items_key(prefix: str) -> str:
    """Hash: live catalogue items by id."""
    return f"{prefix}items"


def item_times_key(prefix: str) -> str:
    """Hash: event time of the newest word on each item."""
    return f"{prefix}item_times"


def models_key(prefix: str) -> str:
    """Hash: click model snapshots by surface."""
    return f"{prefix}models"


def model_shadows_key(prefix: str) -> str:
    """Hash: snapshots of models that learn without serving, by surface and name."""
    return f"{prefix}model_shadows"


def model_versions_key(prefix: str) -> str:
    """Hash: kept snapshots of champions, by surface and number."""
    return f"{prefix}model_versions"


def lifecycle_key(prefix: str) -> str:
    """Hash: what is known of each surface's models besides their weights."""
    return f"{prefix}lifecycle"


def learnt_outcomes_key(prefix: str) -> str:
    """Hash: outcomes a lane has learnt lately, page by page."""
    return f"{prefix}outcomes"


def evidence_key(prefix: str) -> str:
    """Hash: what a lane keeps of closed decisions for previews, by surface and hour."""
    return f"{prefix}evidence"


def scoreboard_key(prefix: str) -> str:
    """Hash: what a lane knows of shadow policies, by surface and name."""
    return f"{prefix}scoreboard"


def control_key(prefix: str) -> str:
    """Hash: control documents by name."""
    return f"{prefix}control"


def audit_key(prefix: str) -> str:
    """Hash: changes of control documents that were asked for, by number."""
    return f"{prefix}audit"


def history_key(prefix: str) -> str:
    """Hash: the latest versions of each control document, by name and version."""
    return f"{prefix}history"


def version_field(name: str, version: int) -> str:
    """Return the field of the history that one version of a document is kept under."""
    return f"{name}@{version}"
