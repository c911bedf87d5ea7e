"""Seeded visits: a decision as a server logs it, its impression, and what the visitor makes of it."""

import random
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from bandits.ranking import ARM_DIM, CONTEXT_DIM
from online_models.ranking import ranking_registry
from state.events import Candidates, Click, Decision, Feedback, Impression, ShownItem, Slot, Versions
from state.packing import to_base64
from state.partition import shard_of
from state.settings import Settings
from state.tokens import TokenSigner, make_decision_id

ITEMS = 1_000
SLOTS = 5
SURFACES = ("home", "search")
TEMPLATES = 40
TOKEN_LIFE_MS = 86_400_000
FEEDBACK = ("like", "purchase", "add_to_cart", "dwell", "hide")
# How a visit goes, and how often of 100: shown; never shown; shown, but never logged; shown without a token.
COURSES = {"shown": 88, "unseen": 5, "orphan": 3, "tokenless": 4}
WITHOUT_TOKEN, FORGED = 0.05, 0.03


class Told(Struct, frozen=True):
    """One event of a visit, and the decision its token truly names."""

    kind: str
    event: Decision | Impression | Click | Feedback
    names: str | None = None


class Crowd:
    """Visitors, each with a walk of its own through the catalogue, so that none meets an item twice.

    Parameters
    ----------
    settings
        Of the namespace: shards, secret and seed.
    visitors
        How many there are at a time.
    """

    def __init__(self, settings: Settings, visitors: int = 400) -> None:
        self._settings = settings
        self._rng = random.Random(settings.seed)
        self._signer = TokenSigner(settings.secret())
        self._starts = [self._rng.randrange(ITEMS) for _ in range(visitors)]
        self._visits = [0] * visitors
        self._templates = [self._template() for _ in range(TEMPLATES)]
        self._number = count()

    def visit(self, at_ms: int) -> Iterator[Told]:
        """Yield the events of one visit that begins at a moment; they occur within two seconds of it."""
        course = self._rng.choices(list(COURSES), list(COURSES.values()))[0]
        decision = self._decision(at_ms)
        if course in ("shown", "unseen"):
            yield Told("decisions", decision)
        if course == "unseen":
            return
        token, names = self._token(decision, course)
        shown_at = at_ms + self._rng.randrange(100)
        shown = [ShownItem(slot.item_id, place) for place, slot in enumerate(decision.slots)]
        common = self._common(decision, shown_at)
        yield Told("impressions", Impression(**common, items=shown, decision=token), names)
        yield from self._reactions(decision, course, shown_at)

    def _reactions(self, decision: Decision, course: str, shown_at: int) -> Iterator[Told]:
        rng = self._rng
        for slot in rng.sample(decision.slots, rng.choices((0, 1, 2), (2, 5, 3))[0]):
            token, names = self._token(decision, course)
            common = self._common(decision, shown_at + rng.randrange(1, 1_900))
            common |= {"item_id": slot.item_id, "decision": token}
            if rng.random() < 0.6:
                yield Told("clicks", Click(**common), names)
            else:
                kind = rng.choice(FEEDBACK)
                value = float(rng.randrange(6, 66, 6)) if kind == "dwell" else None
                yield Told("feedback", Feedback(**common, kind=kind, value=value), names)

    def _token(self, decision: Decision, course: str) -> tuple[str | None, str | None]:
        """Return a token and the decision it truly names: most are true, some missing, some forged."""
        chance = self._rng.random()
        if course == "tokenless" or chance < WITHOUT_TOKEN:
            return None, None
        token = self._signer.sign(decision.event_id, decision.subject, decision.occurred_at + TOKEN_LIFE_MS)
        if chance < WITHOUT_TOKEN + FORGED:
            return token[:-1] + ("0" if token[-1] != "0" else "1"), None
        return token, decision.event_id

    def _decision(self, at_ms: int) -> Decision:
        number = self._rng.randrange(len(self._visits))
        visit = self._visits[number]
        self._visits[number] += 1
        walk, step = divmod(visit, ITEMS // SLOTS)
        name = f"visitor-{number}-{walk}"
        who: dict[str, Any] = {"session_id": f"session-{name}", "user_id": name if number % 5 else None}
        first = self._starts[number] + step * SLOTS
        template = self._rng.choice(self._templates)
        slots = [replace(s, item_id=f"item-{(first + n) % ITEMS}") for n, s in enumerate(template.slots)]
        decision = replace(template, occurred_at=at_ms, slots=slots, **who)
        shard = shard_of(decision.subject, self._settings.shards)
        return replace(decision, event_id=make_decision_id(at_ms, shard, self._rng.getrandbits(48)))

    def _common(self, decision: Decision, at_ms: int) -> dict[str, Any]:
        return {
            "event_id": f"event-{next(self._number)}",
            "occurred_at": at_ms,
            "user_id": decision.user_id,
            "session_id": decision.session_id,
            "surface": decision.surface,
            "producer": "benchmark",
        }

    def _template(self) -> Decision:
        """Return a decision of the shapes the models learn from, with numbers of no meaning."""
        numbers = np.random.default_rng(self._rng.getrandbits(32))

        def packed(*shape: int) -> str:
            return to_base64(numbers.normal(0.0, 0.1, shape))

        return Decision(
            event_id="template", occurred_at=0, session_id="template",
            surface=self._rng.choice(SURFACES), rung="personal",
            slots=[Slot("item", 0.2, ITEMS) for _ in range(SLOTS)],
            candidates=Candidates([], "", "", ""), context=packed(CONTEXT_DIM),
            features=packed(SLOTS, len(ranking_registry())), arms=packed(SLOTS, ARM_DIM),
            logits=packed(SLOTS), exploration={"rate": 0.05}, seed=1,
            versions=Versions("policy", 1, 1, ranking_registry().fingerprint()),
        )  # fmt: skip
