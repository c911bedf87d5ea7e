"""From a wish to the control event that fulfils it, refused here already where the engine would refuse it."""

import uuid
from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from state.decoding import Refusal
from state.events import Control
from state.exploration import (
    Document,
    Explorations,
    check_depth,
    check_step,
    in_force,
    read_document,
    settings_of,
)

STOPPED: dict[str, Any] = {"segments": [], "guardrails": [], "ttl_s": None}
"""What a kill switch clears: nothing may explore on, and nothing may begin again by itself."""


class Wish(Struct, kw_only=True):
    """A wished change of a control document.

    Attributes
    ----------
    given
        Settings to change; all others stay as they are.
    principal
        Who asks, as the entrance knows them.
    changed_by, why, forced
        Who they say it was, why, and whether the bounds of steps are set aside.
    restores
        The version whose settings shall come back instead; 0 for the defaults.
    is_stop
        Whether it holds whatever is in force by the time it arrives.
    event_id
        Id of the change; empty for a new one. The same is never made twice.
    """

    given: dict[str, Any] = field(default_factory=dict)
    principal: str = ""
    changed_by: str = ""
    why: str = ""
    forced: bool = False
    restores: int | None = None
    is_stop: bool = False
    event_id: str = ""


def stop(scheme: str, changed_by: str, why: str) -> Wish:
    """Return the kill switch: nothing is explored from now on."""
    given = {"scheme": scheme, **STOPPED}
    return Wish(given=given, changed_by=changed_by, why=why or "stopped", is_stop=True)


def now_in_force(document: Document, at_ms: int) -> Document:
    """Return what is in force of a document at a time."""
    return in_force(document, at_ms) if isinstance(document, Explorations) else document


def change_event(name: str, latest: Document, wish: Wish, at_ms: int, dwell_ms: int) -> Control:
    """Return the control event that turns the document in force into the wished one.

    Parameters
    ----------
    name
        Of the document, such as ``exploration/home``.
    latest
        The document last said.
    wish
        What shall become of it.
    at_ms, dwell_ms
        When, and how long after the change before it may come.

    Raises
    ------
    Refusal
        If nothing is changed, a setting cannot be, or the change explores too much more at once or too soon.
    """
    now = now_in_force(latest, at_ms)
    document: dict[str, Any] = {}
    if wish.restores is None:
        if not wish.given:
            wished = f"at least one of {', '.join(settings_of(now))}"
            raise Refusal("nothing_to_change", "document", None, wished)
        lasting = {"ttl_s": None} if isinstance(now, Explorations) else {}
        document = {**settings_of(now), **lasting, **wish.given}
        _check(name, now, document, wish, at_ms, dwell_ms)
    return Control(
        event_id=wish.event_id or uuid.uuid4().hex,
        occurred_at=at_ms,
        name=name,
        document=document,
        changed_by=wish.changed_by,
        why=wish.why,
        expects=None if wish.is_stop else now.version,
        forced=wish.forced,
        restores=wish.restores,
        principal=wish.principal,
    )


def _check(name: str, now: Document, document: dict[str, Any], wish: Wish, at_ms: int, dwell_ms: int) -> None:
    wished = read_document(name, document)
    if wish.forced and not wish.why.strip():
        raise Refusal("no_reason", "why", wish.why, "why the bounds of steps are set aside")
    if isinstance(now, Explorations) and isinstance(wished, Explorations):
        check_depth(wished, now)
        if not wish.forced:
            check_step(now, wished, at_ms, dwell_ms)


def check_kept(name: str, wish: Wish, kept: Sequence[Document]) -> None:
    """Refuse to bring back what is no longer kept; the defaults, version 0, always are.

    Raises
    ------
    Refusal
        Naming the versions that are.
    """
    versions = [one.version for one in kept]
    if wish.restores and wish.restores not in versions:
        known = (
            f"{min(versions)} to {max(versions)}, or 0 for the defaults" if versions else "0, the defaults"
        )
        raise Refusal(
            "unknown_version", "restores", wish.restores, f"a version of {name} still kept: {known}"
        )
