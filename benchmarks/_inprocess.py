"""The engine in one process, without broker and store: the units' own logic folds, one live state answers."""

from collections.abc import Sequence
from itertools import count
from typing import Any

from serving.decide import Call, Decided, answer_items, decide, to_event
from serving.live import LiveState
from serving.requests import RecommendationRequest, RecommendedItem
from state.commit import Change
from state.events import Click, Event, Feedback, Impression, Item, ShownItem, encode
from state.feed import decode_item_feed, decode_shard_feed
from state.keys import bandit_key, item_unit, lane_unit, models_key, subject_key, subject_unit
from state.outbox import Message, decode_message
from state.settings import Settings
from state.subject import decode_subject
from state.tokens import TokenSigner, make_decision_id
from stream.folder import UnitLogic
from stream.rows import Row, decode_row
from stream.units import logic_maker

K = 10
SURFACE = "home"


class Unit:
    """One unit's logic over values in memory: what the commit script would write, without a store."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.logic: UnitLogic = logic_maker(settings, name, 0)()
        self._values: dict[str, bytes] = {}
        self.logic.restore({}, {key: {} for key in self.logic.hashes})

    @property
    def prefix(self) -> str:
        """Prefix of the unit's keys."""
        prefix: str = self.logic.place.prefix
        return prefix

    def fold(self, rows: Sequence[Row], watermark: int) -> Change:
        """Load, fold and commit one micro-batch."""
        wanted = self.logic.wanted(rows, watermark)
        self.logic.put([self._values.get(key) for key in wanted])
        change = self.logic.fold(rows, watermark).finish()
        self._values |= {key: value for key, (value, _) in change.values.items()}
        for key in change.dropped_keys:
            self._values.pop(key, None)
        return change

    def value(self, key: str) -> bytes | None:
        """Return what is kept under a key."""
        return self._values.get(key)


class Engine:
    """One shard, one lane, one catalogue and one server, in step with each other.

    Parameters
    ----------
    settings
        Of a namespace with one shard.
    live
        What requests are answered from; kept true by the feeds of the units.
    seed
        Of the slates' draws.
    """

    def __init__(self, settings: Settings, live: LiveState, seed: int) -> None:
        self.settings, self.live, self._seed = settings, live, seed
        self._shard, self._lane, self._items = (
            Unit(settings, name) for name in (subject_unit(0), lane_unit(0), item_unit(0))
        )
        self._signer = TokenSigner(settings.secret())
        self._offsets, self._numbers = count(), count(seed << 32)

    def stock(self, items: Sequence[Item]) -> None:
        """Take in a catalogue."""
        rows = [self._row("items", item, item.item_id, item.occurred_at) for item in items]
        self.live.apply_items(decode_item_feed(self._items.fold(rows, 0).feed))
        self.live.settle(len(items))

    def call(self, user: str, session: str, now_ms: int) -> Call:
        """Return a visitor's request as the decision path takes it."""
        record = decode_subject(self._shard.value(subject_key(self._shard.prefix, user)))
        decision = make_decision_id(now_ms, 0, next(self._numbers) % (1 << 48))
        request = RecommendationRequest(session_id=session, user_id=user, surface=SURFACE, k=K)
        return Call(request, user, record, decision, now_ms, 0, self.settings.holdout)

    def answer(self, call: Call) -> tuple[Decided | None, list[RecommendedItem]]:
        """Return a slate for a request."""
        decided = decide(self.live, call)
        return decided, [] if decided is None else answer_items(self.live, decided)

    def tell(self, call: Call, decided: Decided | None, item_id: str, rating: float) -> None:
        """Publish what came of a request, as the demo's visitors do, and let everything learn from it."""
        common: dict[str, Any] = {
            "occurred_at": call.now_ms,
            "user_id": call.request.user_id,
            "session_id": call.request.session_id,
            "producer": "demo",
        }
        events: list[tuple[str, Event]] = []
        if decided is not None:
            events = self._shown(call, decided, common, item_id)
        rated = Feedback(
            event_id=f"r-{call.decision_id}", **common, item_id=item_id, kind="rating", value=rating
        )
        events.append(("feedback", rated))
        rows = [self._row(kind, event, call.subject, call.now_ms) for kind, event in events]
        self._follow(self._shard.fold(rows, call.now_ms - self.settings.lateness_ms), call.now_ms)

    def _shown(
        self, call: Call, decided: Decided, common: dict[str, Any], item_id: str
    ) -> list[tuple[str, Event]]:
        logged = to_event(self.live, call, decided)
        token = self._signer.sign(call.decision_id, call.subject, call.now_ms + 10**9)
        named = {**common, "surface": SURFACE, "decision": token}
        ids = [slot.item_id for slot in logged.slots]
        shown = [ShownItem(one, place) for place, one in enumerate(ids)]
        seen = Impression(event_id=f"i-{call.decision_id}", **named, items=shown)
        events: list[tuple[str, Event]] = [("decisions", logged), ("impressions", seen)]
        if item_id in ids:
            clicked = Click(event_id=f"c-{call.decision_id}", **named, item_id=item_id)
            events.append(("clicks", clicked))
        return events

    def _follow(self, change: Change, now_ms: int) -> None:
        if change.feed:
            self.live.apply_shard(0, decode_shard_feed(change.feed))
            self.live.settle_moved(1)
        blocks = change.fields.get(bandit_key(self._shard.prefix), {})
        if blocks:
            self.live.put_blocks(0, dict(blocks))
        messages = [decode_message(raw) for raw in change.outbox]
        outcomes = [self._passed_on(one, now_ms) for one in messages if one.kind == "outcomes"]
        if outcomes:
            learnt = self._lane.fold(outcomes, now_ms)
            for surface, raw in learnt.fields.get(models_key(self._lane.prefix), {}).items():
                self.live.put_model(surface, raw)

    def _row(self, kind: str, event: Event, key: str, at_ms: int) -> Row:
        raw = Row(kind, 0, next(self._offsets), at_ms, key.encode(), encode(event))
        return decode_row(raw, (), self.settings.max_skew_ms)

    def _passed_on(self, message: Message, at_ms: int) -> Row:
        raw = Row(message.kind, 0, message.number, at_ms, message.key, message.value)
        return decode_row(raw, message.headers("0"), self.settings.max_skew_ms)
