"""Slates as clients see them, and those that stand in while the server does not answer."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from serving.requests import RecommendationAnswer, RecommendationRequest, RecommendedItem
from state.events import subject_of

Origin = Literal["live", "last_good", "static"]
LOCAL_RUNG = "local"
FIRST_PAGE = "first"
SLATES = 2_000
BARRED_SUBJECTS, BARRED_ITEMS = 2_000, 500
_VARYING = ("session_id", "user_id", "surface", "k", "exclude", "recent_items", "after", "wait_ms")
# Rungs that know nothing of the visitor: one visitor's answer may be another's.
_IMPERSONAL = ("trend", "segment", "static")


class Slate(RecommendationAnswer):
    """An answer, and where it is from.

    ``origin`` is ``live`` for the server's answers; ``last_good`` and ``static`` are the client's own, with
    the rung ``local``, without a decision, and with ``problem`` saying why.
    """

    origin: Origin = "live"
    problem: str = ""


class LocalSlates:
    """The client's own ladder: the visitor's last slate, the surface's last trend, a static list.

    What a request restricts itself to (categories, filters) cannot be judged here: a slate stands in only for
    requests with the same restrictions, and the static list for those without any. Items that the
    visitor has acted on since, or excludes, are left out.

    Parameters
    ----------
    static_items
        Surface -> item ids.
    """

    def __init__(self, static_items: Mapping[str, Sequence[str]]) -> None:
        self._static = {surface: list(ids) for surface, ids in static_items.items()}
        self._held: OrderedDict[tuple[str, str, bytes], list[RecommendedItem]] = OrderedDict()
        self._barred: OrderedDict[str, dict[str, None]] = OrderedDict()

    def remember(self, request: RecommendationRequest, slate: Slate) -> None:
        """Keep a good answer."""
        if not slate.items:
            return
        wishes, subject = _wishes(request), subject_of(request.user_id, request.session_id)
        self._put((request.surface, subject, wishes), slate.items)
        if slate.rung in _IMPERSONAL:
            self._put((request.surface, "", wishes), slate.items)

    def _put(self, key: tuple[str, str, bytes], items: list[RecommendedItem]) -> None:
        self._held[key] = items
        self._held.move_to_end(key)
        if len(self._held) > SLATES:
            self._held.popitem(last=False)

    def bar(self, subject: str, item_id: str) -> None:
        """Leave an item out of this visitor's slates from now on: they have seen, hidden or disliked it."""
        items = self._barred.setdefault(subject, {})
        items[item_id] = None
        self._barred.move_to_end(subject)
        if len(items) > BARRED_ITEMS:
            del items[next(iter(items))]
        if len(self._barred) > BARRED_SUBJECTS:
            self._barred.popitem(last=False)

    def stand_in(self, request: RecommendationRequest, problem: str) -> Slate | None:
        """Return what to show instead of an answer; None where nothing is known."""
        wishes, subject = _wishes(request), subject_of(request.user_id, request.session_id)
        barred = {*request.exclude, *self._barred.get(subject, ())}
        for of_whom in (subject, ""):
            held = self._held.get((request.surface, of_whom, wishes), [])
            if items := _placed((item for item in held if item.item_id not in barred), request.k):
                return _local(request, items, "last_good", problem)
        if wishes != _WITHOUT_WISHES:
            return None
        known = (_static_item(item_id) for item_id in self._static.get(request.surface, ()))
        items = _placed((item for item in known if item.item_id not in barred), request.k)
        return _local(request, items, "static", problem) if items else None


def _wishes(request: RecommendationRequest) -> bytes:
    """Return what a request restricts itself to, whatever fields requests may gain."""
    given: dict[str, Any] = msgspec.to_builtins(request)
    if given.get("page") == FIRST_PAGE:  # whoever begins to page asks for what others ask for
        del given["page"]
    return msgspec.json.encode({k: v for k, v in sorted(given.items()) if k not in _VARYING})


_WITHOUT_WISHES = msgspec.json.encode({})


def _static_item(item_id: str) -> RecommendedItem:
    return RecommendedItem(item_id, 0, "", "always there", 1.0)


def _placed(items: Any, k: int) -> list[RecommendedItem]:
    return [replace(item, position=place) for place, item in zip(range(k), items, strict=False)]


def _local(
    request: RecommendationRequest, items: list[RecommendedItem], origin: Origin, problem: str
) -> Slate:
    return Slate(
        decision_id="",
        decision="",
        surface=request.surface,
        rung=LOCAL_RUNG,
        items=items,
        exploration_version=0,
        model_version=0,
        state_as_of=0,
        staleness_ms=0,
        stale=request.after is not None,
        origin=origin,
        problem=problem,
    )
