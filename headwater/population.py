"""A stated population, record by record, made by the classes that fold real events: what a plan is sized by.

Popularity is Zipf(1); a visitor has a geometric number of interactions, in sessions of five on average, each
interaction after a decision and an impression; half the visitors have taught the policy something.
"""

from collections.abc import Iterator

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bandits.hybrid import packed_size
from bandits.ranking import ranking_policy, seal
from online_models.ranking import ranking_registry
from state.events import Candidates, Click, Decision, Item, Slot, Versions, Weights
from state.feed import Interaction
from state.opened import OpenDecision
from state.packing import to_base64
from state.settings import Settings
from state.subject import SubjectRecord
from state.tokens import make_decision_id
from stream.interactions import Caps, add_interaction, begin_or_continue_session

SESSION_LENGTH = 5
STEP_MS = 20_000
APART_MS = 90_000_000
"""Time between two sessions of one visitor."""
BEGIN_MS = 1_750_000_000_000
IntArray = NDArray[np.int64]


class Population(Struct, frozen=True):
    """How many there are of everything, and of what size.

    Attributes
    ----------
    users, items, sessions
        Subjects with a record, catalogue items, sessions kept for the session index.
    decisions_per_day
        Slates decided.
    interactions
        Mean number of interactions of a user.
    slots, candidates
        Items of a slate, and candidates logged with it.
    surfaces
        Places where slates are shown.
    rows_per_commit
        Mean number of rows of one commit.
    seed
        Of everything random.
    """

    users: int
    items: int
    sessions: int
    decisions_per_day: int
    interactions: float = 8.0
    slots: int = 10
    candidates: int = 200
    surfaces: int = 1
    rows_per_commit: int = 20
    seed: int = 1


class Visitor(Struct):
    """One visitor's record and the interactions that shared statistics counted."""

    subject: str
    record: SubjectRecord
    steps: list[Interaction]


def popularity(items: int) -> NDArray[np.float64]:
    """Return the chance of each item (items,), most popular first."""
    weights = 1.0 / np.arange(1, max(1, items) + 1)
    return np.asarray(weights / weights.sum())


def draw(rng: np.random.Generator, items: int, count: int) -> IntArray:
    """Return items (count,) by popularity."""
    return np.searchsorted(np.cumsum(popularity(items)), rng.random(count)).clip(0, max(0, items - 1))


def item_id(number: int) -> str:
    """Return an item's id."""
    return f"item-{number:07d}"


def user_id(number: int) -> str:
    """Return a user's id."""
    return f"user-{number:07d}"


def visitors(population: Population, settings: Settings, numbers: range) -> Iterator[Visitor]:
    """Yield visitors by number; the same numbers and seed give the same visitors."""
    rng = np.random.default_rng([population.seed, 1, numbers.start])
    lengths = rng.geometric(1 / max(1.0, population.interactions), len(numbers))
    picks = [item_id(n) for n in draw(rng, population.items, int(lengths.sum())).tolist()]
    ends = np.cumsum(lengths)
    caps = Caps(settings.hidden_cap, settings.seen_cap, settings.idle_ms)
    block = 8 * packed_size(ranking_policy().item_dim)
    for place, number in enumerate(numbers):
        items = picks[ends[place] - lengths[place] : ends[place]]
        record = SubjectRecord(bandit=seal(rng.bytes(block)) if number % 2 else b"")
        yield Visitor(user_id(number), record, _visit(record, user_id(number), items, (caps, settings)))


def _visit(
    record: SubjectRecord, subject: str, items: list[str], told: tuple[Caps, Settings]
) -> list[Interaction]:
    """Fold a visitor's interactions as a shard does, a commit each."""
    caps, settings = told
    steps, at_ms = [], BEGIN_MS
    for n, item in enumerate(items):
        at_ms += STEP_MS if n % SESSION_LENGTH else APART_MS
        session, event_id = f"session-{subject}-{n // SESSION_LENGTH}", f"{subject}-{n}"
        click = Click(event_id=event_id, occurred_at=at_ms, session_id=session, user_id=subject, item_id=item)
        begin_or_continue_session(record, session, at_ms, caps.idle_ms)
        record.events, record.impressions, record.clicks = 2 * n + 2, n + 1, n + 1
        for mark in ("decision", "impression", "click"):
            record.mark_applied(f"{event_id}-{mark}", at_ms)
        record.forget_applied(at_ms - settings.lateness_ms)
        step = add_interaction(record, click, 1.0, caps)
        if step is not None:
            steps.append(step)
    return steps


def catalogue(population: Population, numbers: range) -> Iterator[Item]:
    """Yield catalogue items by number."""
    rng = np.random.default_rng([population.seed, 2, numbers.start])
    kinds, brands = rng.integers(0, 60, len(numbers)), rng.integers(0, 400, len(numbers))
    for n, kind, brand in zip(numbers, kinds.tolist(), brands.tolist(), strict=True):
        yield Item(
            event_id=f"catalogue-{n}",
            occurred_at=BEGIN_MS,
            item_id=item_id(n),
            title=f"Article {n} of brand {brand}",
            categories=[f"kind-{kind}", f"aisle-{kind % 9}"],
            attributes={"brand": f"brand-{brand}", "price": float(brand % 97)},
            published_at=BEGIN_MS - 1000 * n,
        )


def decisions(population: Population, numbers: range) -> Iterator[Decision]:
    """Yield decisions by number, as a server logs them."""
    rng = np.random.default_rng([population.seed, 3, numbers.start])
    policy, registry = ranking_policy(), ranking_registry()
    width, pairs = len(registry), [(left, right) for left, right in registry.cross_places.tolist()]
    slots, candidates = population.slots, max(population.slots, population.candidates)
    for n in numbers:
        ids = [item_id(k) for k in draw(rng, population.items, candidates).tolist()]
        user = int(rng.integers(max(1, population.users)))
        yield Decision(
            event_id=make_decision_id(BEGIN_MS, 0, n),
            occurred_at=BEGIN_MS,
            session_id=f"session-{user_id(user)}-0",
            user_id=user_id(user),
            surface="home",
            rung="personal",
            slots=[Slot(one, float(rng.random()), slots, source="k") for one in ids[:slots]],
            candidates=Candidates(ids, to_base64(rng.random(candidates)), "k" * candidates, ""),
            context=to_base64(rng.random(policy.context_dim)),
            features=to_base64(rng.random(slots * width)),
            arms=to_base64(rng.random(slots * policy.item_dim)),
            logits=to_base64(rng.random(slots)),
            exploration={"scheme": "epsilon", "rate": 0.05, "temperature": 0.05, "optimism": 0.3},
            versions=Versions("hybrid-1", 3, 2, "0123456789abcdef"),
            seed=int(rng.integers(2**62)),
            weights=Weights(to_base64(rng.random(1 + width)), pairs, to_base64(rng.random(len(pairs)))),
            policy=to_base64(rng.random(slots)),
        )


def opened(decision: Decision) -> OpenDecision:
    """Return what a shard notes of a decision that was shown."""
    shown = [slot.item_id for slot in decision.slots]
    return OpenDecision(decision.subject, BEGIN_MS, decided=True, shown_at=BEGIN_MS + 500, shown=shown)
