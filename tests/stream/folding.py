"""What tests of the pure stream logic share: events as rows, a store in a dict, a shard driven by values."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from bandits.ranking import ARM_DIM, CONTEXT_DIM, unseal
from state.commit import Change, Purge
from state.events import (
    Candidates,
    Click,
    DeadLetter,
    Decision,
    Event,
    Feedback,
    Impression,
    Outcome,
    ShownItem,
    Slot,
    User,
    Versions,
    encode,
    subject_of,
)
from state.feed import ShardFeed, decode_shard_feed
from state.keys import subject_key, unit_prefix
from state.outbox import Message, decode_message
from state.packing import to_base64
from state.partition import shard_of
from state.settings import Settings
from state.subject import SubjectRecord, decode_subject
from state.tokens import make_decision_id
from stream.effects import Effects, Place
from stream.folder import UnitLogic
from stream.rows import Headers, Row, decode_row
from stream.shard import ShardLogic
from stream.shard_rules import ShardRules
from stream.units import shard_rules

AT = 1_750_000_000_000


def unsealed(kept: bytes) -> bytes:
    """Return the block behind a seal that must be there."""
    block = unseal(kept)
    assert block is not None
    return block


DIMS = (CONTEXT_DIM, ARM_DIM, 15)
"""Context, arms and features of a decision as the ranking policy and registry have them."""


def settings(**changes: Any) -> Settings:
    """Return settings for a shard: one shard, a window of ten minutes, lateness of thirty seconds."""
    return Settings(**{"shards": 1, "token_secret": "a secret of the tests", **changes})


class Store:
    """Values and hashes in memory, written only by changes: what the commit script does, without Redis."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.hashes: dict[str, dict[bytes, bytes]] = {}
        self.indexes: dict[str, list[str]] = {}
        self.meta: dict[str, str] = {}
        self.commits = 0

    def apply(self, change: Change) -> None:
        """Write a change in the order of the commit script."""
        self.commits += 1
        for key, purge in change.purged.items():
            self._purge(key, purge)
        for key, members in change.indexed.items():
            self.indexes[key] = [*self.indexes.get(key, ()), *members]
        self.values |= {key: value for key, (value, _) in change.values.items()}
        for key, fields in change.fields.items():
            held = self.hashes.setdefault(key, {})
            held |= {name.encode(): value for name, value in fields.items()}
        for key, names in change.dropped_fields.items():
            for name in names:
                self.hashes.get(key, {}).pop(name.encode(), None)
        for key in change.dropped_keys:
            self.values.pop(key, None)
        self.meta |= change.meta

    def _purge(self, index: str, purge: Purge) -> None:
        members = [*self.indexes.pop(index, []), *purge.members]
        gone = [self.values.pop(purge.prefix + member, None) for member in members]
        if purge.list_key:
            entry = msgspec.json.decode(purge.entry)
            entry |= {"commit": self.commits, "decisions": len(gone) - gone.count(None)}
            self.hashes.setdefault(purge.list_key, {})[purge.name.encode()] = msgspec.json.encode(entry)

    def load(self, logic: UnitLogic) -> None:
        """Restore a logic from what is stored."""
        logic.restore(self.meta, {key: dict(self.hashes.get(key, {})) for key in logic.hashes})

    def state(self) -> tuple[Any, ...]:
        """Return everything stored, for comparing."""
        hashes = {key: fields for key, fields in self.hashes.items() if fields}
        return self.values, hashes, self.meta, self.indexes


class Folded:
    """One unit folded by values: logic, store, and what it has sent and fed so far."""

    def __init__(self, logic: UnitLogic, store: Store | None = None) -> None:
        self.logic, self.store = logic, store or Store()
        self.store.load(logic)
        self.sent: list[Message] = []
        self.feeds: list[bytes] = []

    def fold(self, rows: Sequence[Row], watermark: int = 0) -> Change:
        """Load, fold and commit one micro-batch."""
        wanted = self.logic.wanted(rows, watermark)
        self.logic.put([self.store.values.get(key) for key in wanted])
        effects: Effects = self.logic.fold(rows, watermark)
        change = effects.finish()
        self.store.apply(change)
        self.sent += [decode_message(raw) for raw in change.outbox]
        self.feeds.append(change.feed)
        return change

    def messages(self, kind: str) -> list[Message]:
        """Return what was sent to a topic."""
        return [message for message in self.sent if message.kind == kind]

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes sent."""
        return [msgspec.json.decode(m.value, type=Outcome) for m in self.messages("outcomes")]

    def letters(self) -> list[DeadLetter]:
        """Return the dead letters sent."""
        return [msgspec.json.decode(m.value, type=DeadLetter) for m in self.messages("deadletters")]

    def count(self, name: str) -> int:
        """Return a committed counter."""
        stored = self.store.hashes.get(f"{self.logic.place.prefix}counters", {})
        return int(stored.get(name.encode(), b"0"))

    def hash(self, name: str) -> dict[bytes, bytes]:
        """Return a stored hash by its short name."""
        return self.store.hashes.get(f"{self.logic.place.prefix}{name}", {})

    def record(self, subject: str) -> SubjectRecord:
        """Return a subject's stored record."""
        return decode_subject(self.store.values.get(subject_key(self.logic.place.prefix, subject)))

    def is_stored(self, subject: str) -> bool:
        """Return whether anything is stored under a subject's key."""
        return subject_key(self.logic.place.prefix, subject) in self.store.values

    def shard_feeds(self) -> list[ShardFeed]:
        """Return the feed entries of a subject shard."""
        return [decode_shard_feed(raw) for raw in self.feeds]


