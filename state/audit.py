"""The audit record: every change of a control document that was asked for, and what became of it."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from state.decoding import shorten
from state.events import Control
from state.exploration import Document, settings_of
from state.keys import CONTROL, audit_key, counters_key, unit_prefix
from state.retention import AUDIT_CAP
from state.settings import Settings

COUNTER = "control.audited"
LONGEST_VALUE = 200
_READ_AT_ONCE = 1_000


class AuditEntry(Struct, kw_only=True, omit_defaults=True):
    """One change that was asked for.

    Attributes
    ----------
    number, at
        Counted from 1 on, and event time of the change, ms.
    name
        Of the document, such as ``exploration/home``.
    principal
        Who asked, as the entrance knew them: ``key:NAME``, ``open`` of a server without keys,
        ``command:USER``, ``guardrail``; empty where the change came to Kafka another way.
    changed_by, why, forced, restores
        As the change said.
    before, after
        Version in force before, and the version made; 0 where it was refused.
    refused
        Reason of the refusal; empty where the change is in force.
    changes
        Setting -> its value before and after, as JSON, cut where long.
    change
        Id of the control event.
    """

    number: int
    at: int
    name: str
    principal: str = ""
    changed_by: str = ""
    why: str = ""
    forced: bool = False
    restores: int | None = None
    before: int = 0
    after: int = 0
    refused: str = ""
    changes: dict[str, tuple[str, str]] = {}
    change: str = ""


def audit_entry(number: int, event: Control, before: Document | None, made: Document | str) -> AuditEntry:
    """Return the entry of a change.

    Parameters
    ----------
    number
        Of the entry.
    event
        What was asked for.
    before
        The document in force when it came; None of a kind nobody knows.
    made
        The document that came of it, or the reason why none did.
    """
    refused = made if isinstance(made, str) else ""
    wished = event.document if isinstance(made, str) else settings_of(made)
    return AuditEntry(
        number=number,
        at=event.occurred_at,
        name=event.name,
        principal=event.principal,
        changed_by=event.changed_by,
        why=event.why,
        forced=event.forced,
        restores=event.restores,
        before=0 if before is None else before.version,
        after=0 if isinstance(made, str) else made.version,
        refused=refused,
        changes=_changes({} if before is None else settings_of(before), wished),
        change=event.event_id,
    )


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    names = [name for name in after if before.get(name) != after[name]]
    return {shorten(name)[1:-1]: (_text(before.get(name)), _text(after[name])) for name in names[:64]}


def _text(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}... ({len(text)} characters)"


def audit_field(number: int) -> str:
    """Return the field an entry is kept under."""
    return str(number)


async def read_audit(redis: Any, settings: Settings, name: str = "", limit: int = 100) -> list[AuditEntry]:
    """Return the latest entries, newest first: of documents whose names begin with ``name``."""
    prefix = unit_prefix(settings.namespace, CONTROL)
    latest = int(await redis.hget(counters_key(prefix), COUNTER) or 0)
    found: list[AuditEntry] = []
    for newest in range(latest, max(0, latest - AUDIT_CAP), -_READ_AT_ONCE):
        numbers = range(newest, max(0, newest - _READ_AT_ONCE, latest - AUDIT_CAP), -1)
        raws = await redis.hmget(audit_key(prefix), [audit_field(number) for number in numbers])
        entries = [msgspec.json.decode(raw, type=AuditEntry) for raw in raws if raw is not None]
        found += [entry for entry in entries if entry.name.startswith(name)]
        if len(found) >= limit:
            break
    return found[:limit]
