"""Events of what visitors do with a slate, with an id of their own and the present."""

import time
import uuid
from typing import Any

from serving.client.slates import Slate
from state.events import Click, Feedback, Impression, ShownItem


def shown(slate: Slate, *, session_id: str, user_id: str | None = None) -> Impression:
    """Return the impression of a whole slate; a stand-in's carries no decision, and teaches no policy.

    Parameters
    ----------
    slate
        As it was shown.
    session_id, user_id
        Of the visitor.
    """
    items = [ShownItem(item.item_id, item.position) for item in slate.items]
    return Impression(
        **_stamp(),
        session_id=session_id,
        user_id=user_id,
        surface=slate.surface,
        items=items,
        decision=slate.decision or None,
    )


def clicked(slate: Slate | None, item_id: str, *, session_id: str, user_id: str | None = None) -> Click:
    """Return a click on an item, of a slate or (None) from anywhere else.

    Parameters
    ----------
    slate
        Where it was shown.
    item_id
        What was clicked.
    session_id, user_id
        Of the visitor.
    """
    return Click(**_stamp(), **_where(slate), session_id=session_id, user_id=user_id, item_id=item_id)


def said(
    slate: Slate | None,
    item_id: str,
    kind: str,
    *,
    session_id: str,
    user_id: str | None = None,
    value: float | None = None,
) -> Feedback:
    """Return feedback on an item, of a slate or (None) from anywhere else.

    Parameters
    ----------
    slate
        Where it was shown.
    item_id
        What it is about.
    kind
        A kind of the server's feedback registry, such as ``like``, ``hide`` or ``purchase``.
    session_id, user_id
        Of the visitor.
    value
        Seconds of a dwell, stars of a rating, price of a purchase.
    """
    return Feedback(
        **_stamp(),
        **_where(slate),
        session_id=session_id,
        user_id=user_id,
        item_id=item_id,
        kind=kind,
        value=value,
    )


def _stamp() -> dict[str, Any]:
    return {"event_id": uuid.uuid4().hex, "occurred_at": time.time_ns() // 1_000_000}


def _where(slate: Slate | None) -> dict[str, Any]:
    return {} if slate is None else {"surface": slate.surface, "decision": slate.decision or None}
