"""Decisions, impressions, rewards, copies, delays, batches and crashes in any interleaving: exactly once."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from state.attributed import count_field
from state.commit import Change
from state.events import Click, Feedback, Impression, ShownItem
from state.rules import SurfaceRules
from state.settings import FeedbackKind
from stream.rewards import FIRST_KEPT
from stream.rows import Row
from tests.stream.attribution_oracle import WORTH, Named, Oracle, Surface, Times, Told
from tests.stream.folding import AT, Folded, Store, decision_event, decision_id, row, shard, token

WINDOW, WAIT, LATENESS = 20_000, 15_000, 5_000
SUBJECTS = ("u1", "u2")
RULES = {
    "home": SurfaceRules(),
    "cart": SurfaceRules(rewards="sum", cap=1.5, default_reward=0.25),
    "mail": SurfaceRules(rewards="first", learn_unseen=True),
    "*": SurfaceRules(rewards="first"),
}
MEANT = {
    "home": Surface(max, 0.0, learns_unseen=False),
    "cart": Surface(lambda worths: min(1.5, sum(worths)) / 1.5, 0.25, learns_unseen=False),
    "mail": Surface(lambda worths: worths[0], 0.0, learns_unseen=True),
    "other": Surface(lambda worths: worths[0], 0.0, learns_unseen=False),
}
TOLD: dict[str, Any] = {
    "attribution_window_s": WINDOW / 1000,
    "decision_wait_s": WAIT / 1000,
    "lateness_s": LATENESS / 1000,
    "feedback": {kind: FeedbackKind(reward=worth) for kind, worth in WORTH.items() if kind != "click"},
    "attribution": RULES,
}
ITEMS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4)
DELAYS = st.sampled_from([0, 0, 1, 700, LATENESS - 1, LATENESS])
# Often exactly on the edges: the last moment of a window, of a wait and of the lateness bound, and the next.
STEPS = st.sampled_from(
    [0, 1, 400, LATENESS, LATENESS + 1, WAIT, WAIT + 1, WINDOW - WAIT, WINDOW, WINDOW + 1]
)
PLACES = st.integers(0, 10**6)
MISHAPS = st.sampled_from(["", "", "", "crash before", "crash in between", "answer lost"])
SPOKEN = st.sampled_from([None, "home", "cart", "elsewhere"])


class Made:
    """A decision that was made: who may speak of it, and when it was."""

    def __init__(self, number: int, subject: str, at_ms: int) -> None:
        self.name, self.subject, self.at_ms = decision_id(number), subject, at_ms


class AttributionMachine(RuleBasedStateMachine):
    """Publishes, delivers, folds and crashes; an oracle counts from the events alone."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.number = AT, 0
        self.made: list[Made] = []
        self.under_way: list[Named] = []
        self.log: list[Named] = []
        self.told: list[Named] = []
        self.read_to = self.watermark = 0
        self.folded = shard(**TOLD)
        self.oracle = Oracle(MEANT, Times(WINDOW, WAIT))
        self.batches: list[tuple[list[Row], int]] = []

    # -- publishing

    @initialize(surface=st.sampled_from(sorted(MEANT)), items=ITEMS)
    def begin(self, surface: str, items: list[str]) -> None:
        self.decide("u1", surface, items, is_lost=False)

    @rule(
        subject=st.sampled_from(SUBJECTS),
        surface=st.sampled_from(sorted(MEANT)),
        items=ITEMS,
        is_lost=st.sampled_from([False, False, False, True]),
    )
    def decide(self, subject: str, surface: str, items: list[str], *, is_lost: bool) -> None:
        made = Made(self.number, subject, self.now)
        event = decision_event(items, at=self.now, user=subject, number=self.number, surface=surface)
        self.number += 1
        self.made.append(made)
        if not is_lost:
            self._publish(Named(event, made.name, is_forged=False))

    @rule(
        which=PLACES,
        items=ITEMS,
        surface=st.sampled_from(["home", "cart"]),
        back=DELAYS,
        names=st.sampled_from("ttttnf"),
    )
    def show(self, which: int, items: list[str], surface: str, back: int, names: str) -> None:
        shown = [ShownItem(item, place) for place, item in enumerate(items)]
        self._speak(which, back, names, lambda **who: Impression(**who, surface=surface, items=shown))

    @rule(
        which=PLACES,
        item=st.sampled_from("abcd"),
        kind=st.sampled_from(sorted(WORTH)),
        surface=SPOKEN,
        back=DELAYS,
        names=st.sampled_from("ttttttnf"),
    )
    def reward(self, which: int, item: str, kind: str, surface: str | None, back: int, names: str) -> None:
        def made(**who: Any) -> Click | Feedback:
            said = {**who, "item_id": item, "surface": surface}
            return Click(**said) if kind == "click" else Feedback(**said, kind=kind)

        name = self.made[which % len(self.made)].name
        like_it = [one for one in self.told if one.decision_id == name and _item(one.event) == item]
        if len(like_it) < FIRST_KEPT:  # of more only some are kept: that is another test's subject
            self._speak(which, back, names, made)

    def _speak(self, which: int, back: int, names: str, make: Callable[..., Told]) -> None:
        """Publish an event of a client: it names its decision truly (t), none (n), or another's (f)."""
        made = self.made[which % len(self.made)]
        other = next(subject for subject in SUBJECTS if subject != made.subject)
        who: dict[str, Any] = {
            "event_id": f"e{self.number}",
            "occurred_at": self.now - back,
            "session_id": "s1",
            "user_id": other if names == "f" else made.subject,
        }
        self.number += 1
        who |= {} if names == "n" else {"decision": token(made.name, made.subject)}
        self._publish(Named(make(**who), made.name if names == "t" else None, is_forged=names == "f"))

    @precondition(lambda self: self.told)
    @rule(which=PLACES, is_renamed=st.booleans())
    def repeat(self, which: int, *, is_renamed: bool) -> None:
        """A producer sends an event of late again, a client's perhaps under another id."""
        event, name, is_forged = self.told[-1 - which % min(6, len(self.told))]
        again: Told = type(event)(**{field: getattr(event, field) for field in event.__struct_fields__})
        if is_renamed and isinstance(event, Impression | Click | Feedback):
            again.event_id = f"e{self.number}"
            self.number += 1
        self._publish(Named(again, name, is_forged))

    def _publish(self, one: Named) -> None:
        self.told.append(one)
        self.under_way.append(one)
        self._deliver_due()

    # -- delivering

    @precondition(lambda self: self.under_way)
    @rule(which=PLACES)
    def deliver(self, which: int) -> None:
        self.log.append(self.under_way.pop(which % len(self.under_way)))

    @rule(by=STEPS)
    def let_time_pass(self, by: int) -> None:
        """No event is under way longer than the lateness bound."""
        self.now += by
        self._deliver_due()

    @rule(which=PLACES)
    def let_time_pass_to_an_edge(self, which: int) -> None:
        """Stand exactly at the end of a decision's window or wait, or right behind it."""
        edges = [
            made.at_ms + span + past for made in self.made[-4:] for span in (WAIT, WINDOW) for past in (0, 1)
        ]
        ahead = [edge for edge in edges if edge > self.now] or [self.now]
        self.let_time_pass(ahead[which % len(ahead)] - self.now)

    @rule(
        surface=st.sampled_from(["home", "cart", "mail"]),
        item=st.sampled_from("abc"),
        rewards=st.lists(st.tuples(st.sampled_from(sorted(WORTH)), DELAYS), min_size=2, max_size=4),
    )
    def visit(self, surface: str, item: str, rewards: list[tuple[str, int]]) -> None:
        """A whole visit: a slate, its impression, and several rewards of one item."""
        self.decide("u1", surface, ["a", "b", "c"], is_lost=False)
        which = len(self.made) - 1
        self.let_time_pass(800)
        self.show(which, ["a", "b", "c"], "home", 0, "t")
        for kind, back in rewards:
            self.reward(which, item, kind, surface, back, "t")

    @rule(
        which=PLACES,
        span=st.sampled_from([WAIT, WINDOW]),
        past=st.sampled_from([0, 1]),
        item=st.sampled_from("abc"),
        is_shown=st.booleans(),
    )
    def speak_at_the_last_moment(
        self, which: int, span: int, past: int, item: str, *, is_shown: bool
    ) -> None:
        """With everything folded up to a moment, an event of that very moment is not late."""
        moment = self.made[which % len(self.made)].at_ms + span + past
        if moment + LATENESS < self.now:
            return
        self.let_time_pass(moment + LATENESS - self.now)
        self.fold(1000, "")
        if is_shown:
            self.show(which, [item], "home", LATENESS, "t")
        else:
            self.reward(which, item, "click", None, LATENESS, "t")

    def _deliver_due(self) -> None:
        due = [one for one in self.under_way if one.event.occurred_at + LATENESS <= self.now]
        self.log += due
        self.under_way = [one for one in self.under_way if one not in due]

    # -- folding

    @rule(most=st.sampled_from([1, 2, 5, 100]), mishap=MISHAPS)
    def fold(self, most: int, mishap: str) -> None:
        batch = self.log[self.read_to : self.read_to + most]
        # The watermark of events read: it trails the newest by the bound. With all read, by the clock.
        newest = max((one.event.occurred_at for one in batch), default=0)
        reached = self.now if self.read_to + len(batch) == len(self.log) else newest
        self._commit(batch, max(self.watermark, reached - LATENESS), mishap)

    def _commit(self, batch: list[Named], watermark: int, mishap: str) -> None:
        rows = [_row(one.event, self.read_to + n) for n, one in enumerate(batch)]
        if mishap == "crash before":
            self._restart()
        if mishap == "crash in between":
            _fold_only(self.folded, rows, watermark)
            self._restart()
        self.folded.fold(rows, watermark)
        self.oracle.commit(batch, self.watermark)
        self.batches.append((rows, watermark))
        self.read_to, self.watermark = self.read_to + len(batch), watermark
        if mishap == "answer lost":
            self._restart()

    def _restart(self) -> None:
        """Drop all memory: the next owner knows what is stored, and reads on where that ends."""
        again = shard(self.folded.store, **TOLD)
        again.sent, again.feeds = self.folded.sent, self.folded.feeds
        self.folded = again

    # -- judging

    @invariant()
    def what_is_pending_is_what_is_open(self) -> None:
        opened = self.folded.logic.opened.attribution.open.values()  # type: ignore[attr-defined]
        wished = Counter(entry.surface or entry.shown_on or "_none" for entry in opened)
        counted = {name: n for name, n in self._counts().items() if name.startswith("pending:")}
        assert counted == {count_field("pending", surface): n for surface, n in wished.items()}

    @invariant()
    def nothing_closes_before_its_window_is_over(self) -> None:
        for outcome in self.folded.outcomes():
            assert outcome.occurred_at > outcome.shown_at + WINDOW

    def _counts(self) -> dict[str, int]:
        return {k.decode(): int(v) for k, v in self.folded.hash("attribution").items() if int(v)}

    def teardown(self) -> None:
        """Deliver and fold everything, close every window, and compare with the oracle and a plain replay."""
        self.log += self.under_way
        self.under_way = []
        self._commit(self.log[self.read_to :], max(self.watermark, self.now - LATENESS), "")
        self._commit([], self.now + 10 * (WINDOW + WAIT), "")
        results, counts = self.oracle.expected()
        found = {outcome.event_id: outcome for outcome in self.folded.outcomes()}
        assert len(found) == len(self.folded.outcomes())
        slots = {
            name: [(s.item_id, s.position, round(s.reward, 9), s.defaulted) for s in outcome.slots]
            for name, outcome in found.items()
        }
        wished = {
            name: [
                (s.item_id, s.place, round(s.reward, 9), s.is_default and s.reward > 0) for s in result.slots
            ]
            for name, result in results.items()
        }
        assert wished == slots
        assert {name: (one.shown_at, one.unseen) for name, one in results.items()} == {
            name: (one.shown_at, one.unseen) for name, one in found.items()
        }
        assert self._counts() == counts
        assert self.folded.hash("open") == {}
        plain = shard(Store(), **TOLD)
        for rows, watermark in self.batches:
            plain.fold(rows, watermark)
        assert self.folded.store.state() == plain.store.state()
        assert self.folded.sent == plain.sent


def _item(event: Told) -> str | None:
    return event.item_id if isinstance(event, Click | Feedback) else None


def _row(event: Told, offset: int) -> Row:
    kind = {"Click": "clicks", "Feedback": "feedback", "Impression": "impressions"}
    return row(kind.get(type(event).__name__, "decisions"), event, offset=offset)


def _fold_only(folded: Folded, rows: list[Row], watermark: int) -> Change:
    """Fold without committing: what the fold did is lost with its memory."""
    logic = folded.logic
    logic.put([folded.store.values.get(key) for key in logic.wanted(rows, watermark)])
    return logic.fold(rows, watermark).finish()


TestAttributionMachine = AttributionMachine.TestCase
TestAttributionMachine.settings = settings(
    max_examples=120,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate, Phase.shrink],
    database=None,
    suppress_health_check=list(HealthCheck),
)
