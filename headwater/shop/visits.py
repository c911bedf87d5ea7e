"""What the shop remembers of its visitors: the slate each has before them."""

import secrets
from collections import OrderedDict

from msgspec import Struct

from serving.client import Event, RecommendationRequest, Slate, clicked, said, shown

SURFACE = "home"
SLOTS = 12
WAIT_MS = 250
VISITORS = 5_000
FEEDBACK = ("like", "hide")


class Act(Struct, forbid_unknown_fields=True):
    """What a visitor did on the page: ``click``, ``like`` or ``hide`` an item."""

    kind: str
    item_id: str


class Visits:
    """Slates of the latest visitors, and the events that follow from what they do."""

    def __init__(self) -> None:
        self._slates: OrderedDict[str, Slate] = OrderedDict()

    def __len__(self) -> int:
        return len(self._slates)

    def put(self, session_id: str, slate: Slate) -> None:
        """Remember what a visitor has before them; the longest silent are forgotten."""
        self._slates[session_id] = slate
        self._slates.move_to_end(session_id)
        if len(self._slates) > VISITORS:
            self._slates.popitem(last=False)

    def shown(self, session_id: str) -> list[Event]:
        """Return the impression of what a visitor has before them; nothing where that is unknown or empty."""
        slate = self._slates.get(session_id)
        return [shown(slate, session_id=session_id)] if slate is not None and slate.items else []

    def acted(self, session_id: str, act: Act) -> Event:
        """Return the event of an act, with the decision of the slate it was done on.

        Raises
        ------
        ValueError
            If there is no such act.
        """
        slate = self._slates.get(session_id)
        if slate is not None and act.item_id not in {item.item_id for item in slate.items}:
            slate = None  # of an earlier slate, or from elsewhere
        if act.kind == "click":
            return clicked(slate, act.item_id, session_id=session_id)
        if act.kind in FEEDBACK:
            return said(slate, act.item_id, act.kind, session_id=session_id)
        raise ValueError(f"field 'kind' has value {act.kind!r}; wished: one of click, {', '.join(FEEDBACK)}")


def request_of(session_id: str) -> RecommendationRequest:
    """Return what the page asks for."""
    return RecommendationRequest(session_id=session_id, surface=SURFACE, k=SLOTS, wait_ms=WAIT_MS)


def new_session() -> str:
    """Return a session id nobody can guess."""
    return f"shop-{secrets.token_hex(12)}"
