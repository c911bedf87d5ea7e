"""How long everything is kept: one row a topic, key family and bounded part, and the numbers themselves.

Topics, times to live and caps take their numbers from here, and ``docs/retention.md`` is written from it.
"""

import math
from typing import Literal

from msgspec import Struct

from state.settings import Settings

DAY_MS = 86_400_000
FEED_CAP = 20_000
"""Entries of a unit's change feed; trimmed a little late, at the end of a node."""
MAX_UNSENT = 20_000
"""Messages of a unit that wait for Kafka before its folder takes no more rows."""
RECENT_CAP = 50
"""Interactions listed in a subject's record, in its session and in a stored session."""
SEEN_MAX_AGE_MS = 90 * DAY_MS
LETTERS_KEPT_MS = 90 * DAY_MS
"""Event time for which a unit remembers which dead letters it has taken; older ones are not re-driven."""
REMOVALS_KEPT_MS = 90 * DAY_MS
"""Event time for which a removed item is remembered, so that no import brings it back."""
OUTCOMES_KEPT = 131_072
"""Outcomes a lane remembers: of one that learns 400 a second, those of more than five minutes; 1 MB."""
EVIDENCE_HOURS = 168
"""Hours of event time for which a lane keeps what previews are made of."""
EVIDENCE_CELLS = 64
"""Kinds of decisions (segment, rate, slots) kept apart in one hour of one surface; others find no room."""
SHADOWS_CAP = 512
"""Shadow policies of all surfaces that a lane keeps apart, each beside every exploration it was seen with."""
SHADOW_SILENT_MS = 3_600_000
"""Event time after which a shadow policy nobody has heard of makes room for another."""
SESSIONS_CAP = 100
"""Sessions of one subject in the shared session index."""
MERGED_CAP = 50
"""Anonymous sessions a record remembers as its subject's."""
DECISIONS_CAP = 32
"""Writing each decision to an index of its own at once would cost the store as much as the decision."""
COUNTED_CAP = 1_000
"""Rows a subject's record keeps of what shared statistics counted in this hour and the one before."""
APPLIED_KEPT = 8
"""Marks of folded events below which a record is not searched for old ones."""
ATTRIBUTES_CAP = 256
"""Profile attributes of one subject; one more is refused loudly."""
TREND_FLOOR = 0.01
"""Decayed count, of every half-life, under which a trend row is forgotten: 1 is one interaction of now."""
LEDGER_KEPT_MS = 60 * DAY_MS
"""Event time for which a new item's progress is kept after it was last shown; no quota runs for longer."""
TRIED_CAP = 400
"""Versions of exploration documents whose results a shard keeps."""
HISTORY_CAP = 100
"""Versions of one control document that can be looked at and brought back."""
AUDIT_CAP = 10_000
"""Entries of the audit record; a change each ten minutes is ten weeks, and the topic keeps all."""
MODEL_VERSIONS_KEPT = 8
"""Kept snapshots of a surface's champions in a lane: so many with a name, and so many without."""
MODEL_STEPS_KEPT = 50
"""Steps of the history of a surface's models."""
MOST_SHADOWS = 4
"""Models of one surface that learn without serving."""
SWEEP_MS = 3_600_000
"""How much event time passes between two sweeps of a shard's shared rows."""

FOR_EVER = -1
"""As brokers say it."""

Means = Literal["retention.ms", "compaction", "TTL", "event time", "cap", "removal", "fixed"]


class Kept(Struct, frozen=True):
    """One row of the table.

    Attributes
    ----------
    where
        ``topic``, ``key`` (a key family of ``state/keys.py``) or ``part`` of a key.
    name
        Topic kind, key family, or family and part.
    means
        What makes it go.
    limit
        Milliseconds where time makes it go, else entries; None where something else bounds it.
    setting
        What changes the limit.
    note
        How it is bounded, in words.
    """

    where: Literal["topic", "key", "part"]
    name: str
    means: Means
    limit: int | None
    setting: str | None
    note: str


def retention(settings: Settings | None = None) -> list[Kept]:
    """Return the whole table under some settings; the defaults where none are given."""
    told = settings or Settings()
    return [*_topics(told), *_keys(told), *_parts(told)]


def topic_retention(settings: Settings | None = None) -> dict[str, Kept]:
    """Return topic kind -> its row."""
    return {row.name: row for row in _topics(settings or Settings())}


def _topics(settings: Settings) -> list[Kept]:
    raw, short = _ms(settings.raw_retention_s), _ms(settings.decision_retention_s)
    rows = [
        Kept("topic", kind, "retention.ms", raw, "raw_retention_s", "by the broker")
        for kind in ("impressions", "clicks", "feedback", "users")
    ]
    rows += [
        Kept("topic", kind, "retention.ms", short, "decision_retention_s", "by the broker")
        for kind in ("decisions", "outcomes", "directives")
    ]
    rows += [
        Kept("topic", kind, "retention.ms", raw, "raw_retention_s", "by the broker")
        for kind in ("journal", "deadletters")
    ]
    compacted = "newest record of each key for ever; a deletion stays visible this long"
    return [
        *rows,
        Kept("topic", "items", "compaction", raw, "raw_retention_s", compacted),
        Kept("topic", "control", "retention.ms", FOR_EVER, None,
             "for ever: each change is judged by the ones before it"),
    ]  # fmt: skip


