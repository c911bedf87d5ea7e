"""What must come of events, counted from the set of them alone: no engine code, no order, no memory."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from state.events import Click, Decision, Feedback, Impression

Told = Decision | Impression | Click | Feedback
WORTH = {"click": 1.0, "like": 0.4, "purchase": 0.9}


class Surface(NamedTuple):
    """How the oracle understands the rules of one surface."""

    worth: Callable[[list[float]], float]
    default: float
    learns_unseen: bool


class Times(NamedTuple):
    """The window and the wait, ms."""

    window: int
    wait: int


class Shown(NamedTuple):
    """One slot of an outcome: item, place, reward, and whether that is only the default."""

    item_id: str
    place: int
    reward: float
    is_default: bool


class Result(NamedTuple):
    """One outcome."""

    shown_at: int
    unseen: bool
    slots: list[Shown]


@dataclass
class Course:
    """Everything admitted that names one decision."""

    decision: Decision | None = None
    impressions: list[Impression] = field(default_factory=list)
    rewards: list[Click | Feedback] = field(default_factory=list)

    def all(self) -> list[Told]:
        """Return every event, the decision included."""
        return [*([self.decision] if self.decision else []), *self.impressions, *self.rewards]


class Named(NamedTuple):
    """An event and the decision its token truly names; `is_forged` where it only pretends to name one."""

    event: Told
    decision_id: str | None
    is_forged: bool


def content(event: Told) -> tuple[object, ...] | None:
    """Return what makes an event a repetition of another whatever their ids."""
    if isinstance(event, Decision):
        return None
    who = (type(event), event.subject, event.session_id, event.surface, event.decision, event.occurred_at)
    if isinstance(event, Impression):
        return (*who, tuple((item.item_id, item.position) for item in event.items))
    what = (event.kind, event.value) if isinstance(event, Feedback) else ()
    return (*who, event.item_id, *what)


class Oracle:
    """Expected outcomes and counts.

    Parameters
    ----------
    surfaces
        What each surface's rules mean.
    times
        Window and wait.
    """

    def __init__(self, surfaces: dict[str, Surface], times: Times) -> None:
        self._surfaces, self._times = surfaces, times
        self._ids: set[object] = set()
        self.admitted: list[Named] = []
        self.counts: Counter[str] = Counter()

    def commit(self, batch: Sequence[Named], watermark_before: int) -> None:
        """Take in the events of one commit."""
        for one in batch:
            event = one.event
            surface = event.surface or "_none"
            marks = {(type(event), event.subject, event.event_id), content(event)} - {None}
            if event.occurred_at < watermark_before:
                self.counts[f"late:{surface}"] += 1
            elif marks & self._ids:
                self.counts[f"duplicate:{surface}"] += 1
                self._ids |= marks
            else:
                self._ids |= marks
                self.admitted.append(one)

    def expected(self) -> tuple[dict[str, Result], Counter[str]]:
        """Return outcomes by decision and counts by kind and surface, once every window has closed."""
        courses: dict[str, Course] = {}
        counts = Counter(self.counts)
        for event, decision_id, is_forged in self.admitted:
            if decision_id is None:
                counts[f"unattributed:{event.surface or '_none'}"] += 1
                counts[f"forged:{event.surface or '_none'}"] += is_forged
                continue
            course = courses.setdefault(decision_id, Course())
            if isinstance(event, Decision):
                course.decision = event
            elif isinstance(event, Impression):
                course.impressions.append(event)
            else:
                course.rewards.append(event)
        results = {decision_id: self._judge(course, counts) for decision_id, course in courses.items()}
        return {name: result for name, result in results.items() if result}, +counts

    def _judge(self, course: Course, counts: Counter[str]) -> Result | None:
        begun = min(event.occurred_at for event in course.all())
        in_time = [one for one in course.impressions if one.occurred_at <= begun + self._times.wait]
        first = min(in_time, key=lambda one: (one.occurred_at, [i.item_id for i in one.items]), default=None)
        decision = course.decision
        if decision is not None and first is None:
            counts[f"unseen:{decision.surface}"] += 1
        if decision is None or (first is None and not self._surfaces[decision.surface].learns_unseen):
            _stray([*course.impressions, *course.rewards], counts)
            return None
        shown_at = begun if first is None else first.occurred_at
        last = shown_at + self._times.window
        _stray((one for one in course.impressions if first is None or one.occurred_at > last), counts)
        listed = None if first is None else {item.item_id for item in first.items}
        slots = self._slots(decision, listed, [one for one in course.rewards if one.occurred_at <= last])
        judged = {slot.item_id for slot in slots}
        _stray((r for r in course.rewards if r.occurred_at > last or r.item_id not in judged), counts)
        counts[f"closed:{decision.surface}"] += 1
        counts[f"defaulted:{decision.surface}"] += sum(slot.is_default for slot in slots)
        return Result(shown_at, first is None, slots)

    def _slots(
        self, decision: Decision, listed: set[str] | None, inside: list[Click | Feedback]
    ) -> list[Shown]:
        surface, slots = self._surfaces[decision.surface], []
        for place, slot in enumerate(decision.slots):
            is_again = slot.item_id in [earlier.item_id for earlier in decision.slots[:place]]
            if is_again or (listed is not None and slot.item_id not in listed):
                continue
            rewards = sorted((one.occurred_at, -_worth(one)) for one in inside if one.item_id == slot.item_id)
            worths = [-worth for _, worth in rewards]
            reward = surface.worth(worths) if worths else surface.default
            slots.append(Shown(slot.item_id, place, reward, not worths))
        return slots


def _worth(event: Click | Feedback) -> float:
    return WORTH[event.kind if isinstance(event, Feedback) else "click"]


def _stray(events: Iterable[Told], counts: Counter[str]) -> None:
    for event in events:
        counts[f"unattributed:{event.surface or '_none'}"] += 1