def shard(
    store: Store | None = None, *, number: int = 0, rules: ShardRules | None = None, **changes: Any
) -> Folded:
    """Return a subject shard."""
    told = settings(**changes)
    place = Place(unit_prefix(told.namespace, str(number)), str(number), number)
    return Folded(ShardLogic(place, rules or shard_rules(told)), store)


def row(kind: str, event: Event, *, offset: int = 0, at: int | None = None, headers: Headers = ()) -> Row:
    """Return an event as the row a folder gets, received when it happened unless told otherwise."""
    received = event.occurred_at if at is None else at
    key = getattr(event, "subject", getattr(event, "item_id", "")).encode()
    return decode_row(Row(kind, 0, offset, received, key, encode(event)), headers, 300_000)


def token(decision_id: str, subject: str, *, expires_at: int = AT + 10**9) -> str:
    """Return the token a server would have given with a decision."""
    return shard_rules(settings()).signer.sign(decision_id, subject, expires_at)


def decision_id(number: int = 1) -> str:
    """Return a decision id."""
    return make_decision_id(AT, 0, number)


def impression(
    shown: Sequence[str] = ("a", "b", "c"), *, at: int = AT, user: str | None = "u1", **more: Any
) -> Row:
    """Return an impression row; ``decision`` names a decision number."""
    event = Impression(
        **_common("imp", at, user, more),
        surface="home",
        items=[ShownItem(item, place) for place, item in enumerate(shown)],
    )
    return row("impressions", event)


def click(item: str = "b", *, at: int = AT + 1000, user: str | None = "u1", **more: Any) -> Row:
    """Return a click row."""
    return row("clicks", Click(**_common(f"clk-{item}", at, user, more), item_id=item))


def feedback(kind: str, item: str = "b", *, at: int = AT + 1000, user: str | None = "u1", **more: Any) -> Row:
    """Return a feedback row."""
    value = more.pop("value", None)
    event = Feedback(**_common(f"{kind}-{item}", at, user, more), item_id=item, kind=kind, value=value)
    return row("feedback", event)


def profile(user: str = "u1", *, at: int = AT, headers: Headers = (), **more: Any) -> Row:
    """Return a row of the users topic."""
    event_id = more.pop("event_id", f"user-{user}-{at}")
    return row("users", User(event_id=event_id, occurred_at=at, user_id=user, **more), headers=headers)


def decision(
    shown: Sequence[str] = ("a", "b", "c"),
    *,
    at: int = AT,
    user: str | None = "u1",
    number: int = 1,
    **more: Any,
) -> Row:
    """Return a logged decision as a row."""
    return row("decisions", decision_event(shown, at=at, user=user, number=number, **more))


def decision_event(
    shown: Sequence[str] = ("a", "b", "c"),
    *,
    at: int = AT,
    user: str | None = "u1",
    number: int = 1,
    **more: Any,
) -> Decision:
    """Return a decision as the server logs it, with features that tell its slots apart."""
    context_dim, arm_dim, width = DIMS
    flag = more.pop("flag", "")
    slots = [Slot(item, 0.5, len(shown) - n, source="t", flag=flag) for n, item in enumerate(shown)]
    arms = np.eye(arm_dim)[np.arange(1, len(shown) + 1) % arm_dim]
    given: dict[str, Any] = {
        "session_id": "s1",
        "surface": "home",
        "rung": "personal",
        "slots": slots,
        "candidates": Candidates(list(shown), to_base64(np.zeros(len(shown))), "t" * len(shown), ""),
        "context": to_base64(np.ones(context_dim)),
        "features": to_base64(np.arange(len(shown) * width) / 100.0),
        "arms": to_base64(arms),
        "logits": to_base64(np.full(len(shown), -3.0)),
        "exploration": {"scheme": "epsilon", "rate": 0.05},
        "versions": Versions("hybrid-1", 3, 2, "f"),
        "seed": 7,
    }
    event_id = more.pop("event_id", decision_id(number))
    return Decision(event_id=event_id, occurred_at=at, user_id=user, **(given | more))


def _common(event_id: str, at: int, user: str | None, more: dict[str, Any]) -> dict[str, Any]:
    number = more.pop("decision", None)
    session = more.pop("session_id", "s1")
    named = {} if number is None else {"decision": token(decision_id(number), subject_of(user, session))}
    return {
        "event_id": f"{event_id}-{user}-{at}",
        "occurred_at": at,
        "session_id": session,
        "user_id": user,
        **named,
        **more,
    }


def passed_on(message: Message, *, received_at: int) -> Row:
    """Return a sent message as the row its consumer gets."""
    arrived = Row(
        message.kind, message.partition or 0, message.number, received_at, message.key, message.value
    )
    return decode_row(arrived, message.headers("0"), 300_000)


def user_of_shard(number: int, shards: int, prefix: str = "u") -> str:
    """Return a subject that a shard owns."""
    return next(f"{prefix}{n}" for n in range(10_000) if shard_of(f"{prefix}{n}", shards) == number)
