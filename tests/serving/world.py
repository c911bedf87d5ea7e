"""What the serving tests share: a live state made of what a catalogue and a shard really feed and store."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bandits.ranking import ranking_policy
from online_models.retrieval import RecommenderSettings
from serving.decide import Call
from serving.live import LEARN_EARLY, LiveState, served_retrieval
from serving.requests import RecommendationRequest
from state.events import Item, encode
from state.feed import decode_item_feed, decode_shard_feed
from state.keys import unit_prefix
from state.sessions import decode_session
from state.subject import SubjectRecord
from state.tokens import make_decision_id
from stream.catalogue import CatalogueLogic
from stream.effects import Place
from stream.rows import Row, decode_row
from tests.stream.folding import AT, Folded, click, decision, feedback, impression, shard

HALF_LIVES_S = (60.0, 3_600.0, 86_400.0)
CATEGORIES = ("drama", "comedy", "thriller")
NOW = AT + 3_600_000


def empty(learn_early: int = LEARN_EARLY) -> LiveState:
    """Return a live state that knows nothing, whose blend learns from one interaction in so many."""
    retrieval = served_retrieval(RecommenderSettings(half_lives_s=HALF_LIVES_S), learn_early)
    return LiveState(ranking_policy(), retrieval)


def item(number: int, **more: Any) -> Item:
    """Return a catalogue item with a title, a category and a date of its own."""
    given: dict[str, Any] = {
        "title": f"film {number}",
        "categories": [CATEGORIES[number % len(CATEGORIES)]],
        "published_at": AT - 1_000_000 * number,
    }
    return Item(event_id=f"item-{number}", occurred_at=AT, **({"item_id": f"i{number}"} | given | more))


def row_of(event: Item) -> Row:
    """Return a catalogue event as the row its unit gets."""
    return decode_row(Row("items", 0, 0, AT, event.item_id.encode(), encode(event)), (), 0)


def crowded(items: int = 1_000, sessions: int = 3_000) -> LiveState:
    """Return a live state where every source has more to bring than a request takes."""
    live, rng = empty(), np.random.default_rng(1)
    for number in range(items):
        live.put_item(encode(item(number, published_at=AT - 10_000_000 * number)))
    for session in range(sessions):
        for step, row in enumerate(rng.integers(0, items, 8).tolist()):
            live.sessions.add(session, row, AT + 1_000 * session + step)
    for row in range(items):
        live.trends.add(row, AT + int(rng.integers(0, NOW - AT)), 1.0)
        if row % 10 == 0:
            live.trends.add(row, AT - 86_400_000, 50.0)  # loved yesterday, forgotten within the hour
    return live


def regular(live: LiveState) -> SubjectRecord:
    """Return the record of a visitor with a history, much of it of items that are gone."""
    record = SubjectRecord(session_id="now")
    for number in range(120):
        record.mark_seen(f"gone{number}", NOW - 1_000, 2_000)
    for number in range(5, 25):
        item_id = live.items.ids[number]
        record.add_recent(item_id, NOW - 1_000, 1.0)
        record.mark_seen(item_id, NOW - 1_000, 2_000)
    return record


class World:
    """A catalogue and a shard of traffic, and the two ways a server learns of them."""

    def __init__(self, items: int = 60, visits: int = 150, seed: int = 1) -> None:
        prefix = unit_prefix("hw", "i0")
        self.catalogue = Folded(CatalogueLogic(Place(prefix, "i0", 0)))
        self.catalogue.fold([row_of(item(n)) for n in range(items)])
        self.shard = shard(half_lives_s=HALF_LIVES_S, attribution_window_s=10.0, lateness_s=1.0)
        rng = np.random.default_rng(seed)
        popular = rng.zipf(1.3, 100_000) % items
        for n in range(visits):
            self._visit(n, [f"i{i}" for i in popular[n * 9 : n * 9 + 9]])
        self.shard.fold([], NOW)

    def _visit(self, n: int, picked: Sequence[str]) -> None:
        user, at = f"u{n % 40}", AT + 20_000 * n
        shown = list(dict.fromkeys(picked))
        rows = [decision(shown, at=at, user=user, number=n)]
        rows.append(impression(shown, at=at + 10, user=user, decision=n, session_id=f"s{n}"))
        for place, item_id in enumerate(shown[:4]):
            event_at = at + 1_000 * (place + 1)
            token = n if place == 0 else None
            rows.append(click(item_id, at=event_at, user=user, decision=token, session_id=f"s{n}"))
        dwell = feedback("dwell", shown[0], at=at + 5_500, user=user, session_id=f"s{n}", value=20.0)
        rows.append(dwell)
        if n % 5 == 0:
            rows.append(feedback("hide", shown[-1], at=at + 6_000, user=user, session_id=f"s{n}"))
        self.shard.fold(rows, at)

    def by_feed(self, learn_early: int = LEARN_EARLY) -> LiveState:
        """Return a live state that followed every feed entry from the beginning."""
        live = empty(learn_early)
        for raw in self.catalogue.feeds:
            live.apply_items(decode_item_feed(raw))
        live.settle(len(live.items))
        for raw in self.shard.feeds:
            live.apply_shard(0, decode_shard_feed(raw))
        live.put_blocks(0, {name.decode(): raw for name, raw in self.shard.hash("bandit").items()})
        return live

    def by_load(self, learn_early: int = LEARN_EARLY) -> LiveState:
        """Return a live state loaded from what is stored now."""
        live = empty(learn_early)
        for raw in self.catalogue.hash("items").values():
            live.put_item(raw)
        live.settle(len(live.items))
        live.load_trends(0, self.shard.hash("trends"))
        rows = {int(key): decode_session(raw) for key, raw in self.shard.hash("sessions").items()}
        live.load_sessions({key: (row.items, row.at_ms) for key, row in rows.items()})
        live.put_blocks(0, {name.decode(): raw for name, raw in self.shard.hash("bandit").items()})
        for raw in self.shard.feeds:
            live.recall(decode_shard_feed(raw))
        return live

    def record(self, user: str) -> SubjectRecord:
        """Return a subject's record as a server reads it."""
        return self.shard.record(user)


def call(
    user: str = "u1",
    record: SubjectRecord | None = None,
    *,
    number: int = 1,
    holdout: float = 0.0,
    **request: Any,
) -> Call:
    """Return a request as the decision path takes it."""
    wished = RecommendationRequest(**{"session_id": "now", "user_id": user, **request})
    return Call(wished, user, record, make_decision_id(NOW, 0, number), NOW, 5, holdout)
