"""The mix of promise 3: in 10 source events 4 decisions, 4 impressions of 10 items, 1 click, 1 feedback."""

import random
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import msgspec
from msgspec import Struct, field

from state.events import Click, Decision, Feedback, Impression, ShownItem, User, encode
from state.partition import shard_of
from state.settings import Settings
from state.tokens import TokenSigner, make_decision_id

PER_GROUP = 10
DECISIONS_PER_GROUP = 4
KINDS = ("decisions", "impressions", "clicks", "feedback")
TOKEN_LIFE_MS = 86_400_000


class Sent(Struct, frozen=True):
    """One record to publish."""

    kind: str
    key: bytes
    partition: int
    at_ms: int
    value: bytes


class Truth(Struct):
    """What the folders must have counted: events by kind, and decisions a visitor rewarded."""

    events: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    rewarded: set[str] = field(default_factory=set)

    @property
    def total(self) -> int:
        """All source events."""
        return sum(self.events.values())


class Mix:
    """Makes source events from decisions a server made: other ids, other visitors, true tokens.

    Parameters
    ----------
    settings
        Of the namespace: shards and secret.
    templates
        Decisions as logged.
    users
        How many visitors there are.
    """

    def __init__(self, settings: Settings, templates: Sequence[Decision], users: int) -> None:
        self._settings, self._templates, self._users = settings, templates, users
        self._signer = TokenSigner(settings.secret())
        self._rng = random.Random(settings.seed)
        self._number = count()
        self.truth = Truth()

    def group(self, at_ms: int) -> Iterator[Sent]:
        """Yield 10 source events of one moment, each occurring then."""
        shown = []
        for _ in range(DECISIONS_PER_GROUP):
            decision = self._decision(at_ms)
            token = self._signer.sign(decision.event_id, decision.subject, at_ms + TOKEN_LIFE_MS)
            shown.append((decision, token))
            yield self._sent("decisions", decision)
            yield self._sent("impressions", self._impression(decision, token))
        for kind, (decision, token) in zip(KINDS[2:], self._rng.sample(shown, 2), strict=True):
            self.truth.rewarded.add(decision.event_id)
            yield self._sent(kind, self._reaction(kind, decision, token))

    def last_words(self, at_ms: int) -> Iterator[Sent]:
        """Yield a profile upsert for each shard, so late that every window closes; no source events."""
        for shard in range(self._settings.shards):
            name = next(
                n for n in map(str, count()) if shard_of(f"closing-{n}", self._settings.shards) == shard
            )
            user = User(event_id=f"closing-{shard}", occurred_at=at_ms, user_id=f"closing-{name}")
            yield Sent("users", user.subject.encode(), shard, at_ms, encode(user))

    def _sent(self, kind: str, event: Decision | Impression | Click | Feedback) -> Sent:
        self.truth.events[kind] += 1
        subject, at_ms = event.subject, event.occurred_at
        return Sent(kind, subject.encode(), shard_of(subject, self._settings.shards), at_ms, encode(event))

    def _decision(self, at_ms: int) -> Decision:
        user = f"visitor-{self._rng.randrange(self._users):06d}"
        shard = shard_of(user, self._settings.shards)
        decision_id = make_decision_id(at_ms, shard, self._rng.getrandbits(48))
        template = self._rng.choice(self._templates)
        who = {"user_id": user, "session_id": f"session-{user}"}
        return msgspec.structs.replace(template, event_id=decision_id, occurred_at=at_ms, **who)

    def _impression(self, decision: Decision, token: str) -> Impression:
        items = [ShownItem(slot.item_id, place) for place, slot in enumerate(decision.slots)]
        return Impression(**self._common(decision), surface=decision.surface, items=items, decision=token)

    def _reaction(self, kind: str, decision: Decision, token: str) -> Click | Feedback:
        place = min(int(self._rng.expovariate(0.4)), len(decision.slots) - 1)
        item, common = decision.slots[place].item_id, self._common(decision)
        if kind == "clicks":
            return Click(**common, item_id=item, surface=decision.surface, decision=token)
        return Feedback(**common, item_id=item, kind="like", surface=decision.surface, decision=token)

    def _common(self, decision: Decision) -> dict[str, Any]:
        return {
            "event_id": f"event-{next(self._number)}",
            "occurred_at": decision.occurred_at,
            "user_id": decision.user_id,
            "session_id": decision.session_id,
            "producer": "benchmark",
        }


def spread(mix: Mix, events: int, span: tuple[int, int]) -> Iterator[Sent]:
    """Yield ``events`` source events (a multiple of 10) evenly over a span of event time, ms."""
    groups, (first, last) = events // PER_GROUP, span
    for n in range(groups):
        yield from mix.group(first + (last - first) * n // max(1, groups))


def size(records: Sequence[Sent]) -> int:
    """Return the bytes of all values."""
    return sum(len(record.value) for record in records)
