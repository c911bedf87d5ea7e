"""What a hotel list is described by: place, price, and what session, visitor and everybody did before."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from benchmarks._trivago_data import CLICKOUT, Action, Shown
from online_models.arrays import FloatArray
from online_models.features import Feature, FeatureRegistry

_LATELY = 50.0
"""Shown lists over which an item's rate of clicks counts half as much as what is known of all items."""
KINDS = ("image", "info", "rating", "deals")


def _of_session(name: str, about: str, kind: str = "score") -> Feature:
    return Feature(name, kind, privacy="session", window="session", about=about)


def list_registry() -> FeatureRegistry:
    """Return the features of an item of a shown list."""
    features = [
        Feature("position", "count", about="0-based place in the list"),
        Feature("is_first", "flag", about="shown on top"),
        _of_session("touched", "acted on in this session", "flag"),
        _of_session("touches", "actions on it", "count"),
        _of_session("last_touched", "the latest one acted on", "flag"),
        _of_session("touch_recency", "1 / place among the latest acted on", "ratio"),
        *(_of_session(f"touched_{kind}", f"{kind} looked at", "count") for kind in KINDS),
        _of_session("searched", "searched for by name", "flag"),
        _of_session("clicked", "clicked out to before", "flag"),
        _of_session("last_clicked", "the latest one clicked out to", "flag"),
        _of_session("step_on", "1 / places below the latest one acted on", "ratio"),
        _of_session("next_down", "right below the latest one acted on", "flag"),
        _of_session("next_up", "right above it", "flag"),
        _of_session("nothing_touched", "no item of the list was acted on", "flag"),
        Feature("user_touched", "flag", privacy="profile", window="all time", about="in earlier sessions"),
        Feature("price", about="log of the price over the list's median"),
        Feature("price_rank", "ratio", about="share of the list that is cheaper"),
        Feature("cheapest", "flag", about="none is cheaper"),
        _of_session("price_like", "minus log distance to prices acted on"),
        Feature("click_rate", window="all time", about="log of clicks per list over that of all items"),
        Feature("popular", "count", window="all time", about="actions of all visitors on it"),
        Feature("unseen", "flag", window="all time", about="never shown before"),
    ]
    crosses = [
        ("position", "nothing_touched"), ("is_first", "nothing_touched"), ("touched", "position"),
        ("click_rate", "nothing_touched"), ("price_rank", "nothing_touched"), ("last_touched", "clicked"),
        ("last_touched", "is_first"), ("touches", "last_touched"), ("step_on", "nothing_touched"),
        ("popular", "nothing_touched"),
    ]  # fmt: skip
    return FeatureRegistry(features, crosses)


@dataclass
class Session:
    """What a session did so far."""

    touched: list[str] = field(default_factory=list)
    kinds: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    clicked: list[str] = field(default_factory=list)

    def latest(self) -> list[str]:
        """Return the items acted on, latest first, each once."""
        return list(dict.fromkeys(reversed(self.touched)))


class World:
    """All that happened so far: sessions, visitors, items. Told of an action only after it was predicted."""

    def __init__(self) -> None:
        self.sessions: dict[tuple[str, str], Session] = defaultdict(Session)
        self.users: dict[str, set[str]] = defaultdict(set)
        self.actions: Counter[str] = Counter()
        self.shown: Counter[str] = Counter()
        self.clicks: Counter[str] = Counter()
        self.prices: dict[str, float] = {}

    def learn(self, action: Action, shown: Shown | None) -> None:
        """Take in an action, and the list it answered."""
        item = action.reference or ""
        if "item" in action.action_type:
            session = self.sessions[action.user_id, action.session_id]
            kind = action.action_type.removeprefix("interaction item ")
            session.touched.append(item)
            session.kinds[item][kind] += 1
            self.users[action.user_id].add(item)
            self.actions[item] += 1
            if action.action_type == CLICKOUT:
                session.clicked.append(item)
        if shown is not None:
            self.shown.update(shown.items)
            self.clicks[shown.clicked] += 1
            self.prices.update(zip(shown.items, shown.prices, strict=True))

    def describe(self, shown: Shown) -> dict[str, FloatArray]:
        """Return the raw features of a list before its click is known, each (n,)."""
        session, items = self.sessions[shown.user, shown.session], shown.items
        return {
            **_placed(len(items)),
            **_priced(np.array(shown.prices, np.float64), self._known_prices(session)),
            **_touched(session, items),
            **self._known(shown.user, session, items),
        }

    def _known_prices(self, session: Session) -> FloatArray:
        return np.array([self.prices[item] for item in session.latest() if item in self.prices], np.float64)

    def _known(self, user: str, session: Session, items: Sequence[str]) -> dict[str, FloatArray]:
        overall = (sum(self.clicks.values()) + 1.0) / (sum(self.shown.values()) + 20.0)
        shown, clicks = _each(items, self.shown.__getitem__), _each(items, self.clicks.__getitem__)
        mine = self.users[user] - set(session.touched)
        return {
            "click_rate": np.log((clicks + _LATELY * overall) / (shown + _LATELY) / overall),
            "popular": _each(items, self.actions.__getitem__),
            "unseen": (shown == 0).astype(np.float64),
            "user_touched": _each(items, mine.__contains__),
        }


def _each(items: Sequence[str], value: Callable[[str], float]) -> FloatArray:
    return np.array([value(item) for item in items], np.float64)


def _placed(n: int) -> dict[str, FloatArray]:
    return {"position": np.arange(n, dtype=np.float64), "is_first": (np.arange(n) == 0).astype(np.float64)}


def _priced(prices: FloatArray, known: FloatArray) -> dict[str, FloatArray]:
    logs = np.log(np.maximum(prices, 1.0))
    like = -np.abs(logs - np.log(known).mean()) if len(known) else np.zeros(len(prices))
    return {
        "price": logs - np.median(logs),
        "price_rank": (prices[None, :] < prices[:, None]).mean(axis=1),
        "cheapest": (prices == prices.min()).astype(np.float64),
        "price_like": like,
    }


def _touched(session: Session, items: Sequence[str]) -> dict[str, FloatArray]:
    latest = session.latest()
    place = {item: n for n, item in enumerate(latest)}
    counts = Counter(session.touched)
    touched = _each(items, place.__contains__)
    last, out = latest[:1], session.clicked[-1:]
    return {
        "touched": touched,
        "touches": _each(items, counts.__getitem__),
        "last_touched": _each(items, last.__contains__),
        "touch_recency": _each(items, lambda item: 1.0 / (1 + place[item]) if item in place else 0.0),
        "searched": _each(items, lambda item: item in place and session.kinds[item]["search for item"] > 0),
        "clicked": _each(items, session.clicked.__contains__),
        "last_clicked": _each(items, out.__contains__),
        "nothing_touched": np.full(len(items), float(not touched.any())),
        **{f"touched_{kind}": _each(items, partial(_count, session, kind)) for kind in KINDS},
        **_steps(items, next((item for item in latest if item in items), None)),
    }


def _count(session: Session, kind: str, item: str) -> int:
    return session.kinds[item][kind] if item in session.kinds else 0


def _steps(items: Sequence[str], latest: str | None) -> dict[str, FloatArray]:
    away = np.arange(len(items)) - (items.index(latest) if latest is not None else 10**6)
    return {
        "step_on": np.where(away > 0, 1.0 / np.maximum(away, 1), 0.0),
        "next_down": (away == 1).astype(np.float64),
        "next_up": (away == -1).astype(np.float64),
    }
