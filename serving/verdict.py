"""Why an item is, or is not, in a past slate: exactly one verdict for any item."""

from typing import Literal

import numpy as np
from msgspec import Struct

from online_models.features import FeatureRegistry
from serving.candidates import SOURCES
from serving.cuts import reason_of
from serving.relaw import drawn_slots
from serving.why import Explainer, SlotWhy
from state.events import Decision, Versions

Kind = Literal[
    "shown",
    "cut_by_cap",
    "cut_by_diversity",
    "ranked",
    "filtered",
    "never_candidate",
    "not_listed",
    "unknown_item",
]


class ItemWhy(Struct, kw_only=True):
    """Why an item is, or is not, in a past slate.

    Attributes
    ----------
    decision_id, surface, item_id
        The question.
    verdict
        ``shown``; ``cut_by_cap`` or ``cut_by_diversity`` (at ``position`` it would have been taken by its
        score); ``ranked`` (a candidate that others outranked, or that chance passed over); ``filtered``
        (retrieved, and cut for ``reason``); ``never_candidate`` (no source brought it); ``not_listed`` (no
        candidate, and more items were cut than the log lists); ``unknown_item`` (the catalogue does not know
        it, and the decision does not name it).
    said
        The verdict in a sentence.
    position
        Where it was shown or cut, from 0.
    reason, rule
        Why it was filtered, and the name of the rule where one did it.
    rank, candidates
        Its place by score, 1 for the best, among so many.
    source, score
        What brought it first, and what it was drawn by.
    slot
        Everything else known of a shown item; the log keeps features of shown slots only.
    versions
        Of everything the decision was made under.
    """

    decision_id: str
    surface: str
    item_id: str
    verdict: Kind
    said: str
    versions: Versions
    position: int | None = None
    reason: str = ""
    rule: str = ""
    rank: int | None = None
    candidates: int = 0
    source: str = ""
    score: float | None = None
    slot: SlotWhy | None = None


def item_why(decision: Decision, item_id: str, registry: FeatureRegistry, *, is_known: bool) -> ItemWhy:
    """Return the one verdict on an item.

    Parameters
    ----------
    decision
        As logged.
    item_id
        Any.
    registry
        Of the features of this server.
    is_known
        Whether the catalogue knows the item.
    """
    logged = decision.candidates
    answer = ItemWhy(
        decision_id=decision.event_id,
        surface=decision.surface,
        item_id=item_id,
        verdict="never_candidate",
        said="",
        versions=decision.versions,
        candidates=len(logged.sources),
    )
    if item_id in logged.item_ids:
        place = logged.item_ids.index(item_id)
        if place < len(logged.sources):
            _of_candidate(answer, Explainer(decision, registry), place)
        else:
            cut = reason_of(logged.cuts[place - len(logged.sources)], decision.rules)
            answer.verdict, answer.reason, answer.rule = "filtered", cut.reason, cut.rule
            answer.said = f"A source brought it, and it was cut: {cut.said}."
    elif not is_known:
        answer.verdict, answer.said = "unknown_item", "The catalogue knows no such item."
    elif logged.uncut:
        answer.verdict = "not_listed"
        answer.said = (
            f"It was no candidate: either no source brought it, or it is one of {logged.uncut} retrieved "
            "items that were cut beyond those the log lists."
        )
    else:
        answer.said = "No source brought it."
    return answer


def _of_candidate(answer: ItemWhy, explainer: Explainer, place: int) -> None:
    decision, logged = explainer.decision, explainer.decision.candidates
    answer.rank, answer.score = explainer.rank(place), float(explainer.scores[place])
    answer.source = SOURCES.get(logged.sources[place], logged.sources[place])
    shown = np.flatnonzero(explainer.places == place)
    if len(shown):
        answer.slot = explainer.slots()[int(shown[0])]
        answer.verdict, answer.position = "shown", answer.slot.position
        answer.said = f"Shown at position {answer.position}, {_how(answer.slot)}."
        return
    cut = _cut_at(explainer, place)
    if cut is not None:
        n, kind = cut
        answer.verdict, answer.position = kind, decision.before + n
        why = "its category was full" if kind == "cut_by_cap" else "it is too like an item placed before"
        answer.said = f"Its score would have taken position {answer.position}, but {why}."
        return
    answer.verdict = "ranked"
    answer.said = f"Ranked {answer.rank} of {answer.candidates}; the slate has {len(decision.slots)} slots."
    if answer.rank <= len(decision.slots):
        explored = sum(slot.explored for slot in decision.slots)
        pinned = sum(slot.flag == "pinned" for slot in decision.slots)
        answer.said += f" {explored} of them explored, {pinned} were pinned"
        answer.said += ", and the scheme draws by chance." if explainer.law.is_softmax else "."


def _how(slot: SlotWhy) -> str:
    if slot.flag == "pinned":
        return "where it was pinned"
    if slot.flag:
        return f"by the trend ({slot.flag})"
    return "by exploration" if slot.explored else f"with rank {slot.rank}"


def _cut_at(explainer: Explainer, place: int) -> tuple[int, Literal["cut_by_cap", "cut_by_diversity"]] | None:
    """Return the first slot whose item has a lower score, and what kept the candidate from it."""
    problem, drawn = explainer.problem, drawn_slots(explainer.decision)
    if problem.rule is None and problem.diversity is None:
        return None
    pinned = np.zeros(0, np.int64) if problem.pinned is None else problem.pinned
    placed = explainer.places[drawn]
    for n, at in enumerate(drawn):
        if explainer.decision.slots[at].explored:
            continue
        taken, before = int(placed[n]), np.concatenate([pinned, placed[:n]])
        scores = problem.scores
        off = np.zeros(len(scores)) if problem.diversity is None else problem.diversity.penalties(before)
        has_room = problem.rule is None or bool(problem.rule.eligible(before)[place])
        if not has_room and scores[place] - off[place] > scores[taken] - off[taken]:
            return at, "cut_by_cap"
        if (
            has_room
            and scores[place] > scores[taken]
            and scores[place] - off[place] < scores[taken] - off[taken]
        ):
            return at, "cut_by_diversity"
    return None
