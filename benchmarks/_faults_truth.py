"""What exactly must have been folded, counted from the events alone: no engine code, no clock, no order."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from state.events import Click, Decision, Feedback, Impression
from state.settings import FeedbackKind

Source = Decision | Impression | Click | Feedback
CLICK = FeedbackKind(reward=1.0)


class Visitor(Struct):
    """What one visitor's record must hold."""

    events: int = 0
    impressions: int = 0
    clicks: int = 0
    hidden: list[str] = []


class Course(Struct):
    """What became of one decision: its slots if it was logged, what was shown of it and what that earned."""

    surface: str = ""
    decided: list[str] = []
    shown: list[str] = []
    rewards: dict[str, float] = {}

    @property
    def verdict(self) -> str:
        """How it must close."""
        if not self.decided:
            return "orphan"
        return "outcome" if self.shown else "unseen"


@dataclass
class Truth:
    """Ground truth of a run, for events that are told once each, whatever happens to them on their way.

    Each visitor must react to an item at most once, and within the window: what shared statistics count and
    what a decision earns then depends on no order of arrival.

    Parameters
    ----------
    registry
        Feedback kinds as the engine is told them.
    """

    registry: Mapping[str, FeedbackKind]
    ids: dict[str, str] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)
    visitors: dict[str, Visitor] = field(default_factory=dict)
    courses: dict[str, Course] = field(default_factory=dict)
    interest: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def add(self, kind: str, event: Source, names: str | None) -> None:
        """Take in one event; ``names`` is the decision its token truly names, None without a true token."""
        self.ids[event.event_id] = kind
        self.counters[kind] += 1
        if isinstance(event, Decision):
            course = self._course(event.event_id)
            course.surface, course.decided = event.surface, [slot.item_id for slot in event.slots]
            return
        self.counters["forged_tokens"] += _is_forged(event, names, self.registry)
        visitor = self.visitors.setdefault(event.subject, Visitor())
        visitor.events += 1
        if isinstance(event, Impression):
            visitor.impressions += 1
            self._show(event, names)
        else:
            visitor.clicks += isinstance(event, Click)
            self._react(event, names, visitor)

    def _course(self, decision_id: str) -> Course:
        return self.courses.setdefault(decision_id, Course())

    def _show(self, event: Impression, names: str | None) -> None:
        if names is None:
            self.counters["unattributed.impressions"] += 1
        else:
            self.counters["shown"] += 1
            self._course(names).shown = [item.item_id for item in event.items]

    def _react(self, event: Click | Feedback, names: str | None, visitor: Visitor) -> None:
        kind = meaning(event, self.registry)
        weight = interest_of(event, kind)
        if kind.sign < 0:
            visitor.hidden.append(event.item_id)
        elif weight > 0:
            self.interest.setdefault(event.item_id, []).append((event.occurred_at, weight))
        if kind.reward <= 0:
            return
        if names is None:
            self.counters["unattributed.rewards"] += 1
        else:
            self._course(names).rewards[event.item_id] = kind.reward

    def expected(self) -> Counter[str]:
        """Return every counter the subject shards must show, those of closed windows included."""
        counted = +self.counters
        for course in self.courses.values():
            counted[f"closed.{course.verdict}"] += 1
            if course.verdict == "outcome":
                earned = any(course.rewards.get(item, 0.0) > 0 for item in course.shown)
                counted[f"outcomes.{course.surface}"] += 1
                counted[f"rewarded.{course.surface}"] += earned
        return counted

    def outcomes(self) -> dict[str, dict[str, float]]:
        """Return decision id -> item -> reward of everything that must come out."""
        return {
            decision_id: {item: course.rewards.get(item, 0.0) for item in course.shown}
            for decision_id, course in self.courses.items()
            if course.verdict == "outcome"
        }

    def trend(self, item_id: str, half_life_ms: float, now_ms: int) -> float:
        """Return the decayed interest in an item at a moment."""
        return decayed(self.interest.get(item_id, ()), half_life_ms, now_ms)


def meaning(event: Click | Feedback, registry: Mapping[str, FeedbackKind]) -> FeedbackKind:
    """Return what a reaction is worth."""
    return CLICK if isinstance(event, Click) else registry[event.kind]


def interest_of(event: Click | Feedback, kind: FeedbackKind) -> float:
    """Return how much a reaction moves trends."""
    if kind.value_scale is None or isinstance(event, Click) or event.value is None:
        return kind.interest
    return kind.interest * min(1.0, max(0.0, event.value / kind.value_scale))


def decayed(steps: Iterable[tuple[int, float]], half_life_ms: float, now_ms: int) -> float:
    """Return the sum of weights that halve every half-life, of (time, weight) steps."""
    return sum(weight * float(2.0 ** ((at - now_ms) / half_life_ms)) for at, weight in steps)


def _is_forged(
    event: Impression | Click | Feedback, names: str | None, registry: Mapping[str, FeedbackKind]
) -> bool:
    # Nobody looks at the token of a reaction that earns nothing.
    looked_at = isinstance(event, Impression) or meaning(event, registry).reward > 0
    return looked_at and names is None and event.decision is not None


class Check(Struct):
    """One figure compared: totals, and what is short and in excess when compared key by key."""

    name: str
    expected: int
    found: int
    lost: int
    doubled: int


def compare(name: str, expected: Mapping[str, int], found: Mapping[str, int]) -> Check:
    """Compare counts key by key, so that an excess here never hides a shortage there."""
    gaps = [expected.get(key, 0) - found.get(key, 0) for key in expected.keys() | found.keys()]
    lost, doubled = sum(gap for gap in gaps if gap > 0), -sum(gap for gap in gaps if gap < 0)
    return Check(name, sum(expected.values()), sum(found.values()), lost, doubled)


def compare_each(
    expected: Mapping[str, int], found: Mapping[str, int], also: Sequence[str] = ()
) -> list[Check]:
    """Compare counters one by one, those of ``also`` even where neither side has them."""
    names = sorted({*expected, *found, *also})
    return [compare(name, {name: expected.get(name, 0)}, {name: found.get(name, 0)}) for name in names]