def _keys(settings: Settings) -> list[Kept]:
    window = settings.window_ms + settings.decision_wait_ms + settings.lateness_ms
    sessions = settings.max_sessions
    return [
        Kept("key", "meta", "fixed", None, None, "one hash a unit: an offset a topic, a source a shard"),
        Kept("key", "feed", "cap", FEED_CAP, None, "entries of one unit, the oldest go first"),
        Kept("key", "outbox", "cap", MAX_UNSENT, None, "unsent messages; a fuller one stops its folder"),
        Kept("key", "subject", "TTL", _ms(settings.subject_ttl_s), "subject_ttl_s", "after its last change"),
        Kept("key", "decision", "TTL", _ms(settings.decision_ttl_s), "decision_ttl_s", "as logged"),
        Kept("key", "decisions_of", "TTL", _ms(settings.decision_ttl_s), "decision_ttl_s",
             "ids of a subject's stored decisions, each as long as its decision"),
        Kept("key", "erased", "fixed", None, None, "one entry a person ever erased: needed for every replay"),
        Kept("key", "redriven", "event time", LETTERS_KEPT_MS, None, "after the letter was taken"),
        Kept("key", "hold", "TTL", 10_000, None, "while a snapshot or a rebuild reads the unit"),
        Kept("key", "open", "event time", window, "attribution_window_s", "until the decision closes"),
        Kept("key", "counters", "fixed", None, None, "one number a name: topics, reasons, surfaces"),
        Kept("key", "attribution", "fixed", None, None, "a few numbers a surface, 200 surfaces at most"),
        Kept("key", "producers", "cap", 200, None, "producers of one unit; one silent for 7 days makes room"),
        Kept("key", "trends", "event time", trend_life_ms(settings), "half_lives_s",
             f"a row goes when it counts less than {TREND_FLOOR}; one interaction lasts this long"),
        Kept("key", "sessions", "cap", sessions, "max_sessions",
             "over all shards; the one touched longest ago goes first"),
        Kept("key", "bandit", "event time", block_life_ms(settings), "block_life_s",
             "an item's block, after it last learnt; the shared block stays"),
        Kept("key", "learnt", "event time", block_life_ms(settings), "block_life_s",
             "goes with its item's block"),
        Kept("key", "newcomers", "event time", LEDGER_KEPT_MS, None,
             "one entry a surface and new item, after it was last shown as one"),
        Kept("key", "spending", "event time", 3 * 3_600_000, None, "sums of five minutes each, by surface"),
        Kept("key", "tried", "cap", TRIED_CAP, None, "versions; the one used longest ago goes first"),
        Kept("key", "item_times", "event time", REMOVALS_KEPT_MS, None, "after its item was removed"),
        Kept("key", "items", "removal", None, None, "until the producer removes the item"),
        Kept("key", "learnt_outcomes", "cap", OUTCOMES_KEPT, None, "of one lane; the oldest go first"),
        Kept("key", "evidence", "event time", EVIDENCE_HOURS * 3_600_000, None,
             f"an hour and surface; of each at most {EVIDENCE_CELLS} kinds of decisions"),
        Kept("key", "scoreboard", "cap", SHADOWS_CAP, None,
             "shadow policies of a lane; one silent for an hour makes room, else more find none"),
        Kept("key", "models", "fixed", None, None, "one champion, all heads, a surface and lane"),
        Kept("key", "model_shadows", "cap", MOST_SHADOWS, None, "of a surface and lane; one more is refused"),
        Kept("key", "model_versions", "cap", 2 * MODEL_VERSIONS_KEPT, None,
             "of one surface and lane, half of them with names; the oldest go first"),
        Kept("key", "lifecycle", "cap", MODEL_STEPS_KEPT, None, "steps of a surface; the oldest go first"),
        Kept("key", "control", "fixed", None, None, "one document a name"),
        Kept("key", "audit", "cap", AUDIT_CAP, None, "changes asked for; the oldest goes first"),
        Kept("key", "history", "cap", HISTORY_CAP, None, "versions of one document; the oldest goes first"),
    ]  # fmt: skip


def _parts(settings: Settings) -> list[Kept]:
    return [
        Kept("part", "subject: recent", "cap", RECENT_CAP, None, "interactions; the oldest go first"),
        Kept("part", "subject: session_items", "cap", RECENT_CAP, None, "items of the current session"),
        Kept("part", "subject: seen", "cap", settings.seen_cap, "seen_cap", "items; the oldest go first"),
        Kept("part", "subject: seen, by age", "event time", SEEN_MAX_AGE_MS, None, "looked at when full"),
        Kept("part", "subject: hidden", "cap", settings.hidden_cap, "hidden_cap",
             "items; one more is refused loudly"),
        Kept("part", "subject: applied", "event time", settings.lateness_ms, "lateness_s",
             f"marks of folded events; up to {APPLIED_KEPT - 1} older ones stay"),
        Kept("part", "subject: counted", "cap", COUNTED_CAP, None, "rows of this hour and the one before"),
        Kept("part", "subject: sessions", "cap", SESSIONS_CAP, None,
             "of it in the session index; what falls off leaves the index"),
        Kept("part", "subject: merged", "cap", MERGED_CAP, None, "what falls off is erased"),
        Kept("part", "subject: decisions", "cap", DECISIONS_CAP, None, "then they move to the index"),
        Kept("part", "subject: attributes", "cap", ATTRIBUTES_CAP, None, "one more is refused loudly"),
        Kept("part", "sessions: items", "cap", RECENT_CAP, None, "of one session; the oldest go first"),
    ]  # fmt: skip


def trend_life_ms(settings: Settings) -> int:
    """Return how long one interaction keeps its item's trend row, ms."""
    halvings = -math.log2(TREND_FLOOR)
    return round(halvings * max(settings.trend_half_lives_s) * 1000)


def block_life_ms(settings: Settings) -> int:
    """Return how long an item's bandit block stays after it last learnt, ms."""
    return _ms(settings.block_life_s)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
